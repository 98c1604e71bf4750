"""What a call is told: wrong names, what the installation lacks, and defects of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from calling import Run, left_behind

from srh_clinic.errors import ExitCode
from srh_clinic.health import check_health


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("simulate", "x.dcm", "--diagnosis", "glioma"), "tumor, normal, nondiagnostic or mixed"),
        (("simulate", "x.dcm", "--quality", 2), "from 0 (worst) to 1 (clean)"),
        (("train", "generator", "--out", "x"), "denoiser, calibrator, classifier"),
        (("bundle", "show", "none-such"), "none-such"),
        (("benchmark", "protocol", "beauty"), "restoration, calibrator, classifier, seams, real"),
    ],
)
def test_wrong_calls_name_what_is_right(run: Run, tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    ran = run(*arguments)
    assert ran.code == ExitCode.INPUT
    assert words in ran.err
    assert left_behind(tmp_path) == []


def test_doctor_says_how_to_get_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    checks = {check.name: check for check in check_health()}
    assert checks["torch"].good
    assert not checks["timm"].good
    assert checks["timm"].remedy == "pip install timm"
    ran = run("doctor")
    assert ran.code == ExitCode.INPUT
    assert "pip install timm" in ran.out


def test_a_defect_of_ours_is_not_told_as_the_user_s(
    run: Run, call_of_case: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.case.workflow.diagnose_into", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("diagnose", *call_of_case, "--json", "--restorer", "none")
