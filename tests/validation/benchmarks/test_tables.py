"""The paper's tables: what their rows hold is what was measured on the images that they name."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from srh_clinic import metrics
from srh_clinic.bundles import Bundle
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.slide import Reading
from srh_clinic.validation import BenchmarkOptions, run_benchmark, run_cell
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.images import FolderImages, Image, PhantomImages, cut, spread
from srh_clinic.validation.bench.methods import ABLATIONS, LEARNED, METHODS, OURS, WHOLE, chosen_methods
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.benchmarks import suite, tables
from srh_clinic.validation.benchmarks.image_quality import MethodComparison, near_registered, unpaired
from srh_clinic.validation.benchmarks.paper import PAPER
from srh_clinic.validation.benchmarks.suite import PARTS, OwnImages
from srh_clinic.validation.benchmarks.tables import Fewer, Tables, inner

NAMES = ("input", WHOLE, "median", "nlm")


class PooledPixels:
    """An extractor that needs no weights: means over blocks of pixels."""

    def features(self, images: np.ndarray) -> np.ndarray:
        n, channels, height, width = images.shape
        blocks = images.reshape(n, channels, 4, height // 4, 4, width // 4).mean(axis=(3, 5))
        return blocks.reshape(n, -1).astype(np.float64)


@dataclass(frozen=True)
class Twins(PhantomImages):
    """Phantoms whose second acquisition is the clean image itself."""

    def second_acquisition(self, index: int) -> Counts:
        clean = self.image(index).clean
        assert clean is not None
        return clean

    @property
    def indices(self) -> Sequence[int]:
        return range(10)

    def references(self) -> Iterator[Counts]:
        return (self.protocol.reference(index) for index in range(10))


@pytest.fixture(scope="module")
def small_fields() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "create_extractor", lambda *args: PooledPixels())
        # A field of 64 px is too small to be found again under noise; registration has tests of its own.
        patch.setattr(tables, "registered", lambda acquired, image: acquired)
        yield patch


@pytest.fixture(autouse=True)
def _small_fields(small_fields: pytest.MonkeyPatch) -> None:
    """For every test here."""


def tables_of(bench: Bench) -> Tables:
    return Tables(bench, Twins(bench.protocol), chosen_methods(NAMES), Fewer(("nlm",), (1, 4, 8)))


@pytest.fixture
def run(bench: Bench) -> Tables:
    """Nothing of it is restored yet."""
    return tables_of(bench)


@pytest.fixture(scope="module")
def measured(
    bundle: Bundle, small_protocol: Path, tmp_path_factory: pytest.TempPathFactory, small_fields: pytest.MonkeyPatch
) -> Path:
    """The folder of a run whose cells are there."""
    out = tmp_path_factory.mktemp("measured") / "out"
    tables_of(Bench(load_protocol(small_protocol), bundle, out, device="cpu", limit=6)).cells()
    return out


@pytest.fixture
def done(bench: Bench, measured: Path) -> Tables:
    """The same run with all of its cells."""
    shutil.copytree(measured, bench.out)
    return tables_of(bench)


def test_the_rows_are_means_of_what_was_measured_on_each_image(done: Tables) -> None:
    cells = done.cells()
    section = unpaired(done, cells)
    rows = {row["method"]: row for row in _table(section, "All methods").rows}
    direct = []
    for index in range(10):
        image = done.images.image(index)
        assert image.clean is not None
        direct.append(metrics.psnr(counts_to_unit(image.counts), counts_to_unit(image.clean)))
    assert rows["input"]["psnr"].value == pytest.approx(np.mean(direct))
    assert rows["input"]["psnr"].low < rows["input"]["psnr"].value < rows["input"]["psnr"].high
    assert (rows["input"]["evaluations"], rows["median"]["evaluations"]) == (0, 0)
    assert rows[WHOLE]["evaluations"] > 0
    assert rows["median"]["paper_fid"] == 95.28
    assert "paper_fid" not in rows["nlm"]


def test_a_second_acquisition_is_compared_without_its_margin(done: Tables) -> None:
    cells = done.cells()
    image = done.images.image(3)
    assert image.clean is not None
    expected = metrics.psnr(inner(counts_to_unit(image.counts)), inner(counts_to_unit(image.clean)))
    assert cells["input"][3]["near_psnr"] == pytest.approx(expected)
    section = near_registered(done, cells)
    row = _table(section, "All methods").rows[0]
    assert row["psnr"].value == pytest.approx(np.mean([cells["input"][i]["near_psnr"] for i in range(10)]))
    assert row["paper_psnr"] == 26.97


def test_a_pair_that_does_not_fit_is_left_out_and_counted(run: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_even(acquired: Counts, image: Image) -> Counts:
        if int(image.name.split()[1].strip(",")) % 2:
            raise InputError("two fields that have nothing in common", "two acquisitions of one field")
        return acquired

    monkeypatch.setattr(tables, "registered", only_even)
    cells = run.cells()
    table = _table(near_registered(run, cells), "All methods")
    assert {row["n"] for row in table.rows if row["method"] != "nlm"} == {5}
    assert "5 pairs were refused, as in phantom 1," in table.note
    assert "near_psnr" not in cells["input"][1]
    assert len(run.features(METHODS["median"], near=True).vectors) == 5


def test_a_pair_is_registered_once_for_all_runs(run: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    def sometimes(acquired: Counts, image: Image) -> Counts:
        if image.name.startswith("phantom 4,"):
            raise InputError("two fields that have nothing in common", "two acquisitions of one field")
        return acquired

    monkeypatch.setattr(tables, "registered", sometimes)
    first = [run.second(index) for index in range(6)]

    def refuse(acquired: Counts, image: Image) -> Counts:
        raise AssertionError("registered anew")

    monkeypatch.setattr(tables, "registered", refuse)
    later = replace(run)
    again = [later.second(index) for index in range(6)]
    assert first[4] is None
    assert again[4] is None
    assert later.refused == run.refused == {4: "phantom 4, blood: two fields that have nothing in common"}
    assert all(np.array_equal(first[i], again[i]) for i in (0, 1, 2, 3, 5))


def test_slow_methods_restore_their_images_alone_and_all_methods_are_shown_on_these(done: Tables) -> None:
    cells = done.cells()
    assert sorted(cells["nlm"]) == [1, 4, 8]
    report = unpaired(done, cells)
    assert {row["method"]: row["n"] for row in _table(report, "All methods").rows} == {
        "input": 10,
        WHOLE: 10,
        "median": 10,
        "nlm": 3,
    }
    shared = _table(report, "The 3 images that every method restored").rows
    assert {row["n"] for row in shared} == {3}


def test_a_run_that_was_cut_goes_on_and_says_the_same(run: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run.cells()

    def refuse(self: PhantomRestorer, degraded: object) -> None:
        raise AssertionError("restored anew")

    monkeypatch.setattr(PhantomRestorer, "__call__", refuse)
    assert run.cells() == first


def test_the_clean_images_as_a_set_lie_at_no_distance_from_themselves(done: Tables) -> None:
    second = done.second_features()
    assert len(second.vectors) == 10
    assert metrics.spectrum_distance(second.spectra, second.spectra) == 0
    comparison = MethodComparison(done, done.cells(), near=True)
    ours, reference, how = comparison._sets("input", [1, 4, 8])
    assert len(ours.vectors) == len(reference.vectors) == 3
    assert how["units"] == how["reference_units"] == [1, 4, 8]


def test_what_was_asked_is_met_or_not_by_the_numbers(done: Tables) -> None:
    cells = {name: {i: dict(cell) for i, cell in rows.items()} for name, rows in done.cells().items()}
    for name, dB in (("input", 20.0), (WHOLE, 30.0), ("median", 30.4)):
        for cell in cells[name].values():
            cell["psnr"] = dB
    asked = {row["asked"]: row for row in MethodComparison(done, cells, near=False).ranking()}
    within = asked["PSNR within 0.5 dB of the best"]
    assert (within["met"], within["measured"]) == (True, f"{WHOLE} 30.00 dB, median 30.40 dB")
    for cell in cells["median"].values():
        cell["psnr"] = 30.6
    asked = {row["asked"]: row for row in MethodComparison(done, cells, near=False).ranking()}
    assert asked["PSNR within 0.5 dB of the best"]["met"] is False
    assert f"No ablation significantly better than {WHOLE}" not in asked


def test_an_ablation_that_is_better_is_named(bench: Bench) -> None:
    run = Tables(bench, Twins(bench.protocol), chosen_methods(("input", WHOLE, "rscd_fixed_10", "median")))
    cells = {name: {i: dict(cell) for i, cell in rows.items()} for name, rows in run.cells().items()}
    for place, cell in enumerate(cells["rscd_fixed_10"].values()):
        cell["psnr"] = cells[WHOLE][place]["psnr"] + 1 + 0.01 * place
        cell["nuclei_added"] = cells[WHOLE][place]["nuclei_added"] + 200 + place
        cell["nuclei_removed"] = cells[WHOLE][place]["nuclei_removed"]
    (row,) = [row for row in MethodComparison(run, cells, near=False).ranking() if row["asked"].startswith("No ablation")]
    assert row["met"] is False
    better, worse = row["measured"].split(", worse in ")
    assert "rscd_fixed_10 in PSNR (-1.0" in better
    assert "nuclei (-20" in worse


def test_a_stack_of_ones_own_is_comparisond_plane_by_plane_without_a_reference(
    bundle: Bundle, small_protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(suite.PRESETS, "quick", suite.Preset(images=2, slow=1, sweep=1, stacks=8))
    monkeypatch.setattr("srh_clinic.validation.benchmarks.depth.DEPTHS_UM", (0.0, 100.0))
    rng = np.random.default_rng(0)
    size = load_protocol(small_protocol).phantoms.size
    noise = np.array([100, 3_000])[:, None, None, None] * rng.standard_normal((2, 2, size, 2 * size))
    tifffile.imwrite(tmp_path / "mine.tif", np.clip(20_000 + noise, 0, 65_535).astype(np.uint16), metadata={"axes": "ZCYX"})
    (report,) = run_benchmark(
        "tables",
        tmp_path / "out",
        options=BenchmarkOptions(stack=tmp_path / "mine.tif", reading=Reading(um_per_px=0.47)),
        only=["zstack"],
        bundle=bundle.path,
        protocol=small_protocol,
        device="cpu",
    )
    shallow, deep = _table(report, "mine.tif, plane by plane").rows
    assert (shallow["plane"], shallow["n"], deep["plane"], deep["n"]) == (0, 2, 1, 2)
    assert shallow["noise_before"] == pytest.approx(100, rel=0.2)
    assert deep["noise_before"] == pytest.approx(3_000, rel=0.2)
    assert abs(deep["coherence_before"]) < 0.2
    assert deep["noise_after"] != deep["noise_before"]
    assert (tmp_path / "out" / "figures" / "real_depth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "told"), [("none.tif", "no such file"), ("small.tif", "planes of 16 px at 0.47 um/px")])
def test_a_stack_that_cannot_be_used_is_told_before_anything_is_restored(
    name: str, told: str, bundle: Bundle, small_protocol: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "small.tif", np.full((2, 2, 16, 80), 9_000, dtype=np.uint16), metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match=told):
        run_benchmark(
            "tables",
            tmp_path / "out",
            options=BenchmarkOptions(stack=tmp_path / name, reading=Reading(um_per_px=0.47)),
            only=["zstack"],
            bundle=bundle.path,
            protocol=small_protocol,
            device="cpu",
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def page_of_all(
    bundle: Bundle, small_protocol: Path, tmp_path_factory: pytest.TempPathFactory, small_fields: pytest.MonkeyPatch
) -> Path:
    out = tmp_path_factory.mktemp("all") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(suite.PRESETS, "quick", suite.Preset(images=9, slow=2, sweep=3, stacks=8))
        patch.setattr("srh_clinic.validation.benchmarks.depth.DEPTHS_UM", (0.0, 100.0))
        reports = run_benchmark(
            "tables",
            out,
            options=BenchmarkOptions(methods=["median", "rscd_fixed_10"]),
            bundle=bundle.path,
            protocol=small_protocol,
            device="cpu",
        )
    assert [report.name for report in reports] == ["unpaired", "near_registered", "downstream", "sweep", "zstack"]
    return out


def test_all_tables_and_figures_are_one_page_without_the_network(page_of_all: Path) -> None:
    page = (page_of_all / "tables.html").read_text()
    assert "demonstration weights, research use only" in page
    assert "http://" not in page
    assert "https://" not in page
    for figure in ("gallery", "same_tile", "predicted_steps", "pairs", "outcomes", "sweep", "depth", "depth_images"):
        assert (page_of_all / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("data:image/png;base64,") == 8


def test_the_rows_are_in_one_json_and_every_table_in_csv(page_of_all: Path) -> None:
    found = json.loads((page_of_all / "tables.json").read_text())
    assert list(found) == ["unpaired", "near_registered", "downstream", "sweep", "zstack"]
    rows = {row["method"]: row for row in found["unpaired"]["rows"]}
    assert list(rows) == ["input", WHOLE, "median", "rscd_fixed_10"]
    assert set(rows["median"]["kid"]) == {"value", "low", "high"}
    assert "command" in found["unpaired"]["provenance"]
    lines = list(csv.reader((page_of_all / "unpaired-all-methods.csv").read_text().splitlines()))
    assert lines[0][:5] == ["method", "n", "kid", "kid_low", "kid_high"]
    median = next(line for line in lines if line and line[0] == "median")
    assert float(median[2]) == rows["median"]["kid"]["value"]


def test_one_cell_computed_anew_is_the_cell_of_the_table(
    done: Tables, bundle: Bundle, small_protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = done.cells()[WHOLE][2]
    again = done.cell(METHODS[WHOLE], 2)
    for measure in ("psnr", "ssim", "near_psnr", "nuclei_added"):
        # The table's batches hold other images beside this one, which moves the last bits of a convolution.
        assert again[measure] == pytest.approx(cell[measure], rel=1e-6)
    assert (again["steps"], again["said"]) == (cell["steps"], cell["said"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    alone = run_cell("median", 2, bundle=bundle.path, protocol=small_protocol, device="cpu")
    assert alone["psnr"] == done.cells()["median"][2]["psnr"]
    with pytest.raises(InputError, match="found phantom 99; needed one from 0 to 14"):
        run_cell("median", 99, bundle=bundle.path, protocol=small_protocol, device="cpu")
    assert not list((tmp_path / "here").iterdir())


def test_wrong_names_are_told(tmp_path: Path, bundle: Bundle, small_protocol: Path) -> None:
    with pytest.raises(InputError, match="found the methods mediun; needed one or more of input, rscd"):
        run_benchmark(
            "tables", tmp_path, options=BenchmarkOptions(methods=["mediun"]), bundle=bundle.path, protocol=small_protocol
        )
    with pytest.raises(InputError, match="found the preset 'slow'; needed quick or full"):
        run_benchmark("tables", tmp_path, options=BenchmarkOptions(preset="slow"), bundle=bundle.path, protocol=small_protocol)
    with pytest.raises(InputError, match="found the parts table1; needed one or more of unpaired"):
        run_benchmark("tables", tmp_path, only=["table1"], bundle=bundle.path, protocol=small_protocol)
    with pytest.raises(
        InputError, match=r"no bundle phantom-baselines, whose network the method cyclegan needs; needed .* by --weights"
    ):
        run_benchmark(
            "tables",
            tmp_path,
            options=BenchmarkOptions(methods=["cyclegan"], weights=tmp_path / "none"),
            bundle=bundle.path,
            protocol=small_protocol,
            device="cpu",
        )


def test_a_network_that_is_missing_is_told_before_anything_is_restored(
    tmp_path: Path, bundle: Bundle, small_protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Tables) -> None:
        raise AssertionError("restored")

    monkeypatch.setattr(Tables, "cells", refuse)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "phantom-baselines").symlink_to(bundle.path)
    options = BenchmarkOptions(methods=["cyclegan"], weights=tmp_path / "weights")
    how = {"bundle": bundle.path, "protocol": small_protocol, "device": "cpu"}
    with pytest.raises(InputError, match=r"found no cyclegan \(parts: denoiser, calibrator, classifier\)"):
        run_benchmark("tables", tmp_path / "out", options=options, **how)


def test_figures_of_rscd_alone_need_no_other_network(
    tmp_path: Path, bundle: Bundle, small_protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(suite.PRESETS, "quick", suite.Preset(images=9, slow=2, sweep=3, stacks=8))
    how = {
        "options": BenchmarkOptions(weights=tmp_path / "none"),
        "bundle": bundle.path,
        "protocol": small_protocol,
        "device": "cpu",
    }
    (report,) = run_benchmark("tables", tmp_path / "out", only=["sweep"], **how)
    assert [row["steps"] for row in report.tables[0].rows] == ["0", "t/2", "t", "2t", "190"]


def test_every_row_of_the_paper_is_a_method_of_ours() -> None:
    assert set(PAPER) <= set(METHODS)
    assert set(OURS) | set(ABLATIONS) | set(LEARNED) <= set(METHODS)
    assert set(ABLATIONS) == {
        "rscd_no_recalibration",
        "rscd_one_evaluation",
        "rscd_three_evaluations",
        "rscd_as_read",
        "rscd_last_difference",
        "rscd_upright",
        "rscd_nonparametric",
        "rscd_fixed_10",
        "rscd_fixed_50",
        "rscd_linear",
        "rscd_unaugmented",
        "rscd_no_exposure",
    }
    assert set(PARTS["tables"]) == {"unpaired", "near-registered", "downstream", "sweep", "zstack"}


def _png_folder(folder: Path, *shapes: tuple[int, int]) -> Path:
    from PIL import Image as Picture

    folder.mkdir(parents=True, exist_ok=True)
    for place, shape in enumerate(shapes):
        pixels = np.random.default_rng(place).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(folder / f"patch_{place}.png")
    return folder


def test_a_users_images_are_cut_into_whole_tiles(tmp_path: Path) -> None:
    images = FolderImages(_png_folder(tmp_path / "own", (150, 70), (64, 64)), tile=64)
    assert [images.image(i).name for i in images.indices] == [
        "patch_0.png at 0, 0",
        "patch_0.png at 64, 0",
        "patch_1.png at 0, 0",
    ]
    assert images.image(0).clean is None
    assert images.second_acquisition(0) is None
    assert list(images.references()) == []
    with pytest.raises(InputError, match="found images of at most 70 px; needed images of at least 128 px"):
        _ = FolderImages(tmp_path / "own", tile=128).indices
    with pytest.raises(InputError, match="found no such folder"):
        _ = FolderImages(tmp_path / "none").indices


def test_a_users_images_can_be_taken_for_clean_and_degraded(tmp_path: Path) -> None:
    images = FolderImages(_png_folder(tmp_path / "own", (64, 64)), tile=64, severity=0.5)
    clean = replace(images, severity=None).image(0).counts
    image, again = images.image(0), images.image(0)
    assert np.array_equal(image.clean, clean)
    assert np.array_equal(image.counts, again.counts)
    assert not np.array_equal(image.counts, clean)
    assert images.sha256 != replace(images, severity=0.6).sha256


def test_another_high_quality_set_has_another_name(tmp_path: Path, small_protocol: Path) -> None:
    images = FolderImages(_png_folder(tmp_path / "own", (64, 64)), tile=64)
    one = replace(images, reference=_png_folder(tmp_path / "one", (64, 64)))
    two = replace(images, reference=_png_folder(tmp_path / "two", (64, 64), (64, 64)))
    assert len({images.references_sha256, one.references_sha256, two.references_sha256}) == 3
    protocol = load_protocol(small_protocol)
    assert PhantomImages(protocol).references_sha256 != PhantomImages(protocol, 3).references_sha256


def test_tables_on_a_users_images_have_no_truth_and_pairs_need_two_folders(
    tmp_path: Path, bundle: Bundle, small_protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(suite.PRESETS, "quick", suite.Preset(images=9, slow=2, sweep=3, stacks=8))
    own = OwnImages(_png_folder(tmp_path / "own", *[(64, 64)] * 9), _png_folder(tmp_path / "good", *[(64, 64)] * 9))
    how = {
        "options": BenchmarkOptions(methods=["median"], own=own),
        "bundle": bundle.path,
        "protocol": small_protocol,
        "device": "cpu",
    }
    (report,) = run_benchmark("tables", tmp_path / "out", only=["unpaired"], **how)
    row = _table(report, "All methods").rows[0]
    assert row["psnr"] is None
    assert np.isfinite(row["kid"].value)
    assert "What was asked" not in [table.title for table in report.tables]
    assert (tmp_path / "out" / "unpaired.html").is_file()
    with pytest.raises(InputError, match="found no second acquisitions; needed two folders low and high"):
        run_benchmark("tables", tmp_path / "out", only=["near-registered"], **how)


def test_an_image_is_cut_from_its_corner() -> None:
    image = np.arange(2 * 5 * 4, dtype=np.uint16).reshape(2, 5, 4)
    parts = cut(image, 2)
    assert list(parts) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert np.array_equal(parts[2, 2], image[:, 2:4, 2:4])


def test_an_image_without_group_and_truth_says_so() -> None:
    assert Image("one", np.zeros((2, 4, 4), np.uint16)).truth == ""


def test_the_protocols_first_phantoms_are_those_of_the_tables() -> None:
    protocol = load_protocol()
    few = PhantomImages(protocol, 6)
    assert list(few.indices) == [0, 1, 2, 270, 271, 272]
    assert [protocol.bin(i) for i in spread(24, 540)] == ["mild", "moderate", "severe"] * 8
    assert len(PhantomImages(protocol).indices) == 540
    assert np.array_equal(few.image(0).counts, protocol.phantom(0).counts)


def _table(report, title):
    return next(table for table in report.tables if table.title == title)
