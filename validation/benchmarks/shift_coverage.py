"""How often the intervals over patients contain the truth, over simulated cohorts, beside intervals over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from srh_clinic.diagnosis import CLASSES
from srh_clinic.metrics import Finding, Interval, Undefined, proportion
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table, provenance, write_report
from srh_clinic.validation.shift.simulated import Scenario, SimulatedCohort, simulate
from srh_clinic.validation.statistics.clusters import difference, naive_difference, share
from srh_clinic.validation.statistics.roc import delong, obuchowski, structural_components

LEAST, MOST = 0.91, 0.99
"""What is asked of a 95 % interval over patients: how often it contains the truth."""

NAIVE_MOST = 0.90
"""The coverage of the interval over rows that it must fall below for clustering to matter in a scenario."""

RESAMPLES = 1000

REFERENCE_PATIENTS = 40_000
"""Of the cohort that the true AUCs are taken from; its error is 4 % of a cohort of 60's."""

SCENARIOS = (
    Scenario("no effect, strong clustering", (0.30, 0.30), (0.20, 0.20), patient_sd=2.0, patient_correlation=0.2),
    Scenario("paper's effect: 22 % to 76 % correct", (0.52, 0.18), (0.26, 0.06)),
    Scenario("rare harm: 4 % newly wrong", (0.50, 0.15), (0.05, 0.0465), patient_sd=1.0),
    Scenario("rarer harm: 2 % newly wrong", (0.50, 0.15), (0.05, 0.0233), patient_sd=1.0),
)

HARM = "nondiagnostic to wrong"

COLUMNS = (
    Column("scenario", "Truth"),
    Column("of", "Of what"),
    Column("truth", "True value", ".3f"),
    Column("n", "Intervals", "d"),
    Column("coverage", "Coverage, over patients", ".3f"),
    Column("naive", "Coverage, over rows", ".3f"),
    Column("above", "Truth above, over patients", ".3f"),
    Column("below", "Truth below, over patients", ".3f"),
    Column("width", "Mean width, over patients", ".3f"),
    Column("naive_width", "Mean width, over rows", ".3f"),
)


@dataclass
class _Tally:
    """Intervals of one number that were found so far."""

    truth: float
    clustered: list[Interval] = field(default_factory=list)
    naive: list[Interval] = field(default_factory=list)
    undefined: int = 0

    def add(self, clustered: Finding, naive: Finding) -> None:
        if isinstance(clustered, Undefined) or isinstance(naive, Undefined):
            self.undefined += 1
        else:
            self.clustered.append(clustered)
            self.naive.append(naive)

    def row(self) -> dict[str, Any]:
        n = len(self.clustered)
        if not n:
            return {"truth": self.truth, "n": 0, "undefined": self.undefined}
        above, below = (
            sum(one.high < self.truth for one in self.clustered),
            sum(one.low > self.truth for one in self.clustered),
        )
        return {
            "truth": self.truth,
            "n": n,
            "coverage": proportion(n - above - below, n),
            "naive": proportion(sum(one.low <= self.truth <= one.high for one in self.naive), n),
            "above": above / n,
            "below": below / n,
            "width": float(np.mean([one.high - one.low for one in self.clustered])),
            "naive_width": float(np.mean([one.high - one.low for one in self.naive])),
            "undefined": self.undefined,
        }


def shift_coverage(
    cohorts: int = 300,
    seed: int = 0,
    *,
    scenarios: Sequence[Scenario] = SCENARIOS,
    report: Progress = silent,
) -> Report:
    """Coverage of the intervals over patients and over rows.

    Of the difference in accuracy, the share wrong after, the rate of nondiagnostic cases that become wrong, and the difference
    in the AUC of tumor against the rest. The truth of the first three is exact; that of the AUCs is their value in one
    cohort of 40,000 patients. The same seed gives the same numbers.

    Parameters
    ----------
    cohorts
        To simulate of each scenario.
    report
        Told of each scenario when it begins.
    """
    rows: list[dict[str, Any]] = []
    for number, scenario in enumerate(scenarios):
        report(scenario.name, number, len(scenarios))
        rows += _rows(scenario, cohorts, np.random.default_rng([seed, number]))
    shares = [row["coverage"].value for row in rows if "coverage" in row]
    naive = [min(row["naive"].value for row in rows if row["scenario"] == one.name and "naive" in row) for one in scenarios]
    criteria = [
        {
            "asked": f"coverage of the 95 % interval over patients from {LEAST:.0%} to {MOST:.0%}, every row",
            "measured": _range(shares),
            "met": all(LEAST <= one <= MOST for one in shares),
        },
        {
            "asked": "the same without rare harm, whose exact bounds are wide",
            "measured": _range([row["coverage"].value for row in rows if "coverage" in row and not _rare(row)]),
            "met": all(LEAST <= row["coverage"].value <= MOST for row in rows if "coverage" in row and not _rare(row)),
        },
        {"asked": f"at least {LEAST:.0%}, every row", "measured": _range(shares), "met": min(shares) >= LEAST},
        {
            "asked": f"coverage of the interval over rows below {NAIVE_MOST:.0%} of at least one number in every scenario",
            "measured": _range(naive) + " at least in each",
            "met": max(naive) < NAIVE_MOST,
        },
    ]
    note = (
        "Over patients: the expanded percentile bootstrap, extended by exact bounds where few patients have an event; "
        "Obuchowski's variance for the AUC. Over rows: Wald's for differences, Clopper and Pearson's for shares, DeLong's for "
        "the AUC. Coverage stands with its exact binomial interval. Rare harm is a share of under 10 %: the bound of no event "
        "among 60 patients, 6 %, then lies above the truth whatever is drawn, and the interval is wider than need be."
    )
    summary = (
        f"{cohorts} simulated cohorts a truth ({scenarios[0].patients} patients of 1 to {scenarios[0].most_cases} cases): how "
        "often 95 % intervals contain it."
    )
    tables = (Table("What was asked", CRITERIA, criteria), Table("Coverage", COLUMNS, rows, note))
    return Report("shift_coverage", "Coverage of the accuracy shift's intervals", summary, tables, provenance(seed=seed))


def run_shift_coverage(out: str | Path, *, cohorts: int = 300, seed: int = 0, report: Progress = silent) -> Report:
    """Make the report of :func:`shift_coverage` and write it into ``out`` as Markdown and JSON.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    made = shift_coverage(cohorts, seed, report=report)
    write_report(made, out)
    return made


def _rows(scenario: Scenario, cohorts: int, random: np.random.Generator) -> list[dict[str, Any]]:
    large = simulate(replace(scenario, patients=REFERENCE_PATIENTS), random)
    found = {
        "difference in accuracy": _Tally(scenario.shift),
        "wrong after": _Tally(scenario.wrong[1]),
        HARM: _Tally(scenario.newly_wrong),
        "difference in AUC": _Tally(_auc(large, 1) - _auc(large, 0)),
    }
    for _ in range(cohorts):
        cohort, seed = simulate(scenario, random), int(random.integers(2**31))
        for tally, pair in zip(found.values(), _intervals(cohort, seed), strict=True):
            tally.add(*pair)
    return [{"scenario": scenario.name, "of": name, **tally.row()} for name, tally in found.items()]


def _intervals(cohort: SimulatedCohort, seed: int) -> tuple[tuple[Finding, Finding], ...]:
    """Over patients and over rows, of each number of :func:`_rows`."""
    (before, after), wrong, nondiagnostic = cohort.right, cohort.wrong[1], cohort.nondiagnostic[0]
    tumour = CLASSES.index("tumor")
    positive, scores = cohort.truth == tumour, cohort.probabilities[..., tumour]
    clustered, naive = obuchowski(positive, scores[0], scores[1], cohort.patients), delong(positive, scores[0], scores[1])
    harmed, of = int((wrong * nondiagnostic).sum()), int(nondiagnostic.sum())
    patients, options = cohort.patients, {"resamples": RESAMPLES, "seed": seed}
    return (
        (difference(after, before, patients, **options), naive_difference(after, before)),
        (share(wrong, patients, **options), proportion(int(wrong.sum()), len(wrong))),
        (
            share(wrong, patients, of=nondiagnostic, **options),
            proportion(harmed, of) if of else Undefined("nothing was nondiagnostic"),
        ),
        (
            clustered if isinstance(clustered, Undefined) else clustered.difference,
            naive if isinstance(naive, Undefined) else naive.difference,
        ),
    )


def _auc(cohort: SimulatedCohort, when: int) -> float:
    tumour = CLASSES.index("tumor")
    scores = np.asarray(cohort.probabilities[when, :, tumour])
    return float(structural_components(scores, cohort.truth == tumour)[0].mean())


def _rare(row: dict[str, Any]) -> bool:
    """An exact bound is behind such an interval, and it covers more than it says."""
    return row["of"] in (HARM, "wrong after") and row["truth"] < 0.1


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1%} to {max(values):.1%}" if values else "none"
