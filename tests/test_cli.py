"""The command line: what it prints, what it exits with, and what it leaves on the disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tifffile

from srh_clinic.bundles import load_bundle, update_bundle
from srh_clinic.case.result import CaseResult
from srh_clinic.cli.app import main
from srh_clinic.errors import ExitCode
from srh_clinic.health import check_health
from srh_clinic.integration import read_slide
from srh_clinic.tiling import TileStore

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Ran:
    """What a call did."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Calls the command line in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["srh-clinic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Ran(int(stop.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small two-channel TIFF of noisy texture with its pixel size."""
    rng = np.random.default_rng(0)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, 300, 420)), 0, 65_535).astype(np.uint16)
    path = tmp_path_factory.mktemp("case") / "case.tif"
    tifffile.imwrite(path, counts, photometric="minisblack", metadata={"axes": "CYX"})
    return path


@pytest.fixture
def call_of_case(case: Path, tiny_bundle: Path) -> tuple[object, ...]:
    return (case, "--um-per-px", 0.47, "--full-scale", 65536, "--bundle", tiny_bundle, "--device", "cpu")


def left_behind(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_json_is_one_object_on_stdout_and_nothing_else(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("diagnose", *call_of_case, "--json")
    assert ran.code == ExitCode.DONE
    result = json.loads(ran.out)
    jsonschema.validate(result, SCHEMA)
    assert result["tiles"] == {"total": 4, "restored": 4, "skipped": 0, "capped": 0}
    assert result["steps"]["stop_reasons"] == {"completed": 4}
    assert result["steps"]["median"] == 9
    assert result["provenance"]["bundle"] == "tiny"
    assert "restoring" in ran.err
    assert left_behind(tmp_path) == []


def test_the_panel_says_what_a_reader_needs(run: Run, call_of_case: tuple[object, ...], tmp_path: Path) -> None:
    ran = run("diagnose", *call_of_case, "--restorer", "median")
    assert ran.code == ExitCode.DONE
    for words in (
        "Demonstration weights, research use only",
        "as scanned",
        "after restoration",
        "4 of 4 restored",
        "case.tif",
    ):
        assert words in ran.out
    assert "case-diagnosis/summary.png" in ran.out.replace("\n", "")
    assert {path.name for path in (tmp_path / "case-diagnosis").iterdir()} >= {"result.json", "summary.png", "step_map.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["case-diagnosis"]


@pytest.fixture
def wary_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Its guards flag a tile whose brightness moved by a thousandth."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundles" / "wary"))
    calibration = {"weights_sha256": load_bundle(copy).weights_sha256}
    promises = [{"alpha": 0.05, "threshold": 1.0, "confidence": 0.95}]
    trust = {"scales": {"brightness": 1e-3}, "promises": promises, "calibration": calibration, "steps": [0, 200]}
    update_bundle(copy, {}, {"trust": trust})
    return copy


def test_the_panel_says_where_the_restored_image_is_not_to_be_trusted(
    run: Run, call_of_case: tuple[object, ...], tiny_bundle: Path, wary_bundle: Path, tmp_path: Path
) -> None:
    of_case = (wary_bundle if part == tiny_bundle else part for part in call_of_case)
    call = ("diagnose", *of_case, "--restorer", "median", "--out", "out")
    ran = run(*call, "--html")
    said = " ".join(ran.out.replace("│", " ").split())
    assert "restored image differs from its input at 4 places, see out/trust_map.png" in said
    assert "a change of brightness at y 0, x 0 um" in said
    assert "in the guards" in said
    assert "case.tif" in (tmp_path / "out" / "case.html").read_text(encoding="utf-8")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert (result["trust"]["flagged"], result["trust"]["withheld"]) == (4, 0)
    careful = json.loads(run(*call, "--conservative", "--json").out)
    assert (careful["trust"]["withheld"], careful["diagnosis"]) == (4, "nondiagnostic")


def test_what_a_bundle_promises_is_shown_and_what_it_does_not_is_refused(
    run: Run, call_of_case: tuple[object, ...], wary_bundle: Path, tiny_bundle: Path
) -> None:
    assert "at most 5% of tiles with something wrong go unflagged" in run("bundle", "show", wary_bundle).out
    assert "no thresholds for these weights" in run("bundle", "show", tiny_bundle).out
    refused = run("diagnose", *call_of_case, "--restorer", "median", "--conservative")
    assert refused.code == ExitCode.INPUT
    assert "found a bundle without thresholds for its guards; needed" in refused.err.replace("\n", " ")


def test_strict_exits_with_three_when_flagged(
    run: Run, call_of_case: tuple[object, ...], case: Path, tiny_bundle: Path
) -> None:
    plain = run("diagnose", *call_of_case, "--restorer", "none", "--json", "--strict")
    assert json.loads(plain.out)["flags"] == []
    assert plain.code == ExitCode.DONE
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--restorer", "magic"), "rscd, none, median, gaussian, nlm"),
        (("--restorer", "median", "--sampler", "ddim"), "'sampler' for the restorer 'median'"),
        (("--sampler", "fast"), "'ancestral', 'ddim' or 'mean'"),
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


@contextmanager
def nobody() -> Iterator[None]:
    """Without the privileges of root, which no permission binds."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def test_a_file_without_read_permission_gets_one_sentence(run: Run, tmp_path: Path, case: Path) -> None:
    locked = tmp_path / "locked.tif"
    locked.write_bytes(case.read_bytes())
    locked.chmod(0)
    run("diagnose", "warm-up")  # imports done while everything may be read
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with nobody():
        ran = run("diagnose", locked)
    assert ran.code == ExitCode.INPUT
    assert "locked.tif" in ran.err
    assert "Traceback" not in ran.err


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
    assert not list(tmp_path.parent.rglob(".*partial*"))


def test_a_call_that_fails_leaves_the_tiles_of_an_earlier_one(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / ".out.partial" / "tiles-of-another-call"
    earlier.mkdir(parents=True)
    monkeypatch.setattr(CaseResult, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device", "out")))
    assert run("diagnose", *call_of_case, "--out", "out", "--restorer", "none").code == ExitCode.INPUT
    assert left_behind(tmp_path) == [".out.partial", ".out.partial/tiles-of-another-call"]


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


def test_a_full_disk_ends_in_one_sentence_and_nothing_half_written(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr(CaseResult, "save", full)
    ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
    assert ran.code == ExitCode.INPUT
    assert ran.err.strip().splitlines()[-1].startswith("srh-clinic: result.json: found no space left on the disk; needed room")
    assert left_behind(tmp_path) == []


def test_a_disk_that_fills_up_while_tiles_are_kept_leaves_none(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))  # two tiles of 262,144 bytes do not fit
    try:
        ran = run("diagnose", *call_of_case, "--out", "out", "--restorer", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ran.code == ExitCode.INPUT
    assert "needed room and permission to write tiles" in ran.err.replace("\n", " ")
    assert left_behind(tmp_path) == []


def test_after_ctrl_c_the_same_call_goes_on(
    run: Run, call_of_case: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("diagnose", *call_of_case, "--out", "out")
    put, kept = TileStore.put, []

    def put_three(store: TileStore, *tile: object) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(tile)
        put(store, *tile)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TileStore, "put", put_three)
        ran = run(*call)
    assert ran.code == 130
    assert "the same command goes on" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]

    kept.clear()
    monkeypatch.setattr(TileStore, "put", put_three)
    assert run(*call).code == ExitCode.DONE
    assert len(kept) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_defect_of_ours_is_not_told_as_the_user_s(
    run: Run, call_of_case: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CaseResult, "to_dict", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("diagnose", *call_of_case, "--json", "--restorer", "none")


def test_bundles_are_listed_shown_and_verified(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    assert run("bundle", "list").code == ExitCode.DONE
    shown = run("bundle", "show", tiny_bundle)
    assert "research use only" in shown.out
    verified = run("bundle", "verify", tiny_bundle)
    assert verified.code == ExitCode.DONE
    assert "tiny: whole, with denoiser, calibrator, classifier" in verified.out


def test_a_damaged_bundle_is_refused(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = damaged / "models" / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    ran = run("bundle", "verify", damaged)
    assert ran.code == ExitCode.INPUT
    assert "classifier.safetensors" in ran.err


def test_doctor_says_how_to_get_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    checks = {check.name: check for check in check_health()}
    assert checks["torch"].good
    assert not checks["timm"].good
    assert checks["timm"].remedy == "pip install timm"
    ran = run("doctor")
    assert ran.code == ExitCode.INPUT
    assert "pip install timm" in ran.out
