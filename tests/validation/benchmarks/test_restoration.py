"""The restoration benchmark: its arithmetic and its resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from srh_clinic.bundles import save_bundle
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.methods import WHOLE, protocol_methods
from srh_clinic.validation.benchmarks.restoration import phantom_rows, restoration
from srh_clinic.validation.reporting.report import Report

OURS = WHOLE


def rows_of(report: Report, title: str) -> dict[str, Any]:
    table = next(table for table in report.tables if table.title == title)
    return {row["method"]: row for row in table.rows}


def lines(bench: Bench) -> list[str]:
    return (bench.work / "restoration.jsonl").read_text().splitlines()


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
