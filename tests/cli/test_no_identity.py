"""``diagnose --no-identity`` tells nothing of whom the slide shows, in no byte of anything that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from calling import Run
from planted import PLANTED, leaked, plant

from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.cohort.work import do_case
from srh_clinic.errors import ExitCode
from srh_clinic.integration import write_wsi
from srh_clinic.progress import silent
from srh_clinic.slide import ArraySlide, Identity


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A slide whose header, file name and folder name somebody."""
    counts = np.random.default_rng(0).integers(8_000, 20_000, (2, 300, 420), dtype=np.uint16)
    for file in write_wsi(ArraySlide(counts, 0.47, Identity("P", "S")), tmp_path / "zimmerqvist-case"):
        plant(file)
    return tmp_path / "zimmerqvist-case"


def test_no_planted_identifier_is_in_any_byte(run: Run, named: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    options = ("--bundle", tiny_bundle, "--restorer", "median", "--html", "--qupath", "--fhir", "--json")
    ran = run("diagnose", named, "--out", "out", "--dicom-out", "dicom", "--no-identity", *options)
    assert ran.code == ExitCode.DONE
    files = [*(tmp_path / "out").iterdir(), *(tmp_path / "dicom").iterdir()]
    assert {"result.json", "case.html", "qupath.geojson", "patches.csv", "fhir.json", "report.dcm"} <= {
        file.name for file in files
    }
    assert leaked(files) == []
    assert "zimmerqvist" not in (ran.out + ran.err).lower()
    assert not [value for value in PLANTED.values() if value in ran.out + ran.err]
    report = pydicom.dcmread(tmp_path / "dicom" / "report.dcm")
    assert (report.PatientID, report.PatientIdentityRemoved) == ("", "YES")
    assert json.loads(ran.out)["case"]["patient_id"] is None


def test_no_planted_identifier_is_in_any_byte_of_a_cohorts_case(named: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    asked = dict.fromkeys(("page", "qupath", "fhir", "dicom"), True)
    settings = CaseSettings(bundle=str(tiny_bundle), restorer="median", device="cpu", identity=False, **asked)
    do_case(settings.pipeline(), settings, tmp_path / "run", "case-1", (str(named),), silent)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"result.json", "case.html", "qupath.geojson", "fhir.json", "report.dcm"} <= {file.name for file in files}
    assert leaked(files) == []


def test_no_planted_identifier_is_in_any_byte_of_a_judgement(run: Run, named: Path, tmp_path: Path) -> None:
    ran = run("judge", named, "--out", "judged", "--restorer", "median", "--tiles", 1, "--no-identity", "--json")
    assert ran.code == ExitCode.DONE
    files = [file for file in (tmp_path / "judged").rglob("*") if file.is_file()]
    assert files
    assert leaked(files) == []
    assert "zimmerqvist" not in (ran.out + ran.err).lower()
    assert not [value for value in PLANTED.values() if value in ran.out + ran.err]


def test_with_identity_the_same_words_are_found(run: Run, named: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    options = ("--bundle", tiny_bundle, "--restorer", "median", "--json")
    assert run("diagnose", named, "--out", "out", "--dicom-out", "dicom", *options).code == ExitCode.DONE
    assert "MRN-7781-Q" in leaked([tmp_path / "dicom" / "report.dcm"])


def test_convert_takes_secret_and_shift_with_deidentify_alone(run: Run, named: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    refused = run("convert", named, "a.dcm", "--secret", "secret")
    assert (refused.code, "--deidentify with it" in refused.err) == (ExitCode.INPUT, True)
    options = ("--deidentify", "--secret", "secret", "--shift-dates", -30)
    assert run("convert", named, "a.dcm", *options).code == run("convert", named, "b.dcm", *options).code == ExitCode.DONE
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert leaked([tmp_path / "a.dcm"]) == []
