"""Options come from the call, the environment, a file or their default, in this order, and config show says from where."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import Run

from srh_clinic.cli.config import OTHERS
from srh_clinic.errors import ExitCode
from srh_clinic.integration import limits


@pytest.fixture(autouse=True)
def _no_configuration_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def shown(run: Run, *command: str, config: Path | None = None) -> dict[str, str]:
    """What config show says of each option."""
    ran = run(*(() if config is None else ("--config", config)), "config", "show", *command)
    assert ran.code == ExitCode.DONE, ran.err
    return dict(line.split(" = ", 1) for line in ran.out.splitlines())


def test_without_a_configuration_everything_is_a_default(run: Run) -> None:
    said = shown(run)
    assert said["diagnose --restorer"] == "'rscd'  (default)"
    assert said["cohort run --shard"] == "'1/1'  (default)"
    assert all(value.endswith("(default)") for value in said.values())


def test_each_option_has_its_value_from_the_first_that_gives_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = written(
        tmp_path / "config/srh-clinic/config.toml",
        'device = "cpu"\nseed = 1\n[cohort.run]\nworkers = 2\nno-identity = true\nseed = 2\n'
        "[cohort.simulate]\ndepth = [0, 50]\n",
    )
    monkeypatch.setenv("SRH_CLINIC_SEED", "3")
    monkeypatch.setenv("SRH_CLINIC_COHORT_RUN_SEED", "4")
    monkeypatch.setenv("SRH_CLINIC_DIAGNOSE_HTML", "yes")
    said = shown(run)
    assert said["diagnose --device"] == f"'cpu'  ({own})"
    assert said["cohort run --workers"] == f"2  ({own})"
    assert said["cohort run --no-identity"] == f"True  ({own})"
    assert said["cohort simulate --depth"] == f"[0, 50]  ({own})"
    assert said["diagnose --no-identity"] == "False  (default)"
    assert said["diagnose --seed"] == "'3'  (SRH_CLINIC_SEED)"
    assert said["cohort run --seed"] == "'4'  (SRH_CLINIC_COHORT_RUN_SEED)"
    assert said["diagnose --html"] == "True  (SRH_CLINIC_DIAGNOSE_HTML)"
    assert set(shown(run, "cohort", "run")) < set(shown(run, "cohort")) < set(said)
    other = written(tmp_path / "other.toml", "[diagnose]\ncertainty = 2\n")
    assert shown(run, config=other)["diagnose --certainty"] == f"2  ({other})"
    assert shown(run, config=other)["diagnose --device"] == "'auto'  (default)"
    monkeypatch.setenv("SRH_CLINIC_CONFIG", str(other))
    assert shown(run)["diagnose --certainty"] == f"2  ({other})"


def test_a_command_does_what_the_configuration_says_unless_the_call_says_otherwise(run: Run, tmp_path: Path) -> None:
    config = written(tmp_path / "c.toml", '[simulate]\nsize = 128\nlayout = "tiff"\n')
    assert run("--config", config, "simulate", "a.tif").code == ExitCode.DONE
    assert run("--config", config, "simulate", "b.tif", "--size", 256).code == ExitCode.DONE
    assert Path("b.tif").stat().st_size > 3 * Path("a.tif").stat().st_size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[diagnos]\nseed = 1\n", "found [diagnos]"),
        ("[diagnose]\nsede = 1\n", "found the option diagnose.sede"),
        ("sede = 1\n", "found the option sede"),
        ('[diagnose]\nseed = "many"\n', "found 'many' for diagnose --seed"),
        ("[diagnose]\nseed = -1\n", "found -1 for diagnose --seed"),
        ("[diagnose]\nseed = [1]\n", "needed one value"),
        ("[diagnose]\nhtml = 1\n", "needed true or false"),
        ("[cohort.simulate]\ndepth = 1\n", "needed a list"),
        ("no toml at all\n", "a configuration that cannot be read"),
    ],
)
def test_what_no_command_takes_is_refused_with_the_file(run: Run, tmp_path: Path, text: str, said: str) -> None:
    config = written(tmp_path / "c.toml", text)
    ran = run("--config", config, "doctor")
    assert ran.code == ExitCode.INPUT
    assert said in ran.err
    assert "c.toml" in ran.err


def test_variables_that_no_command_knows_are_refused_and_a_file_that_is_not_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "found no such file" in run("--config", "nothing.toml", "doctor").err
    assert limits.VARIABLE in OTHERS
    monkeypatch.setenv(limits.VARIABLE, "slide_mm=300")
    assert run("config", "show", "doctor").code == ExitCode.INPUT  # it has no option
    monkeypatch.setenv("SRH_CLINIC_DIAGNOSE_SEED", "many")
    assert "found 'many' for diagnose --seed" in run("config", "show").err
    monkeypatch.setenv("SRH_CLINIC_DIAGNOSE_SEED", "5")
    monkeypatch.setenv("SRH_CLINIC_DIAGNOSE_SEDE", "5")
    assert "SRH_CLINIC_DIAGNOSE_SEDE" in run("config", "show").err
