"""Small cases and how they are treated."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_cases import run, write_cases

from srh_clinic.cohort.settings import CaseSettings


@pytest.fixture(scope="session")
def few_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three cases."""
    return write_cases(tmp_path_factory.mktemp("few") / "cases", 3)


@pytest.fixture(scope="session")
def settings(tiny_bundle: Path, workers_draw_little: None) -> CaseSettings:
    """By very small networks, and hardly a picture."""
    return CaseSettings(bundle=str(tiny_bundle), device="cpu", restoring={"precision": "float32"})


@pytest.fixture(scope="session")
def undisturbed(few_cases: Path, settings: CaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    entries = run(few_cases, out, settings, workers=1)
    assert [entry.state for entry in entries] == ["done"] * 3
    return out
