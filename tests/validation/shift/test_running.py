"""A manifest's images are run once each; what cannot be read takes no part and is named."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from srh_clinic.bundles import Bundle
from srh_clinic.case import pipeline as pipeline_module
from srh_clinic.cli.app import app
from srh_clinic.errors import InputError
from srh_clinic.files import claimed
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.simulation import simulate_cohort
from srh_clinic.simulation.cohort import SEVERITY_AT_SURFACE
from srh_clinic.slide import ArraySlide, Reading
from srh_clinic.tiling import TileStore
from srh_clinic.validation.shift import running
from srh_clinic.validation.shift.cohort import write_cohort
from srh_clinic.validation.shift.manifest import read_manifest
from srh_clinic.validation.shift.running import run_cases

RestoreThenClassify = pipeline_module.RestoreThenClassify


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=2, sites=2, depths_um=(0, 75), size=100)


@pytest.fixture(scope="module")
def pipeline(bundle: Bundle) -> RestoreThenClassify:
    return RestoreThenClassify.from_bundle(bundle.path, device="cpu", sampler="ddim", profiled=True)


def test_a_cohort_is_the_same_whatever_the_number_of_its_patients() -> None:
    two, four = (list(simulate_cohort(count, 2, (0,), 64)) for count in (2, 4))
    for one, other in zip(two, four, strict=False):
        np.testing.assert_array_equal(one.phantom.counts, other.phantom.counts)
        assert (one.patient, one.site, one.subtype, one.severity) == (other.patient, other.site, other.subtype, other.severity)
    assert {image.site for image in four} == {"site A", "site B"}
    assert len(SEVERITY_AT_SURFACE) == 4
    with pytest.raises(InputError, match="the tissue liver"):
        simulate_cohort(kinds=["liver"])


def test_every_case_is_run_once_and_a_cut_run_goes_on(
    cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_cases(read_manifest(cohort), tmp_path, pipeline, Reading())
    assert (len(first.slides), first.slides.level) == (4, "slide")
    assert {case.slide for case in first.patches.cases} == {case.case for case in first.slides.cases}
    assert set(first.profiles) == {case.case for case in first.slides.cases}
    slide = first.slides.cases[0]
    patches = [case.after.probabilities for case in first.patches.cases if case.slide == slide.case]
    place = ("tumor", "normal", "nondiagnostic").index(slide.after.said)
    assert slide.after.certainty == pytest.approx(np.mean([values[place] for values in patches]), abs=1e-5)

    def refuse(*_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(running, "_run", refuse)
    again = run_cases(read_manifest(cohort), tmp_path, pipeline, Reading())
    assert again.slides.cases == first.slides.cases
    cut = next((tmp_path / "cases").glob("0002-*")) / "case.json"
    cut.write_text(cut.read_text()[:100])
    with pytest.raises(AssertionError, match="run again"):
        run_cases(read_manifest(cohort), tmp_path, pipeline, Reading())


def test_images_that_cannot_be_read_are_left_out_by_name(cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path) -> None:
    with cohort.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    (cohort.parent / "broken.dcm").write_bytes(b"no DICOM")
    rows = [rows[0], rows[1], ["gone.dcm", "P9", "tumor", "", "", "", ""], ["broken.dcm", "P8", "normal", "", "", "", ""]]
    manifest = cohort.parent / "partly.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    run = run_cases(read_manifest(manifest), tmp_path, pipeline, Reading())
    assert len(run.slides) == 1
    assert [one.case for one in run.slides.excluded] == ["gone.dcm", "broken.dcm"]
    assert run.slides.excluded[0].why == "found no such file"
    nothing = cohort.parent / "nothing.csv"
    nothing.write_text("case,patient,truth\ngone.dcm,P9,tumor\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no case that can be read \(gone\.dcm: found no such file"):
        run_cases(read_manifest(nothing), tmp_path / "none", pipeline, Reading())


@pytest.mark.parametrize("how", ["path", "link", "copy"])
def test_one_image_by_two_paths_is_refused(cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path, how: str) -> None:
    with cohort.open(encoding="utf-8") as file:
        header, row, *_ = list(csv.reader(file))
    name = f"./{row[0]}" if how == "path" else f"{how}.dcm"
    if how == "link":
        (cohort.parent / name).symlink_to(row[0])
    elif how == "copy":
        (cohort.parent / name).write_bytes((cohort.parent / row[0]).read_bytes())
    manifest = cohort.parent / f"{how}.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, row, [name, "P9", *row[2:]]])
    with pytest.raises(InputError, match="one image in lines 2 and 3; needed each image once"):
        run_cases(read_manifest(manifest), tmp_path, pipeline, Reading())


def test_what_the_caller_says_of_channels_counts_and_is_kept(
    cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path
) -> None:
    counts = read_slide(sorted(cohort.parent.glob("*.dcm"))[0]).read(0, 0, 100, 100)
    options = {"resolution": (1e4 / 0.47,) * 2, "resolutionunit": "CENTIMETER"}
    for name, channel in zip(("one", "two"), counts, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", channel, **options)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("case,ch3,patient,truth\none.tif,two.tif,P1,tumor\n", encoding="utf-8")
    read = read_manifest(manifest)
    assert not read.warnings or "ch3" not in " ".join(read.warnings)
    ours, theirs = (run_cases(read, tmp_path / "out", pipeline, Reading(channels=said)) for said in (None, "CH3,CH2"))
    kept = json.loads(next((tmp_path / "out" / "cases").glob("*/case.json")).read_text())["result"]
    assert kept["slide"]["channel_order"] == "CH2 is channel 2, CH3 is channel 1: as the caller says (CH3,CH2)"
    assert ours.scans[0]["channel_order"].endswith("in the order in which the files were given")
    assert theirs.scans[0]["channel_order"] == kept["slide"]["channel_order"]
    tifffile.imwrite(tmp_path / "two.tif", counts[1] // 2 + 5000, **options)
    was = kept["case"]["pixels_sha256"]
    run_cases(read, tmp_path / "out", pipeline, Reading(channels="CH3,CH2"))
    kept = json.loads(next((tmp_path / "out" / "cases").glob("*/case.json")).read_text())["result"]
    assert kept["case"]["pixels_sha256"] != was  # the other file of the case had changed


def test_a_harmed_case_has_its_page_and_the_command_line_its_report(
    cohort: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "is_harm", lambda was, now: True)
    monkeypatch.setattr("srh_clinic.validation.shift.harm.is_harm", lambda was, now: True)
    out = tmp_path / "report"
    done = CliRunner().invoke(
        app, ["validate", str(cohort), "--out", str(out), "--bundle", str(bundle.path), "--sampler", "ddim"]
    )
    assert done.exit_code == 0, done.output
    assert "4 slides of 2 patients" in done.output
    assert len(list(out.glob("cases/*/case.html"))) == 4
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('href="cases/') == 4
    assert page.count('<img src="data:image/png;base64,') == 20
    settings = json.loads((out / "report.json").read_text(encoding="utf-8"))["provenance"]["settings"]
    assert settings["sampler"] == "ddim"


def test_a_wrong_manifest_ends_in_one_sentence_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("case,patient,truth\na.dcm,P1,benign\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["validate", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_changed_sibling_of_a_case_asks_for_another_result(pipeline: RestoreThenClassify, tmp_path: Path) -> None:
    counts = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50)
    files = write_wsi(ArraySlide(counts, 0.47), tmp_path / "case", transfer_syntax="raw")

    def key() -> str:
        return running._key(running._opened(files[0], None, Reading()), pipeline, Reading())

    was = key()
    assert key() == was
    content = bytearray(files[1].read_bytes())
    content[-1] ^= 1
    files[1].write_bytes(content)
    assert key() != was


def one_case(cohort: Path, name: str, truth: str | None = None) -> Path:
    """A manifest of a cohort's first case."""
    with cohort.open(encoding="utf-8") as file:
        header, row, *_ = list(csv.reader(file))
    row = [truth if truth and column == "truth" else cell for column, cell in zip(header, row, strict=True)]
    manifest = cohort.parent / name
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, row])
    return manifest


def test_a_run_that_is_cut_within_a_case_goes_on_from_its_tiles(
    cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, kept = read_manifest(one_case(cohort, "cut.csv")), []
    put = TileStore.put

    def counted(store: TileStore, *tile: object) -> None:
        kept.append(tile)
        put(store, *tile)  # type: ignore[arg-type]

    classify, slides = pipeline_module.classify_slide, []

    def cut(*given: Any, **options: Any) -> object:
        slides.append(given)
        if len(slides) == 2:  # the scan is classified, and its restoration is not yet
            raise KeyboardInterrupt
        return classify(*given, **options)

    monkeypatch.setattr(TileStore, "put", counted)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_module, "classify_slide", cut)
        with pytest.raises(KeyboardInterrupt):
            run_cases(manifest, tmp_path, pipeline, Reading())
    restored = len(kept)
    assert restored
    assert len(run_cases(manifest, tmp_path, pipeline, Reading()).slides) == 1
    assert len(kept) == restored
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]


def test_a_case_that_is_harmed_no_more_has_no_page(
    cohort: Path, pipeline: RestoreThenClassify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(running, "is_harm", lambda was, now: True)
        (harmed,) = run_cases(read_manifest(one_case(cohort, "one.csv", "tumor")), tmp_path, pipeline, Reading()).slides.cases
    assert harmed.folder is not None
    assert (harmed.folder / "case.html").is_file()
    monkeypatch.setattr(running, "is_harm", lambda was, now: False)
    (mended,) = run_cases(read_manifest(one_case(cohort, "one.csv", "normal")), tmp_path, pipeline, Reading()).slides.cases
    assert mended.folder is None
    assert [path.name for path in harmed.folder.iterdir()] == ["case.json"]


def test_a_second_validation_into_one_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("case,patient,truth\na.dcm,P1,tumor\n", encoding="utf-8")
    call = ["validate", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out"), "--restorer", "none", "--device", "cpu"]
    with claimed(tmp_path / "out"), ThreadPoolExecutor(1) as elsewhere:
        done = elsewhere.submit(CliRunner().invoke, app, call).result()
    assert done.exit_code == 2
    assert "found a run that writes there now" in " ".join(done.output.split())
