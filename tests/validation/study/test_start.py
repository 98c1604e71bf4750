"""A study is served, checked, unblinded and analysed without the networks' libraries: the commands answer at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import build, no_power

from srh_clinic.validation import rehearse_study, unblind
from srh_clinic.validation.study import export

NETWORKS_AND_DICOM = {"torch", "torchvision", "monai", "timm", "pydicom", "highdicom"}
STATISTICS = {"scipy", "sklearn", "pandas", "statsmodels", "matplotlib"}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that simulated raters answered, and that is unblinded."""
    study = tmp_path_factory.mktemp("answered") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "sample_size", no_power)
        build(study)
    rehearse_study(study)
    unblind(study)
    return study


@pytest.mark.parametrize(
    ("command", "says", "idle"),
    [
        (["check"], "no leak", NETWORKS_AND_DICOM),
        (["serve", "--port", "0"], "this machine only", NETWORKS_AND_DICOM | STATISTICS),
        (["unblind"], "answers of 4 raters", NETWORKS_AND_DICOM | STATISTICS),
        (["analyse"], "analysis.html", NETWORKS_AND_DICOM),
    ],
)
def test_a_command_loads_no_library_that_it_does_not_need(
    command: list[str], says: str, idle: set[str], answered: Path, tmp_path: Path
) -> None:
    study = shutil.copytree(answered, tmp_path / "study")
    code = (
        "import sys\n"
        "from srh_clinic.cli.app import main\n"
        "from srh_clinic.validation.study.serve import StudyServer\n"
        "StudyServer.wait = lambda self: None\n"
        f"sys.argv = ['srh-clinic', 'study', {command[0]!r}, {str(study)!r}, *{command[1:]!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"loaded = {idle!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
