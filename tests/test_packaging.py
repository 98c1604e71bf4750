"""What operators install: the container's recipe, the unit of systemd, and the wheelhouse that both come from."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srh_clinic.cli.app import app
from srh_clinic.cohort.crew import TO_END

ROOT = Path(__file__).resolve().parents[1]
RECIPE = (ROOT / "Containerfile").read_text(encoding="utf-8")
UNIT = ROOT / "packaging/srh-clinic.service"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
INSTALLED = "/opt/srh-clinic/bin/srh-clinic"


def instructions() -> list[tuple[str, str]]:
    """The recipe's instructions, continued lines as one."""
    lines = [line for line in RECIPE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def require_a_call_of_ours(words: list[str]) -> None:
    """That ``srh-clinic`` knows a command and the options that it is called with."""
    said = CliRunner().invoke(
        app, [*(word for word in words if not word.startswith("--config") and ".toml" not in word), "--help"]
    )
    assert said.exit_code == 0, said.output
    assert all(word in said.output for word in words if word.startswith("--") and word != "--config")


def test_the_container_needs_no_network_no_privilege_and_a_base_of_one_version() -> None:
    made = instructions()
    (base,) = (value.partition("=")[2] for name, value in made if name == "ARG")
    assert re.fullmatch(r"[a-z./]+/python:3\.\d+\.\d+-[a-z-]+", base)
    assert [value.split()[0] for name, value in made if name == "FROM"] == ["${BASE}"] * 2
    runs = [value for name, value in made if name == "RUN"]
    assert all("--no-index" in run for run in runs if "pip install" in run)
    assert not re.search(r"apt|curl|wget|git |https?:", " ".join(runs))
    assert next(value for name, value in made if name == "COPY").split() == ["wheelhouse", "/wheelhouse"]
    assert (ROOT / ".containerignore").read_text().split() == ["*", "!wheelhouse"]
    user = next(at for at, (name, value) in enumerate(made) if name == "USER" and not value.startswith(("0", "root")))
    assert user > max(at for at, (name, _) in enumerate(made) if name in ("RUN", "COPY"))
    (health,) = (value for name, value in made if name == "HEALTHCHECK")
    words = re.findall(r'"([^"]+)"', health.partition("CMD")[2])
    assert words[0] == "srh-clinic"
    require_a_call_of_ours(words[1:])


def test_recipe_and_wheelhouse_hold_the_same_extras_for_the_same_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"^EXTRAS := (.*)$", MAKEFILE, re.MULTILINE)
    assert re.findall(r"srh-clinic\[([\w,-]+)\]", RECIPE) == [extras]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (minor,) = re.findall(r"python:3\.(\d+)", RECIPE)
    assert int(minor) >= int(project["requires-python"].removeprefix(">=3."))
    for target in ("wheelhouse", "check-wheelhouse"):
        assert f"\n{target}:" in MAKEFILE


def settings_of_the_unit() -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(UNIT)
    assert set(parsed) - {"DEFAULT"} == {"Unit", "Service", "Install"}
    return parsed["Service"]


def test_the_unit_calls_what_there_is_and_leaves_time_to_park_a_case() -> None:
    service = settings_of_the_unit()
    words = shlex.split(service["ExecStart"])
    assert words[0] == INSTALLED
    require_a_call_of_ours([word for word in words[1:] if not word.startswith("/")])
    assert float(service["TimeoutStopSec"]) >= TO_END + 10
    assert service["KillMode"] == "mixed"
    assert service["User"] not in ("", "root")
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze; the unit was read and its call tried alone")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(INSTALLED, "/bin/true"))
    ran = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
