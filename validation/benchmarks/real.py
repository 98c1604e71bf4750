"""Restoration of real patches, taken for clean and degraded by the simulator: real texture under known noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.intensity import FULL_SCALE, Counts, counts_to_unit, unit_to_counts
from srh_clinic.metrics import channel_coherence, incoherent_noise
from srh_clinic.resampling import block_mean
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.simulation import Degraded, Sources, degrade, draw_sources
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer, steps_asked
from srh_clinic.validation.bench.cells import CellStore
from srh_clinic.validation.bench.images import GAIN, read_patches
from srh_clinic.validation.bench.methods import Method, protocol_methods
from srh_clinic.validation.bench.protocol import SEVERITIES, Protocol
from srh_clinic.validation.benchmarks.realism import HIGH_FREQUENCY
from srh_clinic.validation.benchmarks.restoration import METHOD_COLUMNS, Row, judged, mean_of, means
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table

GAUSSIAN_SIGMA = 0.05
"""Standard deviation of the condition with Gaussian noise, unit intensity."""

NOISE_SEED = 7

Spoil = Callable[[np.random.Generator, NDArray[np.float32]], Degraded]
"""Degrades a clean image, float32 counts ``(2, H, W)``."""


def conditions(protocol: Protocol) -> dict[str, Spoil]:
    """Instrument noise alone and all sources, at the middle of each severity bin, and Gaussian noise."""

    def instrument(strength: float) -> Spoil:
        return lambda rng, clean: degrade(rng, clean, Sources(instrument=strength))

    def all_sources(strength: float) -> Spoil:
        return lambda rng, clean: degrade(rng, clean, draw_sources(rng, strength))

    middles = {name: sum(getattr(protocol.severity, name)) / 2 for name in SEVERITIES}
    return {
        **{f"instrument, {name}": instrument(strength) for name, strength in middles.items()},
        **{f"all sources, {name}": all_sources(strength) for name, strength in middles.items()},
        f"Gaussian {GAUSSIAN_SIGMA}": gaussian,
    }


def gaussian(rng: np.random.Generator, clean: NDArray[np.float32]) -> Degraded:
    """White Gaussian noise of :data:`GAUSSIAN_SIGMA`, stored as a detector would, clipped to its range."""
    noisy = counts_to_unit(clean) + rng.normal(0, GAUSSIAN_SIGMA, clean.shape)
    return Degraded(unit_to_counts(noisy), clean, np.full(clean.shape[1:], 2 * GAUSSIAN_SIGMA, np.float32))


def real_restoration(bench: Bench, folder: Path, *, strides: tuple[int, ...] = ()) -> Report:
    """Every method on real patches under each of :func:`conditions`.

    Parameters
    ----------
    folder
        See :func:`read_patches`.
    strides
        Further strides of the DDIM sampler to try.
    """
    # The samplers that evaluate the network at every step are compared on the phantoms.
    compared = tuple(method for method in protocol_methods(bench.protocol, strides) if not method.slow)
    whole = read_patches(folder)
    sets = {"as they are": whole, "halved": {f"{name}, halved": halved(counts) for name, counts in whole.items()}}
    names = list(conditions(bench.protocol))
    rows = {title: _rows(bench, compared, patches) for title, patches in sets.items()}

    criteria = [
        {**row, "asked": f"{title}: {row['asked']}"}
        for title in sets
        for row in (_criterion(name, compared, rows[title]) for name in names)
    ]
    tables = [
        Table("What was asked", CRITERIA, criteria),
        Table(
            "PSNR (dB) above the best of input and filters, by patch",
            (
                Column("patch", "Patch"),
                Column("own", "Steps the calibrator reads in the patch itself", ".1f"),
                Column("incoherent", "Steps of its incoherent power", ".0f"),
                Column("coherence", "Coherence of its channels", ".2f"),
                *(Column(name, name, "+.2f") for name in names),
            ),
            [row for title, patches in sets.items() for row in _by_patch(bench, compared, rows[title], patches)],
            "The second column is what the calibrator reads in the patch before anything is added to it. The next two need no "
            f"network: how far its channels agree above {HIGH_FREQUENCY} cycles a pixel, where tissue shows in both and the "
            "noise of one is not that of the other, and the steps of white noise of the power by which they do not agree, in "
            "the noisier channel. A patch that brings noise of its own is no clean reference: whatever takes that noise away "
            "as well is charged for it.",
        ),
    ]
    for title, patches in sets.items():
        for metric, words, digits in (("psnr", "PSNR (dB)", ".2f"), ("ssim", "SSIM", ".3f")):
            columns = (Column("method", "Method"), *(Column(name, name, digits) for name in names))
            body = [
                {"method": m.name, **{name: mean_of(rows[title][name, m.name], metric) for name in names}} for m in compared
            ]
            tables.append(Table(f"{words}, mean of {len(patches)} patches {title}", columns, body))
    tables += [
        Table(
            name,
            METHOD_COLUMNS,
            [{"method": method.name, **means(rows["as they are"][name, method.name])} for method in compared],
        )
        for name in names
    ]
    return Report(
        name="real",
        title="Restoration of real patches",
        summary=(
            f"{len(whole)} real SRH patches, whose colours are stretched, taken for clean and degraded by the simulator at "
            f"the middle of each severity bin, as they are and averaged over 2 x 2 pixels, which halves their own noise. Real "
            f"texture ({FULL_SCALE:,} counts to unit 1, CH2 scaled by {GAIN[0]}, CH3 by {GAIN[1]}), simulated noise. Too few "
            "patches for intervals: the smallest margin over all of them stands instead."
        ),
        tables=tuple(tables),
        provenance=bench.provenance(NOISE_SEED),
    )


def halved(counts: Counts) -> Counts:
    """Means over 2 x 2 pixels, uint16 counts ``(2, H // 2, W // 2)``."""
    return np.rint(block_mean(counts, 2)).astype(np.uint16)


def _rows(bench: Bench, compared: tuple[Method, ...], patches: Mapping[str, Counts]) -> dict[tuple[str, str], list[Row]]:
    """The cells of each condition and method, one for each patch; those not on disk yet are computed and put there."""
    cells = CellStore(bench.work / "real.jsonl", ("condition", "patch", "method"))
    restorers = {method.name: PhantomRestorer(bench, method) for method in compared}
    spoils = conditions(bench.protocol)
    rows: dict[tuple[str, str], list[Row]] = {}
    for place, (condition, spoil) in enumerate(spoils.items()):
        degraded = {
            i: spoil(np.random.default_rng([NOISE_SEED, place, i]), clean.astype(np.float32))
            for i, clean in enumerate(patches.values())
        }
        for name, restorer in restorers.items():
            key = bench.fingerprint(learned=False, restored=restorer.fingerprint)
            missing = [i for i, patch in enumerate(patches) if cells.get(key, condition, patch, name) is None]
            for i, restored in restorer({i: degraded[i].counts for i in missing}).items():
                patch = list(patches)[i]
                numbers = judged(restored, patches[patch], degraded[i].expected, bench.protocol)
                cells.put(key, condition=condition, patch=patch, method=name, **numbers)
            rows[condition, name] = [row for patch in patches if (row := cells.get(key, condition, patch, name))]
        bench.report("real patches", place + 1, len(spoils))
    return rows


def _by_patch(
    bench: Bench, compared: tuple[Method, ...], rows: Mapping[tuple[str, str], list[Row]], patches: Mapping[str, Counts]
) -> list[dict[str, Any]]:
    """Margin of ours over the best method without weights on each patch, beside the noise that the patch brings along."""
    own = steps_asked(bench, list(patches.values()))
    sigma = create_schedule(bench.bundle.metadata["schedule"]).sigma
    ours, rivals = compared[0].name, [method.name for method in compared if not method.parts]
    conditions_met = dict.fromkeys(condition for condition, _ in rows)
    return [
        {
            "patch": patch,
            "own": float(own[i]),
            "incoherent": int(
                np.abs(sigma - 2 * max(incoherent_noise(counts_to_unit(patches[patch]), HIGH_FREQUENCY))).argmin()
            )
            + 1,
            "coherence": channel_coherence(patches[patch], HIGH_FREQUENCY),
            **{
                name: rows[name, ours][i]["psnr"] - max(rows[name, rival][i]["psnr"] for rival in rivals)
                for name in conditions_met
            },
        }
        for i, patch in enumerate(patches)
    ]


def _criterion(condition: str, compared: tuple[Method, ...], rows: Mapping[tuple[str, str], list[Row]]) -> dict[str, Any]:
    """Whether ours is above the input and every filter on every patch."""
    ours = rows[condition, compared[0].name]
    worst = {}
    for metric in ("psnr", "ssim"):
        margins = {
            method.name: min(a[metric] - b[metric] for a, b in zip(ours, rows[condition, method.name], strict=True))
            for method in compared
            if not method.parts
        }
        rival = min(margins, key=lambda name: margins[name])
        worst[metric] = (margins[rival], rival)
    return {
        "asked": f"{condition}: above the input and every filter on every patch",
        "measured": "smallest margin "
        + ", ".join(f"{metric.upper()} {margin:+.3f} ({rival})" for metric, (margin, rival) in worst.items()),
        "met": all(margin > 0 for margin, _ in worst.values()),
    }
