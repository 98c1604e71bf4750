"""The methods of the paper's tables, by the names of ``docs/benchmarks/tables.json``."""

from __future__ import annotations

from srh_clinic.errors import InputError
from srh_clinic.validation.bench.bench import Method

BASELINES = "phantom-baselines"
LINEAR = "phantom-linear"
UNAUGMENTED = "phantom-unaugmented"
"""Bundles of what is only compared with, outside the wheel."""

WHOLE = "rscd_ddim"
"""RSCD as it is by default: what the ablations take a part from, and what is ranked."""

OURS = ("rscd", "rscd_ddim", "rscd_mean")
"""RSCD by sampler: the paper's ancestral one, DDIM, and the deterministic mean."""

DDIM_STEPS = 50
"""Steps of conditional diffusion from pure noise; the paper runs 1,000."""

DIP_ITERATIONS, DIP_CHANNELS = 300, 32
"""Iterations and width of Deep Image Prior; the paper runs up to 3,000 of a network of 128 channels, hours a tile on a CPU."""

_DDIM = {"sampler": "ddim"}
_LINEAR = {"cap": 94, "recalibration_interval": 5, "ddim_stride": 2}
"""The defaults, counted in steps of the linear schedule of the same noise (configs/denoiser-linear.yaml)."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("input", "none"),
        Method("rscd", "rscd", {"sampler": "ancestral"}),
        Method("rscd_ddim", "rscd", _DDIM),
        Method("rscd_mean", "rscd", {"sampler": "mean"}),
        Method("median", "median", {"size": 5}),
        Method("deep_image_prior", "deep_image_prior", {"iterations": DIP_ITERATIONS, "channels": DIP_CHANNELS}),
        Method("synthetic_noise", "synthetic_noise", bundle=BASELINES),
        Method("noise2noise", "noise2noise", bundle=BASELINES),
        Method("noise2void", "noise2void", bundle=BASELINES),
        Method("cyclegan", "cyclegan", bundle=BASELINES),
        Method("conditional_diffusion", "conditional_diffusion", {"steps": DDIM_STEPS}, bundle=BASELINES),
        Method("ccdf", "ccdf"),
        Method("rrd", "rrd"),
        Method("nlm", "nlm"),
        Method("wavelet", "wavelet"),
        Method("rscd_no_recalibration", "rscd", {**_DDIM, "recalibrate": False}),
        Method("rscd_nonparametric", "rscd", {**_DDIM, "estimator": "nonparametric"}),
        Method("rscd_fixed_10", "rscd", {**_DDIM, "fixed_steps": 10}),
        Method("rscd_fixed_50", "rscd", {**_DDIM, "fixed_steps": 50}),
        Method("rscd_linear", "rscd", {**_DDIM, **_LINEAR}, bundle=LINEAR),
        Method("rscd_unaugmented", "rscd", _DDIM, bundle=UNAUGMENTED),
        Method("rscd_no_exposure", "rscd", {**_DDIM, "exposure": None}),
    )
}
"""Every row of the tables, in their order: the input, ours, baselines, ablations."""

ABLATIONS = tuple(name for name in METHODS if name.startswith("rscd_") and name not in OURS)

LEARNED = ("synthetic_noise", "noise2noise", "noise2void", "cyclegan", "conditional_diffusion", "ccdf", "rrd")
"""Baselines whose networks were trained."""

REDUCED = {
    "deep_image_prior": f"{DIP_CHANNELS} channels and {DIP_ITERATIONS} iterations, the paper's 128 and up to 3,000",
    "conditional_diffusion": f"{DDIM_STEPS} DDIM steps, the paper's 1,000",
}
"""Methods that run shorter than the paper's here, and how much."""


def chosen_methods(names: tuple[str, ...] | None) -> tuple[Method, ...]:
    """Methods by name, all when None.

    Raises
    ------
    InputError
        When a name is unknown.
    """
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise InputError(f"the methods {', '.join(unknown)}", f"methods among {', '.join(METHODS)}")
    return tuple(METHODS.values()) if names is None else tuple(METHODS[name] for name in names)
