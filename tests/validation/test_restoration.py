"""The restoration benchmark: its arithmetic, its resuming, and what it keeps apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from srh_clinic.bundles import save_bundle
from srh_clinic.errors import InputError
from srh_clinic.restorers import create_restorer
from srh_clinic.rscd.restoration import RSCDSettings
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.images import read_patches
from srh_clinic.validation.bench.methods import METHODS, WHOLE, protocol_methods
from srh_clinic.validation.benchmarks.real import conditions, halved, real_restoration
from srh_clinic.validation.benchmarks.restoration_section import phantom_rows, restoration
from srh_clinic.validation.reporting.report import Report

OURS = WHOLE


def rows_of(report: Report, title: str) -> dict[str, Any]:
    table = next(table for table in report.tables if table.title == title)
    return {row["method"]: row for row in table.rows}


def lines(bench: Bench) -> list[str]:
    return (bench.work / "restoration.jsonl").read_text().splitlines()


def test_the_protocols_methods_are_all_there(bench: Bench) -> None:
    names = [method.name for method in protocol_methods(bench.protocol, strides=[8])]
    assert names[0] == f"rscd_{RSCDSettings().sampler}"
    assert set(names) == {
        "rscd_ddim",
        "rscd_mean",
        "rscd",
        "rscd_ddim_stride_8",
        "rscd_fixed_10",
        "rscd_fixed_50",
        "input",
        "median",
        "median_3",
        "gaussian_1",
        "nlm",
    }
    fixed = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd_fixed_50")
    assert RSCDSettings(**fixed.settings) == RSCDSettings(fixed_steps=50)


def test_the_tables_are_the_means_and_differences_of_the_cells(bench: Bench) -> None:
    report = restoration(bench, limit_slow=4)
    overall = rows_of(report, "All phantoms")
    phantoms = [bench.protocol.phantom(i) for i in bench.indices]
    untouched = [peak_signal_noise_ratio(p.clean / 65536, p.counts / 65536, data_range=1) for p in phantoms]
    # Unit intensity is float32.
    assert overall["input"]["psnr"] == pytest.approx(np.mean(untouched), abs=1e-4)
    assert overall["input"]["n"] == 6
    assert overall["rscd"]["n"] == overall["rscd_mean"]["n"] == 4
    assert overall["rscd_fixed_10"]["steps"] == 10
    assert overall["rscd_fixed_10"]["predicted"] is None
    assert overall[OURS]["predicted"] > 0

    cells = {(row["phantom"], row["method"]): row for row in map(json.loads, lines(bench))}
    margin = [cells[i, OURS]["psnr"] - cells[i, "nlm"]["psnr"] for i in bench.indices]
    difference = rows_of(report, f"{OURS} minus each method, PSNR")["nlm"]
    assert difference["all"].value == pytest.approx(np.mean(margin))
    assert difference["severe"].value == pytest.approx(np.mean(margin[2::3]))
    assert difference["severe"].n == 2
    asked = {row["asked"]: row["met"] for row in report.tables[0].rows}
    every_end = [difference[name].low > 0 for name in ("all", "mild", "moderate", "severe")]
    assert asked[f"PSNR of {OURS} above nlm at every severity"] == all(every_end)


def test_a_rerun_does_only_what_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = phantom_rows(bench, protocol_methods(bench.protocol))
    kept = lines(bench)
    (bench.work / "restoration.jsonl").write_text("\n".join(line for line in kept if line != kept[17]) + "\n")
    restored: list[int] = []
    restore = PhantomRestorer.__call__

    def watched(self: PhantomRestorer, degraded: dict[int, Any]) -> Any:
        restored.extend(degraded)
        return restore(self, degraded)

    monkeypatch.setattr(PhantomRestorer, "__call__", watched)
    again = phantom_rows(bench, protocol_methods(bench.protocol))
    assert restored == [json.loads(kept[17])["phantom"]]
    assert {name: list(cells) for name, cells in again.items()} == {name: list(cells) for name, cells in first.items()}
    before, after = json.loads(kept[17]), json.loads(lines(bench)[-1])
    assert (after["phantom"], after["method"]) == (before["phantom"], before["method"])
    # Alone in its batch, a tile's float sums have another order.
    assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-4)


def test_cells_of_other_weights_are_not_ours(bench: Bench, tmp_path: Path) -> None:
    parts = {part: (bench.bundle.config(part), bench.bundle.load_tensors(part)) for part in bench.bundle.parts}
    torch.nn.init.normal_(parts["denoiser"][1]["unet.out.2.conv.weight"], std=0.2)
    bench = replace(bench, limit=1)
    other = replace(bench, bundle=save_bundle(tmp_path / "other", parts, {"tile": 64, "patch": 64}))
    compared = protocol_methods(bench.protocol)
    first, second = phantom_rows(bench, compared), phantom_rows(other, compared)
    assert first[OURS][0]["psnr"] != second[OURS][0]["psnr"]
    assert first["nlm"] == second["nlm"]
    assert first == phantom_rows(bench, compared)


def test_a_restored_phantom_does_not_depend_on_its_company(bench: Bench) -> None:
    ancestral = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd")
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    restore = PhantomRestorer(bench, ancestral)
    together, alone = restore(degraded)[2], restore({2: degraded[2]})[2]
    # Batches differ, and so does the order of float sums.
    assert np.abs(together.counts.astype(int) - alone.counts).max() <= 1
    assert together.steps == alone.steps


def test_every_phantom_has_noise_of_its_own(bench: Bench) -> None:
    ancestral = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd")
    same = bench.protocol.phantom(0).counts
    restored = PhantomRestorer(bench, ancestral)({0: same, 1: same})
    assert not np.array_equal(restored[0].counts, restored[1].counts)


def test_kept_phantoms_are_those_restored(bench: Bench) -> None:
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        fresh = restore(degraded)
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        kept = restore({2: np.zeros_like(degraded[2])})[2]
    assert np.array_equal(kept.counts, fresh[2].counts)
    assert (kept.steps, kept.evaluations, kept.seconds) == (fresh[2].steps, fresh[2].evaluations, fresh[2].seconds)


def test_what_was_kept_does_not_come_first(bench: Bench) -> None:
    """A resampling of the results in their order would otherwise say something else after an interrupted run."""
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        restore({2: degraded[2]})
        assert list(restore(degraded)) == [0, 1, 2]


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    folder = tmp_path / "patches"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_patches_become_counts(patches: Path) -> None:
    colours = np.asarray(Image.open(patches / "a.png"))
    counts = read_patches(patches)["a.png"]
    assert counts[0, 5, 6] == round(colours[5, 6, 1] / 255 * 0.55 * 65536)
    assert counts[1, 5, 6] == round(colours[5, 6, 2] / 255 * 0.60 * 65536)
    with pytest.raises(InputError, match="found no PNG image"):
        read_patches(patches.parent)


def test_gaussian_noise_is_that_strong() -> None:
    clean = np.full((2, 200, 200), 30_000, np.float32)
    spoilt = conditions_of_default()["Gaussian 0.05"](np.random.default_rng(0), clean)
    # The standard deviation of 80,000 draws is known to 0.25 %.
    assert (spoilt.counts.astype(float) - clean).std() == pytest.approx(0.05 * 65536, rel=0.01)


def conditions_of_default() -> dict[str, Any]:
    from srh_clinic.validation.bench.protocol import load_protocol

    return dict(conditions(load_protocol()))


def test_real_patches_are_compared_one_by_one(bench: Bench, patches: Path) -> None:
    report = real_restoration(bench, patches)
    names = list(conditions(bench.protocol))
    assert len(names) == 7
    by_condition = {table.title: table for table in report.tables if table.title in names}
    assert list(by_condition) == names
    assert {row["n"] for table in by_condition.values() for row in table.rows} == {2}
    by_patch = {row["patch"]: row for row in report.tables[1].rows}
    assert list(by_patch) == ["a.png", "b.png", "a.png, halved", "b.png, halved"]
    for name, row in zip(names, report.tables[0].rows[: len(names)], strict=True):
        smallest = min(by_patch[patch][name] for patch in ("a.png", "b.png"))
        assert f"smallest margin PSNR {smallest:+.3f}" in row["measured"]
    # White noise as an image is nothing that an untrained network restores better than leaving it alone.
    assert not any(row["met"] for row in report.tables[0].rows)
    again = real_restoration(bench, patches)
    assert again.tables == report.tables


def test_a_halved_patch_has_the_means_of_four_pixels() -> None:
    counts = np.arange(32, dtype=np.uint16).reshape(2, 4, 4) * 4
    assert halved(counts)[0].tolist() == [[10, 18], [42, 50]]


def test_the_input_is_left_as_it_is() -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (1, 2, 8, 8), dtype=np.uint16)
    assert np.array_equal(create_restorer("none").restore(counts).counts, counts)
