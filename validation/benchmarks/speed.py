"""Speed and memory of the restoration on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.errors import InputError
from srh_clinic.inference import choose_device, network_seconds
from srh_clinic.intensity import Counts
from srh_clinic.progress import Progress, silent
from srh_clinic.restorers import create_restorer
from srh_clinic.restorers.diffusion import create_rscd
from srh_clinic.rscd.networks import create_calibrator, create_denoiser, forward_gflop
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.validation.bench.bench import Bench, machine_of
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.benchmarks.memory import STEPS, TIME_LIMIT, measure
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table, write_report

LARGEST_MEMORY_RATIO = 1.3
"""Peak memory of the largest slide over that of the smallest; the aim."""

MEGABYTE = 1e6

CARD_BATCHES = (8, 64)
"""Tiles in one evaluation that a graphics card is timed with: RSCD's default, and one that fills it."""


@dataclass(eq=False)
class Counted:
    """A calibrator that counts the images it is shown."""

    calibrator: Callable[[Tensor], ArrayLike]
    images: int = 0

    def __call__(self, images: Tensor) -> ArrayLike:
        self.images += len(images)
        return self.calibrator(images)


def run_speed(
    out: str | Path,
    *,
    bundle: str | Path = "phantom-demo",
    device: str = "auto",
    tiles: int = 16,
    sizes: Sequence[int] = (2048, 8192),
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> Report:
    """Time the restoration of test phantoms, and take the peak memory of whole cases; write ``speed.md`` and ``speed.json``.

    Parameters
    ----------
    tiles
        Test phantoms to restore, by RSCD with its defaults and by non-local means.
    sizes
        Edges of the slides whose peak memory is taken, smallest first; none skips it.
    protocol
        Another protocol than the packaged one.
    report
        Called with the name of the stage, how much of it is done, and how much there is.

    Raises
    ------
    InputError
        When a number is not positive, the bundle lacks a network, or ``out`` cannot be written.
    """
    if tiles < 1 or any(size < 1 for size in sizes):
        raise InputError(f"{tiles} tiles and slides of {list(sizes)} pixels", "positive numbers")
    bench = Bench(load_protocol(protocol), load_bundle(bundle), Path(out), device, tiles, report)
    restored, costs = time_restoration(bench)
    memory = []
    for place, size in enumerate(sizes):
        report("peak memory", place, len(sizes))
        memory.append(measure(size, str(bench.bundle.path), device))
    report("peak memory", len(sizes), len(sizes))
    on_card = choose_device(device).type != "cpu"
    made = Report(
        name="speed",
        title="Speed and memory",
        summary=(
            f"{len(bench.indices)} test phantoms of all severities through RSCD with its defaults and through non-local "
            f"means, in one process with {torch.get_num_threads()} threads. Networks: the seconds inside forward passes."
        ),
        tables=(
            *([Table("What was asked", CRITERIA, [_memory_criterion(memory)])] if len(memory) > 1 else []),
            Table(
                "Restoring",
                (
                    Column("method", "Method"),
                    Column("tiles_per_s", "Tiles a second", ".3f"),
                    Column("seconds", "Seconds a tile", ".3f"),
                    Column("outside", "of them outside the networks", ".4f"),
                    Column("outside_share", "Share outside", ".1%"),
                    Column("gflop", "GFLOP a tile", ".1f"),
                    Column("against_nlm", "Time over non-local means", ".2f"),
                ),
                restored,
            ),
            Table(
                "What a tile costs",
                (
                    Column("network", "Network"),
                    Column("gflop", "GFLOP an evaluation", ".2f"),
                    Column("evaluations", "Evaluations a tile", ".2f"),
                    Column("total", "GFLOP a tile", ".1f"),
                ),
                costs,
                "One evaluation is one tile through the network once; a multiplication and an addition count as two.",
            ),
            *([_card_table(card_against_processor(bench))] if on_card else []),
            *([_memory_table(memory)] if memory else []),
        ),
        provenance=bench.provenance(0, threads=torch.get_num_threads()),
    )
    write_report(made, bench.out)
    return made


def time_restoration(bench: Bench) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the tables of speed and of cost, for the bench's phantoms."""
    bench.report("simulating", 0, len(bench.indices))
    counts = np.stack([bench.protocol.phantom(i).counts for i in bench.indices])
    bench.report("simulating", len(counts), len(counts))
    rscd = create_rscd("rscd", str(bench.bundle.path), bench.device, RSCDSettings())
    counted = Counted(rscd.diffusion.calibrator)
    restorer = replace(rscd, diffusion=replace(rscd.diffusion, calibrator=counted))
    restorer.restore(counts[:1])
    counted.images = 0

    bench.report("restoring", 0, 2)
    with network_seconds() as in_networks:
        began = time.perf_counter()
        evaluations = float(restorer.restore(counts, _apart(counts)).evaluations.mean())
        ours = time.perf_counter() - began
        inside = in_networks()
    bench.report("restoring", 1, 2)
    began = time.perf_counter()
    create_restorer("nlm").restore(counts)
    nlm = time.perf_counter() - began
    bench.report("restoring", 2, 2)

    costs = _costs(bench.bundle, counts.shape[-1], evaluations, counted.images / len(counts))
    n = len(counts)
    restored = [
        {
            "method": f"RSCD ({rscd.diffusion.settings.sampler})",
            "tiles_per_s": n / ours,
            "seconds": ours / n,
            "outside": (ours - inside) / n,
            "outside_share": (ours - inside) / ours,
            "gflop": sum(row["total"] for row in costs),
            "against_nlm": ours / nlm,
        },
        {"method": "non-local means", "tiles_per_s": n / nlm, "seconds": nlm / n, "against_nlm": 1.0},
    ]
    return restored, costs


def card_against_processor(bench: Bench) -> list[dict[str, Any]]:
    """RSCD on the bench's device and on the processor: time, and how far apart the restored counts are."""
    counts = np.stack([bench.protocol.phantom(i).counts for i in bench.indices])
    bench.report("on the processor", 0, 1)
    began = time.perf_counter()
    reference = create_restorer("rscd", str(bench.bundle.path), "cpu").restore(counts, _apart(counts))
    processor = (time.perf_counter() - began) / len(counts)
    bench.report("on the processor", 1, 1)
    rows: list[dict[str, Any]] = [{"where": machine_of("cpu"), "batch": 8, "seconds": processor}]
    for batch in CARD_BATCHES:
        restorer = create_restorer("rscd", str(bench.bundle.path), bench.device, batch_size=batch)
        restorer.restore(counts[:batch], _apart(counts[:batch]))  # plans memory and kernels
        began = time.perf_counter()
        made = restorer.restore(counts, _apart(counts))
        seconds = (time.perf_counter() - began) / len(counts)
        same = made.steps == reference.steps
        apart = np.abs(made.counts[same].astype(np.int64) - reference.counts[same])
        rows.append(
            {
                "where": machine_of(bench.device),
                "batch": batch,
                "seconds": seconds,
                "ratio": processor / seconds,
                "same_steps": float(same.mean()),
                "median": float(np.median(apart)),
                "largest": int(apart.max()),
            }
        )
    return rows


def _card_table(rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        Column("where", "Where"),
        Column("batch", "Tiles an evaluation", "d"),
        Column("seconds", "Seconds a tile", ".4f"),
        Column("ratio", "Times faster", ".1f"),
        Column("same_steps", "Tiles that ran the same steps", ".1%"),
        Column("median", "Median difference of them (counts)", ".1f"),
        Column("largest", "Largest (counts)", "d"),
    )
    return Table("The same tiles on the processor and on the card", columns, rows, "Counts go from 0 to 65,535.")


def _apart(counts: Counts) -> np.ndarray:
    """A place of its own for each tile, as on a slide."""
    return np.array([(i * counts.shape[-1], 0) for i in range(len(counts))])


def _costs(bundle: Bundle, size: int, denoised: float, calibrated: float) -> list[dict[str, Any]]:
    """GFLOP of each network on one tile of ``size`` px, times how often it sees a tile."""
    tile = torch.zeros(1, 2, size, size)
    denoiser = create_denoiser(bundle.config("denoiser")).eval()
    calibrator = create_calibrator(bundle.config("calibrator")).eval()
    gflop = {
        "denoiser": (forward_gflop(denoiser, tile, torch.zeros(1, dtype=torch.long)), denoised),
        "calibrator": (forward_gflop(calibrator, tile), calibrated),
    }
    return [
        {"network": name, "gflop": each, "evaluations": times, "total": each * times} for name, (each, times) in gflop.items()
    ]


def _memory_table(memory: Sequence[dict[str, Any]]) -> Table:
    rows = [
        {
            **one,
            "peak": one["peak_bytes"] / MEGABYTE,
            "loaded": one["loaded_bytes"] / MEGABYTE,
            "ratio": one["peak_bytes"] / memory[0]["peak_bytes"] if "peak_bytes" in memory[0] else None,
        }
        if "peak_bytes" in one
        else one
        for one in memory
    ]
    return Table(
        "Peak memory of a whole case: restored, classified, pictures drawn",
        (
            Column("size", "Slide (px)", "d"),
            Column("tiles", "Tiles", "d"),
            Column("peak", "Peak (MB)", ",.0f"),
            Column("loaded", "of them before the case (MB)", ",.0f"),
            Column("ratio", "Peak over the smallest slide's", ".3f"),
            Column("seconds", "Seconds", ".0f"),
        ),
        rows,
        f"Resident memory of a process of its own; each tile runs {STEPS} reverse step, for memory does not depend on the "
        f"steps. A dash: given up after {TIME_LIMIT} s.",
    )


def _memory_criterion(memory: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, last = memory[0], memory[-1]
    measured = "peak_bytes" in first and "peak_bytes" in last
    ratio = last["peak_bytes"] / first["peak_bytes"] if measured else None
    return {
        "asked": f"peak memory at {last['size']} px at most {LARGEST_MEMORY_RATIO} times that at {first['size']} px",
        "measured": "given up" if ratio is None else f"{ratio:.3f}",
        "met": ratio is not None and ratio <= LARGEST_MEMORY_RATIO,
    }
