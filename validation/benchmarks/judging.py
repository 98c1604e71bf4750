"""How near the PSNR that is estimated without a reference comes to the true one, on phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srh_clinic.bundles import load_bundle
from srh_clinic.estimates import Interval
from srh_clinic.intensity import FULL_SCALE, Counts, counts_to_unit, rounded_counts
from srh_clinic.metrics import measured, psnr, upsnr
from srh_clinic.metrics.unreferenced import ADDED
from srh_clinic.progress import Progress, silent
from srh_clinic.simulation import Sources, degrade
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.images import tiles_sha256
from srh_clinic.validation.bench.methods import WHOLE, Method, chosen_methods
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.benchmarks.near_clean import NOISE_SEED, STRENGTHS
from srh_clinic.validation.reporting.page import write_report
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table

PHANTOMS = 12
"""Tiles that are judged by, as many as ``srh-clinic judge`` takes."""

MOST_ERROR_DB = 0.3
"""Largest error of an estimate that was asked for."""

COMPARED = ("input", WHOLE, "nlm", "wavelet", "median")


def run_judging(
    out: str | Path,
    *,
    limit: int = PHANTOMS,
    methods: Sequence[str] | None = None,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    report: Progress = silent,
) -> Report:
    """Make the report of :func:`judging` and write it into ``out``.

    Raises
    ------
    InputError
        When a name is unknown, weights are not there, or ``out`` cannot be written.
    """
    bench = Bench(load_protocol(None), load_bundle(bundle), Path(out), device, limit, report, Path(weights))
    made = judging(bench, chosen_methods(tuple(methods or COMPARED)))
    write_report(made, out)
    return made


def judging(bench: Bench, methods: Sequence[Method]) -> Report:
    """Each method on phantoms under instrument noise of each strength: the true PSNR, and the one without a reference."""
    rows: list[dict[str, Any]] = []
    for strength in STRENGTHS:
        rows += _at(bench, methods, strength)
        bench.report("judging", len(rows), len(STRENGTHS) * len(methods))
    worst = max(abs(row["error"]) for row in rows)
    orders = [_agreement([row for row in rows if row["strength"] == strength]) for strength in STRENGTHS]
    asked = [
        {"asked": f"error of at most {MOST_ERROR_DB} dB", "measured": f"{worst:.2f} dB", "met": worst <= MOST_ERROR_DB},
        {
            "asked": "the same method first as by the true PSNR, at each strength",
            "measured": ", ".join("yes" if same else "no" for same in orders),
            "met": all(orders),
        },
    ]
    return Report(
        name="judging",
        title="Judging without a reference",
        summary=(
            f"{len(bench.indices)} phantoms under the simulator's instrument noise. The truth is what endless averaging of "
            "the same optics would give: a gain that the instrument has wrong is in it, since no estimate without a reference "
            "can see that."
        ),
        tables=(
            Table("What was asked", CRITERIA, asked),
            Table(
                "PSNR with and without a reference",
                (
                    Column("strength", "Strength", ".2f"),
                    Column("method", "Method"),
                    Column("true", "True PSNR (dB)", ".2f"),
                    Column("estimated", "Estimated (dB)", ".2f"),
                    Column("error", "Error (dB)", "+.2f"),
                    Column("true_difference", "True, CH3 - CH2 (dB)", ".2f"),
                    Column("estimated_difference", "Estimated (dB)", ".2f"),
                ),
                rows,
            ),
        ),
        provenance=bench.provenance(NOISE_SEED),
    )


def _at(bench: Bench, methods: Sequence[Method], strength: float) -> list[dict[str, Any]]:
    made = [
        degrade(
            np.random.default_rng([NOISE_SEED, i]),
            bench.protocol.phantom(i).clean.astype(np.float32),
            Sources(instrument=strength),
        )
        for i in bench.indices
    ]
    scanned: dict[int, Counts] = dict(enumerate(one.counts for one in made))
    truth = np.stack([one.expected for one in made]).astype(np.float64) / FULL_SCALE
    by, _, _ = measured(np.stack([counts_to_unit(one) for one in scanned.values()]), NOISE_SEED)
    more, less = (
        {i: rounded_counts(counts + sign * ADDED * FULL_SCALE * by.added[i]) for i, counts in scanned.items()}
        for sign in (1, -1)
    )
    rows: list[dict[str, Any]] = []
    for method in methods:
        restored, of_more, of_less = (
            np.stack(
                [
                    counts_to_unit(one.counts)
                    for one in PhantomRestorer(bench, method, images=tiles_sha256(images.values()))(images).values()
                ]
            )
            for images in (scanned, more, less)
        )
        channels, difference = (upsnr(errors) for errors in by.errors(restored, of_more, of_less).T)
        true = psnr(np.concatenate(restored, axis=1), np.concatenate(truth, axis=1))
        apart = (restored - truth)[:, 1] - (restored - truth)[:, 0]
        rows.append(
            {
                "strength": strength,
                "method": method.name,
                "true": true,
                "estimated": channels,
                "error": channels.value - true if isinstance(channels, Interval) else float("nan"),
                "true_difference": float(-10 * np.log10(max(float((apart**2).mean()), 1e-12))),
                "estimated_difference": difference,
            }
        )
    return rows


def _agreement(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the estimates put the same method first as the truth."""
    first = max(rows, key=lambda row: row["true"])
    return first is max(rows, key=lambda row: row["true"] + row["error"])
