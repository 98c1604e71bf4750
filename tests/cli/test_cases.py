"""Commands on cases: what they print, what they exit with, and what they leave on the disk."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tifffile
from calling import Run, left_behind

from srh_clinic.errors import ExitCode
from srh_clinic.integration import read_slide
from srh_clinic.tiling import TileStore

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))


def test_json_is_one_object_on_stdout_and_nothing_else(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("diagnose", *call_of_case, "--json")
    assert ran.code == ExitCode.DONE
    result = json.loads(ran.out)
    jsonschema.validate(result, SCHEMA)
    assert result["tiles"] == {"total": 4, "restored": 4, "skipped": 0, "capped": 0}
    assert result["steps"]["stop_reasons"] == {"single-round": 4}
    assert result["steps"]["median"] == 9
    assert result["provenance"]["bundle"] == "tiny"
    assert "restoring" in ran.err
    assert left_behind(tmp_path) == []


def test_strict_exits_with_three_when_flagged(
    run: Run, call_of_case: tuple[object, ...], case: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = run("diagnose", *call_of_case, "--restorer", "none", "--json", "--strict")
    (doubt,) = json.loads(doubtful.out)["doubts"]
    assert doubt == "unsure: over the patches the probability of normal is 0.40 in the mean, near even"
    assert doubtful.code == ExitCode.FLAGGED
    monkeypatch.setattr("srh_clinic.case.flags.SURE", 0.0)  # the networks are untrained: they are sure of nothing
    monkeypatch.setattr("srh_clinic.case.flags.FEW_PATCHES", 0)
    plain = run("diagnose", *call_of_case, "--restorer", "none", "--json", "--strict")
    assert json.loads(plain.out)["flags"] == []
    assert plain.code == ExitCode.DONE
    noted = run("diagnose", case, "--um-per-px", 0.42, *call_of_case[3:], "--restorer", "none", "--json", "--strict")
    said = json.loads(noted.out)
    assert (said["warnings"], said["doubts"], noted.code) == ([], [], ExitCode.DONE)
    assert (
        said["notes"]
        == said["flags"]
        == ["resampled: from 0.42 to 0.47 um per pixel, the size that the networks were trained at"]
    )
    other_size = ("--um-per-px", 0.35, "--full-scale", 65536, "--bundle", tiny_bundle)
    flagged = run("diagnose", case, *other_size, "--restorer", "none", "--json", "--strict")
    assert json.loads(flagged.out)["flags"] == [
        "resampled: from 0.35 to 0.47 um per pixel, the size that the networks were trained at",
        "small: the slide is smaller than the 256 pixels that the classifier looks at",  # 300 of 0.35 um are 223 of 0.47
    ]
    assert flagged.code == ExitCode.FLAGGED


def test_restore_writes_a_derived_slide(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("restore", *call_of_case[:1], "restored.dcm", *call_of_case[1:], "--restorer", "median")
    assert ran.code == ExitCode.DONE
    assert ran.out.split() == ["restored.dcm"]
    restored = read_slide(tmp_path / "restored.dcm")
    original = read_slide(str(call_of_case[0]), um_per_px=0.47, full_scale=65536)
    assert restored.shape == original.shape
    whole = (0, 0, *restored.shape)
    assert restored.read(*whole).std() < 0.5 * original.read(*whole).std()
    assert left_behind(tmp_path) == ["restored.dcm"]


def test_diagnose_writes_the_same_restored_slide(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    run("restore", *call_of_case[:1], "one.dcm", *call_of_case[1:])
    assert run("diagnose", *call_of_case, "--json", "--dicom-out", "two.dcm").code == ExitCode.DONE
    one, two = (read_slide(tmp_path / name) for name in ("one.dcm", "two.dcm"))
    np.testing.assert_array_equal(one.read(0, 0, *one.shape), two.read(0, 0, *two.shape))


def test_a_preview_is_told_on_stderr_and_leaves_nothing_behind(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path
) -> None:
    plain = run("diagnose", *call_of_case, "--out", "plain")
    shown = run("diagnose", *call_of_case, "--out", "shown", "--preview")
    assert plain.code == shown.code == ExitCode.DONE
    assert "preview: as scanned" in shown.err
    assert "preview" not in plain.err + shown.out
    assert left_behind(tmp_path / "shown") == left_behind(tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "shown"]
    one, other = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("plain", "shown"))
    assert one | {"timing": None, "made": None} == other | {"timing": None, "made": None}


def test_simulated_cases_are_read_back(run: Run, tmp_path: Path) -> None:
    assert run("simulate", "case", "--size", 128, "--quality", 0.9, "--seed", 4).code == ExitCode.DONE
    slide = read_slide(tmp_path / "case")
    assert slide.shape == (128, 128)
    assert slide.um_per_px == pytest.approx(0.47)
    assert slide.identity.patient_id == "PHANTOM"


def test_convert_makes_dicom_of_a_tiff(run: Run, case: Path, tmp_path: Path) -> None:
    ran = run("convert", case, "case.dcm", "--um-per-px", 0.35, "--full-scale", 65536)
    assert ran.code == ExitCode.DONE
    np.testing.assert_array_equal(read_slide(tmp_path / "case.dcm").read(0, 0, 300, 420), tifffile.imread(case))


def broken(folder: Path) -> dict[str, Path]:
    """Inputs that are no case."""
    paths = {
        name: folder / name for name in ("text.txt", "empty.dcm", "folder", "truncated.tif", "one_channel.tif", "missing")
    }
    paths["text.txt"].write_text("not a slide")
    paths["empty.dcm"].touch()
    paths["folder"].mkdir()
    tifffile.imwrite(folder / "whole.tif", np.zeros((2, 64, 64), np.uint16))
    paths["truncated.tif"].write_bytes((folder / "whole.tif").read_bytes()[:2_000])
    tifffile.imwrite(paths["one_channel.tif"], np.zeros((64, 64), np.uint16))
    return paths


@pytest.mark.parametrize("name", ["text.txt", "empty.dcm", "folder", "truncated.tif", "one_channel.tif", "missing"])
def test_what_is_no_case_gets_one_sentence(run: Run, tmp_path: Path, name: str, tiny_bundle: Path) -> None:
    path = broken(tmp_path)[name]
    before = left_behind(tmp_path)
    call = ("--out", "out", "--um-per-px", 0.47, "--full-scale", 65536, "--bundle", tiny_bundle, "--restorer", "none")
    ran = run("diagnose", path, *call)
    assert ran.code == ExitCode.INPUT
    assert ran.out == ""
    sentence = ran.err.strip().splitlines()[-1]
    assert sentence.startswith("srh-clinic: ")
    assert name in sentence
    assert "found" in sentence
    assert "needed" in sentence
    assert "Traceback" not in ran.err
    assert left_behind(tmp_path) == before


@pytest.mark.parametrize(
    "call",
    [
        ("diagnose", ""),
        ("diagnose", "case.dcm", "--out", ""),
        ("diagnose", "case.dcm", "--ch3", ""),
        ("restore", "", "out.dcm", "--restorer", "nlm"),
        ("convert", "", "out.dcm"),
        ("convert", "case.dcm", ""),
        ("validate", "", "--out", "out"),
    ],
    ids=" ".join,
)
def test_an_empty_name_is_not_the_working_folder(
    run: Run, call: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a variable that is not set: the case that happens to lie there would be diagnosed."""
    assert run("simulate", tmp_path / "case.dcm", "--size", 300).code == ExitCode.DONE
    monkeypatch.chdir(tmp_path)
    refused = run(*call)
    assert refused.code == ExitCode.INPUT
    assert "found an empty name" in refused.err
    assert left_behind(tmp_path) == ["case.dcm"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--restorer", "magic"), "rscd, none, median, gaussian, nlm"),
        (("--restorer", "median", "--sampler", "ddim"), "'sampler' for the restorer 'median'"),
        (("--sampler", "fast"), "'direct', 'ddim', 'ancestral' or 'mean'"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_wrong_settings_name_the_right_ones(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    ran = run("diagnose", *call_of_case, *options)
    assert ran.code == ExitCode.INPUT
    assert words in ran.err
    assert left_behind(tmp_path) == []


def test_a_place_that_may_not_be_written_is_refused_before_the_work(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("a file in the way")
    monkeypatch.setattr(TileStore, "put", lambda *_: pytest.fail("work was done"))
    ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
    assert ran.code == ExitCode.INPUT
    assert "found a file; needed a folder's name" in ran.err


def test_a_place_below_a_file_is_refused_before_the_work(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan.dcm").write_text("a file")
    monkeypatch.setattr(TileStore, "put", lambda *_: pytest.fail("work was done"))
    for option in (("--out", "scan.dcm/out"), ("--json", "--dicom-out", "scan.dcm/out.dcm")):
        ran = run("diagnose", *call_of_case, *option, "--restorer", "none")
        assert ran.code == ExitCode.INPUT
        assert "scan.dcm: found a file; needed a folder to put" in ran.err.replace("\n", " ")


def test_results_may_go_into_the_working_folder(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("stays")
    assert run("diagnose", *call_of_case, "--out", ".", "--restorer", "none").code == ExitCode.DONE
    assert {"mine.txt", "result.json", "summary.png"} <= set(left_behind(tmp_path))
    assert not [*tmp_path.rglob(".*partial*"), *tmp_path.parent.glob(".*partial*")]  # in it, and beside it


@pytest.mark.parametrize("layout", ["case.dcm", "case"])
def test_a_scan_is_never_replaced_by_its_restoration(
    run: Run, case: Path, tiny_bundle: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("convert", case, layout, "--um-per-px", 0.47, "--full-scale", 65536).code == ExitCode.DONE
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    monkeypatch.setattr(TileStore, "put", lambda *_: pytest.fail("work was done"))
    options = ("--bundle", tiny_bundle, "--restorer", "none")
    for call in (("restore", layout, layout, *options), ("diagnose", layout, "--json", "--dicom-out", layout, *options)):
        ran = run(*call)
        assert ran.code == ExitCode.INPUT
        assert "found a file that the slide is read from" in ran.err.replace("\n", " ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")} == before


def test_a_device_that_gives_nothing_back_is_refused(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("diagnose", *call_of_case, "--json", "--device", "meta")
    assert ran.code == ExitCode.INPUT
    assert "found the device 'meta'" in ran.err
