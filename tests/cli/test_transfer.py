"""``pacs push`` and ``pacs fetch`` end with 0 when all is there, name what is not, and say no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import Run
from many_cases import CANARY, write_cases
from ups_server import Archive, serving

from srh_clinic.cohort.cases import list_cases
from srh_clinic.errors import ExitCode
from srh_clinic.integration import read_slide
from srh_clinic.pacs.objects import objects_in

SECRET = "s3cret"  # noqa: S105


def test_a_case_goes_there_and_comes_back_as_a_folder_of_cases(run: Run, tmp_path: Path) -> None:
    cases, archive = write_cases(tmp_path / "cases", 2), Archive()
    objects = objects_in([cases])
    with serving(archive) as url:
        pushed = run("pacs", "push", cases, "--to", url)
        assert (pushed.code, pushed.out) == (ExitCode.DONE, f"{len(objects)} objects are there.\n")
        archive.refuse = {objects[1].instance.sop: 0x0122}
        refused = run("pacs", "push", cases, "--to", url)
        assert refused.code == ExitCode.INPUT
        assert f"{objects[1].path}: SOP class not supported (0x0122)" in refused.err
        assert f"found {len(objects) - 1} of {len(objects)} objects there" in refused.err
        study = objects[0].instance.study
        fetched = run("pacs", "fetch", "--from", url, "--study", study, "--out", tmp_path / "out")
        assert fetched.code == ExitCode.DONE
        archive.withhold = {objects[0].instance.sop}
        missing = run("pacs", "fetch", "--from", url, "--study", study, "--out", tmp_path / "again")
        assert missing.code == ExitCode.INPUT
        assert "found 0 of the 1 objects that the archive announced" in missing.err
    (case,) = list_cases(tmp_path / "out")
    assert str(case.source[0]) == fetched.out.strip()
    assert read_slide(case.source[0]).identity.patient_id == f"{CANARY}-patient-0"
    assert CANARY not in fetched.out + fetched.err


def test_a_secret_is_shown_by_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SRH_CLINIC_PACS_TOKEN", SECRET)
    monkeypatch.setenv("SRH_CLINIC_PACS_PUSH_TO", f"https://reader:{SECRET}@pacs.example/dicom-web")
    case = write_cases(tmp_path / "cases", 1)
    monkeypatch.setenv("SRH_CLINIC_PACS_FETCH_FROM", f"https://pacs.example/dicom-web?token={SECRET}")
    shown = run("config", "show", "pacs")
    assert SECRET not in shown.out + shown.err
    assert shown.code == ExitCode.DONE
    assert "pacs push --to = 'https://...@pacs.example/dicom-web'" in shown.out
    refused = run("pacs", "push", case)
    assert refused.code == ExitCode.INPUT
    assert "a user or a password in a URL" in refused.err
    plain = run("pacs", "push", case, "--to", "http://pacs.example/dicom-web")
    assert plain.code == ExitCode.INPUT
    assert "plain http" in plain.err
    assert SECRET not in "".join(ran.out + ran.err for ran in (shown, refused, plain))
