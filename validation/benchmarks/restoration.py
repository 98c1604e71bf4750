"""Restoration of the protocol's phantoms: how near does each method come to what a perfect instrument would have seen?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.estimates import Interval
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import psnr, ssim
from srh_clinic.simulation import Phantom
from srh_clinic.validation.bench.bench import TIMED, Bench, PhantomRestorer, RestoredPhantom, chunks, timed
from srh_clinic.validation.bench.cells import CellStore, Row
from srh_clinic.validation.bench.methods import FILTERS, FIXED_STEPS, Method, protocol_methods
from srh_clinic.validation.bench.protocol import SEVERITIES, Protocol
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table

METHOD_COLUMNS = (
    Column("method", "Method"),
    Column("n", "n", "d"),
    Column("psnr", "PSNR (dB)", ".2f"),
    Column("ssim", "SSIM", ".3f"),
    Column("psnr_expected", "PSNR to noise-free (dB)", ".2f"),
    Column("ssim_expected", "SSIM to noise-free", ".3f"),
    Column("predicted", "Steps predicted", ".1f"),
    Column("steps", "Steps run", ".1f"),
    Column("evaluations", "Evaluations a tile", ".1f"),
    Column("seconds", "Seconds a tile", ".3f"),
)


def judged(restored: RestoredPhantom, clean: Counts, expected: NDArray[Any], protocol: Protocol) -> dict[str, Any]:
    """The numbers of one cell; ``clean`` and ``expected`` are counts ``(2, H, W)``."""
    window = protocol.restoration.ssim
    image = counts_to_unit(restored.counts)
    return {
        **{
            f"psnr{suffix}": psnr(image, counts_to_unit(reference))
            for suffix, reference in (("", clean), ("_expected", expected))
        },
        **{
            f"ssim{suffix}": ssim(image, counts_to_unit(reference), sigma=window.sigma, size=window.size)
            for suffix, reference in (("", clean), ("_expected", expected))
        },
        "predicted": restored.steps_predicted,
        "steps": restored.steps,
        "evaluations": restored.evaluations,
        "seconds": round(restored.seconds, 4),
        "machine": restored.machine,
    }


def restoration(bench: Bench, *, limit_slow: int | None = None, strides: Sequence[int] = ()) -> Report:
    """Every method on the protocol's phantoms.

    Parameters
    ----------
    limit_slow
        Restore only the first so many phantoms by the samplers that evaluate the network at every step.
    strides
        Further strides of the DDIM sampler to try.
    """
    compared = protocol_methods(bench.protocol, strides)
    rows = phantom_rows(bench, compared, limit_slow)
    reference = rows[compared[0].name]
    bins = {name: [i for i in bench.indices if bench.protocol.bin(i) == name] for name in SEVERITIES}

    first = {i: bench.protocol.phantom(i).counts for i in bench.indices[:TIMED]}
    times = {method.name: timed(bench, method, first) for method in compared}
    overall = [{"method": name, **means(list(cells.values())), "seconds": times[name][0]} for name, cells in rows.items()]
    by_severity = [
        {"method": name, **{f"{metric}_{bin_}": bench.mean(values) for bin_, metric, values in _binned(cells, bins)}}
        for name, cells in rows.items()
    ]
    differences = []
    for name, cells in list(rows.items())[1:]:
        for metric in ("psnr", "ssim"):
            row: dict[str, Any] = {"method": name, "metric": metric.upper(), "n": len(cells)}
            for bin_, members in {"all": list(bench.indices), **bins}.items():
                shared = [i for i in members if i in cells]
                if shared:
                    row[bin_] = bench.difference([reference[i][metric] for i in shared], [cells[i][metric] for i in shared])
            differences.append(row)
    return Report(
        name="restoration",
        title="Restoration of the protocol's phantoms",
        summary=(
            f"{len(bench.indices)} test phantoms; {compared[0].name} is the default. PSNR and SSIM against the clean image, "
            "and against the noise-free degraded one, from which only noise is missing. Intervals are "
            f"{bench.protocol.restoration.interval.level:.0%} bootstrap intervals over phantoms."
        ),
        tables=(
            Table("What was asked", CRITERIA, _criteria(differences, compared[0].name)),
            Table("All phantoms", METHOD_COLUMNS, overall, _machines(rows, times)),
            Table("PSNR (dB) by severity", _severity_columns("psnr", ".2f"), by_severity),
            Table("SSIM by severity", _severity_columns("ssim", ".3f"), by_severity),
            *(
                Table(
                    f"{compared[0].name} minus each method, {metric}",
                    (Column("method", "Method"), Column("n", "n", "d"), *(Column(b, b, digits) for b in ("all", *SEVERITIES))),
                    [row for row in differences if row["metric"] == metric],
                    "On the phantoms that both restored.",
                )
                for metric, digits in (("PSNR", "+.2f"), ("SSIM", "+.4f"))
            ),
        ),
        provenance=bench.provenance(bench.protocol.restoration.interval.seed, limit_slow=limit_slow),
    )


def phantom_rows(bench: Bench, compared: Sequence[Method], limit_slow: int | None = None) -> dict[str, dict[int, Row]]:
    """The cells of each method by phantom; those that are not on disk yet are computed and put there."""
    cells = CellStore(bench.work / "restoration.jsonl", ("phantom", "method"))
    wanted = {m.name: bench.indices[: limit_slow if m.slow else None] for m in compared}
    total, done = sum(len(indices) for indices in wanted.values()), 0
    with ExitStack() as stack:
        restorers = {
            method.name: stack.enter_context(PhantomRestorer(bench, method, keep=place == 0))
            for place, method in enumerate(compared)
        }
        keys = {name: bench.fingerprint(learned=False, restored=one.fingerprint) for name, one in restorers.items()}
        for members in chunks(bench.indices):
            phantoms = _Lazily(bench.protocol.phantom)
            for name, restorer in restorers.items():
                missing = [i for i in members if i in wanted[name] and cells.get(keys[name], i, name) is None]
                for i, restored in restorer({i: phantoms[i].counts for i in missing}).items():
                    numbers = judged(restored, phantoms[i].clean, phantoms[i].expected, bench.protocol)
                    cells.put(keys[name], phantom=i, method=name, **numbers)
                done += sum(i in wanted[name] for i in members)
                bench.report("restoration", done, total)
    return {name: {i: cell for i in indices if (cell := cells.get(keys[name], i, name))} for name, indices in wanted.items()}


def _machines(rows: Mapping[str, Mapping[int, Row]], times: Mapping[str, tuple[float, str]]) -> str:
    """On what phantoms were restored, and on what their time was taken."""
    restored = sorted({cell["machine"] for cells in rows.values() for cell in cells.values()})
    timed_on = sorted({machine for _, machine in times.values()})
    first = f"Seconds a tile are of {TIMED} phantoms, restored in a run of their own on {' and '.join(timed_on)}"
    return f"{first}; all of them were restored on {' and '.join(restored)}."


class _Lazily(dict[int, Phantom]):
    """Phantoms, each simulated when it is first asked for."""

    def __init__(self, simulate: Callable[[int], Phantom]) -> None:
        super().__init__()
        self.simulate = simulate

    def __missing__(self, index: int) -> Phantom:
        self[index] = self.simulate(index)
        return self[index]


def mean_of(rows: Sequence[Row], key: str) -> float | None:
    """Mean of one number over the cells that have it."""
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Number of cells and the mean of each of their numbers, None where no cell has it."""
    return {"n": len(rows), **{column.key: mean_of(rows, column.key) for column in METHOD_COLUMNS[2:]}}


def _binned(cells: Mapping[int, Row], bins: Mapping[str, Sequence[int]]) -> list[tuple[str, str, list[float]]]:
    found = [
        (name, metric, [cells[i][metric] for i in members if i in cells])
        for name, members in bins.items()
        for metric in ("psnr", "ssim")
    ]
    return [entry for entry in found if entry[2]]


def _severity_columns(metric: str, digits: str) -> tuple[Column, ...]:
    return (Column("method", "Method"), *(Column(f"{metric}_{name}", name, digits) for name in SEVERITIES))


def _criteria(differences: Sequence[Row], name: str) -> list[Row]:
    """Whether the lower end of every paired difference is above zero."""
    criteria: list[Row] = []
    rivals = ("input", *FILTERS.values(), *FIXED_STEPS)
    for row in differences:
        if row["method"] not in rivals:
            continue
        found = {b: row[b] for b in ("all", *SEVERITIES) if b in row}
        ends = {b: one.low if isinstance(one, Interval) else -math.inf for b, one in found.items()}
        worst = min(ends, key=lambda b: ends[b])
        criteria.append(
            {
                "asked": f"{row['metric']} of {name} above {row['method']} at every severity",
                "measured": f"lowest end of an interval {ends[worst]:+.4f} ({worst})"
                if isinstance(found[worst], Interval)
                else f"no interval ({worst})",
                "met": all(end > 0 for end in ends.values()),
            }
        )
    return criteria
