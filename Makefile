# make demo       install, simulate a degraded tumor case, restore and classify it
# make test       install as a user gets it, then ruff, mypy and pytest
# make kill       200 kills at random moments, and what the same calls make of it (minutes)
# make kill-workers  200 cases whose workers are killed every few seconds, here, in shards and on Dask: each done once, the same bytes
# make orthanc    push, fetch and a worklist against a real Orthanc (Debian: orthanc, orthanc-dicomweb), alone with it (minutes)
# make kill-listener  10 cases arrive while the listener is killed 20 times: each done once, nothing lost (minutes)
# make kill-performer  10 workitems arrive while the performer is killed 20 times: each claimed, done and ended once (minutes)
# make roundtrip  cases from Debian's Orthanc and storescu to results in Orthanc, and how long it takes beside diagnose (minutes)
# make two-workers   16 cases by one worker and by two, and what their ledger takes
# make wheelhouse    srh-clinic and all that it needs as wheels for this Python, to install where there is no network
# make check-wheelhouse  what the Containerfile does, in a new environment here: installed from the wheelhouse alone
# make full-width an official checkpoint of full width, with random weights, imported and a tile restored through all its steps
#                 (two minutes and 6 GB; EDGE=256 takes sixteen times as long)
# make benchmark  speed and memory of the restoration on this machine
# make benchmark-writing  what the whole set of results costs beside a diagnosis
# make benchmark-slide    whole slides beside an earlier build and a naive loop (half an hour)
# make fuzz       FILES=200000 mutated files read in worker processes: each is read, or refused in a sentence
# make train      the demonstration weights, from simulated tissue (hours)
#
# One environment serves all: the active one (venv or conda) when torch is in it, else ./.venv. When python3 itself has torch,
# ./.venv borrows it. Needs Python 3.11 or newer, pip and make.

SHELL := /bin/bash
PYTHON3 ?= python3

has_torch = $(shell "$(1)" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("torch") and sys.version_info >= (3, 11)))' 2>/dev/null && echo yes)
active := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX))
ENV := $(if $(and $(active),$(call has_torch,$(active)/bin/python)),$(active),$(CURDIR)/.venv)
PYTHON := $(ENV)/bin/python
SRH := $(ENV)/bin/srh-clinic
DEPENDENCIES := $(ENV)/.srh-clinic-dependencies
PIP := "$(PYTHON)" -m pip install --disable-pip-version-check

.PHONY: demo test kill kill-workers kill-listener kill-performer orthanc roundtrip two-workers wheelhouse check-wheelhouse fuzz full-width benchmark benchmark-slide train install clean

$(PYTHON):
	@"$(PYTHON3)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "srh-clinic needs Python 3.11 or newer; '$(PYTHON3)' is $$("$(PYTHON3)" --version 2>&1). Name another: make PYTHON3=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON3)" -m venv $(if $(call has_torch,$(PYTHON3)),--system-site-packages) "$(ENV)"

# torch and torchvision come from one pip call, so that they match; a torch that is there already is kept as it is.
$(DEPENDENCIES): pyproject.toml | $(PYTHON)
	@echo "Installing what srh-clinic needs into $(ENV)."
	@echo "With the default torch wheels that is about 6 GB and takes some minutes; a torch that is already there is kept."
	@"$(PYTHON)" -c 'from importlib import metadata as m; print("".join(f"{d.name}=={d.version}\n" for d in m.distributions() if d.name in ("torch", "torchvision")), end="")' > "$@.keep"
	rm -rf build
	$(PIP) --constraint "$@.keep" torch torchvision 'setuptools>=77' '.[dev]'
	@rm "$@.keep"; touch "$@"

# The package itself is built anew each time: a stale copy would be tested in its place.
install: $(DEPENDENCIES)
	@rm -rf build
	@$(PIP) --quiet --no-deps --no-build-isolation --force-reinstall .

demo: install
	@rm -rf demo
	"$(SRH)" simulate demo/case --diagnosis tumor --quality 0.3 --size 1024 --seed 1
	"$(SRH)" diagnose demo/case --out demo/result

# From tests/, because Python started in the root would find the folder srh_clinic/ there instead of what is installed. Three workers of
# one thread each, and types meanwhile: tests that wait for a browser or another process leave a core idle. pytest looks for no plugins,
# because it rewrites every module of the packages that bring one; what a worker has rewritten of ours is kept for the others.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$(PYTHON)" -m pytest -p xdist.plugin
test: install
	"$(PYTHON)" -m ruff check .
	"$(PYTHON)" -m ruff format --check .
	cd tests && { "$(PYTHON)" -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p srh_clinic & types=$$!; \
		$(PYTEST) -n 3 --dist worksteal; tests=$$?; wait $$types && exit $$tests; }

FILES ?= 20000
fuzz: install
	cd tests && "$(PYTHON)" fuzz/fuzz.py $(FILES)

KILLS ?= 200

kill: install
	cd tests && OMP_NUM_THREADS=1 "$(PYTHON)" killing.py --kills $(KILLS)

kill-workers: install
	cd tests && OMP_NUM_THREADS=1 "$(PYTHON)" killing_workers.py

# Debian's Orthanc listens at every address: in a network namespace of its own there is none but loopback.
orthanc: install
	cd tests/pacs && unshare --map-root-user --net sh -c 'ip link set lo up && OMP_NUM_THREADS=2 "$$0" against_orthanc.py' "$(PYTHON)"

kill-listener: install
	cd tests && OMP_NUM_THREADS=1 "$(PYTHON)" killing_listener.py

kill-performer: install
	cd tests && OMP_NUM_THREADS=1 "$(PYTHON)" killing_performer.py

roundtrip: install
	cd tests && "$(PYTHON)" pacs/orthanc_roundtrip.py

two-workers: install
	cd tests && OMP_NUM_THREADS=1 "$(PYTHON)" killing_workers.py --ratio 16 --edge 300

EXTRAS := cluster,pacs

wheelhouse: $(PYTHON)
	rm -rf build wheelhouse
	"$(PYTHON)" -m pip wheel --disable-pip-version-check --wheel-dir wheelhouse '.[$(EXTRAS)]'
	cd wheelhouse && sha256sum *.whl > SHA256SUMS

check-wheelhouse:
	cd wheelhouse && sha256sum --check --quiet SHA256SUMS
	"$(PYTHON3)" -m venv --clear build/offline
	PIP_CONFIG_FILE=/dev/null build/offline/bin/pip --isolated install --disable-pip-version-check --no-cache-dir --no-index \
	  --find-links wheelhouse 'srh-clinic[$(EXTRAS)]'
	build/offline/bin/srh-clinic doctor
	rm -rf build/offline

EDGE ?= 64

full-width: install
	cd tests && SRH_FULL_WIDTH=$(EDGE) "$(PYTHON)" -m pytest -s -k full_width restorers/test_official.py

benchmark: install
	"$(SRH)" benchmark speed

benchmark-slide: install
	"$(SRH)" benchmark slide --out docs/benchmarks

# What DICOM, OME-TIFF, QuPath and FHIR cost beside the diagnosis of a slide of 6,000 px.
.PHONY: benchmark-writing
benchmark-writing: install
	"$(SRH)" benchmark writing

train: install
	"$(SRH)" train denoiser --data phantom --out runs/phantom-white
	"$(SRH)" train denoiser --config denoiser-structured --start-from runs/phantom-white --data phantom --out runs/phantom-demo
	"$(SRH)" train calibrator --data phantom --out runs/phantom-demo
	"$(SRH)" train classifier --data phantom --out runs/phantom-demo
	"$(SRH)" bundle calibrate runs/phantom-demo --work runs/guards

clean:
	rm -rf build demo wheelhouse .mypy_cache .ruff_cache .pytest_cache .hypothesis
