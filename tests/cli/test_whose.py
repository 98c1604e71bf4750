"""A result says whose it is, and a folder belongs to one case."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from calling import Run

from srh_clinic.case.record import read_result
from srh_clinic.errors import ExitCode
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.tiling import TileStore


@pytest.fixture
def patients(case: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Slides of one name of two patients."""
    counts = tifffile.imread(case)
    for number, pixels in (("1", counts), ("2", counts[:, ::-1].copy())):
        identity = Identity(patient_id=f"Patient-{number}", specimen_id=f"Specimen-{number}")
        write_wsi(ArraySlide(pixels, 0.47, identity), tmp_path / f"p{number}" / "slide.dcm")
    return tmp_path / "p1" / "slide.dcm", tmp_path / "p2" / "slide.dcm"


@pytest.fixture
def options(tiny_bundle: Path) -> tuple[object, ...]:
    return ("--bundle", tiny_bundle, "--device", "cpu", "--restorer", "none")


def test_a_result_says_whose_it_is(run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path) -> None:
    assert run("diagnose", "p1/slide.dcm", *options, "--html").code == ExitCode.DONE
    slide = read_slide(patients[0])
    whose = read_result(tmp_path / "slide-diagnosis").case
    assert (whose.source, whose.patient_id, whose.specimen_id) == ("p1/slide.dcm", "Patient-1", "Specimen-1")
    assert (whose.study_uid, whose.series_uid) == (slide.identity.study_uid, slide.identity.series_uid)
    assert len(whose.sop_uids) == 1
    assert whose.channel_order == slide.identity.channel_order
    pixels = slide.read(0, 0, *slide.shape)
    assert whose.pixels_sha256 == hashlib.sha256(np.moveaxis(pixels, 0, 1).astype("<u2").tobytes()).hexdigest()
    assert "Patient-1" in (tmp_path / "slide-diagnosis" / "case.html").read_text()


def test_without_identity_nobody_is_named(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path
) -> None:
    secrets = ["Patient-1", "Specimen-1", "slide.dcm", "p1", read_slide(patients[0]).identity.study_uid]
    ran = run("diagnose", "p1/slide.dcm", *options, "--out", "out", "--html", "--no-identity")
    written = ran.out + "".join((tmp_path / "out" / name).read_text() for name in ("result.json", "case.html"))
    assert [secret for secret in secrets if f'"{secret}"' in written or f">{secret}<" in written] == []
    assert "Patient-1" not in written
    assert "slide.dcm" not in written


def test_without_identity_no_name_of_a_place_and_no_date_tells_it(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path
) -> None:
    there = set(tmp_path.iterdir())
    ran = run("diagnose", "p1/slide.dcm", *options, "--no-identity", "--dicom-out", "objects")
    assert "objects" in ran.out  # the panel says where they are
    (result,) = set(tmp_path.iterdir()) - there - {tmp_path / "objects"}
    assert result.name == f"{read_result(result).case.pixels_sha256[:12]}-diagnosis"
    for file in (tmp_path / "objects").iterdir():
        header = pydicom.dcmread(file, stop_before_pixels=True)
        days = {str(element.value)[:8] for element in header.iterall() if element.VR in ("DA", "DT") and element.value}
        assert days == {"20000101"}, file


def test_cases_of_one_name_do_not_replace_each_other(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path
) -> None:
    assert run("diagnose", "p1/slide.dcm", *options, "--html").code == ExitCode.DONE
    before = {path.name: path.read_bytes() for path in (tmp_path / "slide-diagnosis").iterdir()}
    ran = run("diagnose", "p2/slide.dcm", *options)
    assert ran.code == ExitCode.INPUT
    assert "found the result of another case (p1/slide.dcm); needed another folder" in " ".join(ran.err.split())
    assert {path.name: path.read_bytes() for path in (tmp_path / "slide-diagnosis").iterdir()} == before
    assert run("diagnose", "p2/slide.dcm", *options, "--out", "second").code == ExitCode.DONE
    (tmp_path / "slide-diagnosis" / "result.json").write_text("{}")
    assert "found a result that does not say whose it is" in run("diagnose", "p2/slide.dcm", *options).err


def test_the_same_case_again_leaves_nothing_of_the_earlier_result(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path
) -> None:
    assert run("diagnose", patients[0], *options, "--out", "out", "--html").code == ExitCode.DONE
    (tmp_path / "out" / "mine.txt").write_text("stays")
    assert run("diagnose", patients[0], *options, "--out", "out", "--restorer", "median").code == ExitCode.DONE
    assert not (tmp_path / "out" / "case.html").exists()
    assert (tmp_path / "out" / "mine.txt").exists()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["provenance"]["settings"]["restorer"] == "median"


@pytest.mark.parametrize("layout", ["restored.dcm", "restored"])
def test_a_restoration_made_in_another_way_stays(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path, layout: str, case: Path
) -> None:
    stack = Path(shutil.copy(case, tmp_path / "stack.tif"))
    for source, reading in ((patients[0], ()), (stack, ("--um-per-px", 0.47, "--full-scale", 65536))):
        call = ("restore", source, tmp_path / source.parent.name / layout, *options, *reading)
        assert run(*call).code == ExitCode.DONE
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
        ran = run(*call, "--restorer", "median")
        assert ran.code == ExitCode.INPUT
        assert "found a restoration of another source, or one made with other settings" in " ".join(ran.err.split())
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")} == before
        assert run(*call).code == ExitCode.DONE


def test_a_call_that_has_written_everything_finds_it_and_computes_nothing(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    put = TileStore.put

    def counted(store: TileStore, *tile: object) -> None:
        kept.append(tile)
        put(store, *tile)  # type: ignore[arg-type]

    monkeypatch.setattr(TileStore, "put", counted)
    calls = (
        ("restore", patients[0], "restored", *options, "--restorer", "median"),
        ("diagnose", patients[0], *options, "--restorer", "median", "--out", "out", "--html", "--dicom-out", "restored.dcm"),
    )
    for call in calls:
        first = run(*call)
        assert first.code == ExitCode.DONE
        assert len(kept) == 4
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        # A kill after the last file and before the tiles were gone.
        tiles = tmp_path / f".{'restored' if call[0] == 'restore' else 'out'}.partial" / "tiles-0123"
        tiles.mkdir(parents=True)
        again = run(*call)
        assert (again.code, len(kept)) == (ExitCode.DONE, 4)
        assert "as this very call has written it" in " ".join(again.err.split())
        assert again.out == first.out
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert not tiles.parent.exists()
        kept.clear()


def test_what_is_not_whole_or_of_another_call_is_computed(
    run: Run, patients: tuple[Path, Path], options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call: tuple[object, ...] = ("diagnose", patients[0], *options, "--restorer", "median", "--out", "out")
    with_dicom = ("--out", "dicom", "--dicom-out", "restored")
    kept: list[object] = []
    put = TileStore.put

    def counted(store: TileStore, *tile: object) -> None:
        kept.append(tile)
        put(store, *tile)  # type: ignore[arg-type]

    def computed(*more: object) -> int:
        """Tiles that the call computes."""
        kept.clear()
        assert run(*call, *more).code == ExitCode.DONE
        return len(kept)

    def reworded(old: str, new: str) -> None:
        result = tmp_path / "out" / "result.json"
        assert old in result.read_text()
        result.write_text(result.read_text().replace(old, new))

    monkeypatch.setattr(TileStore, "put", counted)
    for more in ((), with_dicom):
        assert computed(*more) == 4
        assert computed(*more) == 0
    changes: dict[str, Callable[[], object]] = {
        "picture": (tmp_path / "out" / "step_map.png").unlink,
        "damage": lambda: reworded('"tiles"', '"tilez"'),
        "version": lambda: reworded('"torch": "', '"torch": "0.'),
    }
    of_dicom: dict[str, Callable[[], object]] = {
        "dicom": (tmp_path / "restored" / "SRS2930.dcm").unlink,
        "map": (tmp_path / "restored" / "map-steps.dcm").unlink,
    }
    for name, change in {**changes, **of_dicom}.items():
        change()
        assert computed(*(with_dicom if name in of_dicom else ())) == 4, name
    for name, given in {"page": ("--html",), "seed": ("--seed", 1), "size": ("--um-per-px", 0.48)}.items():
        assert computed(*given) == 4, name
