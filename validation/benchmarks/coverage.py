"""How often intervals hold the truth: those of the accuracy shift, over simulated cohorts, and that of a rater study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from srh_clinic.diagnosis import CLASSES
from srh_clinic.estimates import Finding, Interval, Undefined, proportion
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.benchmarks.agreement_coverage import agreement_coverage
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table, provenance, write_report
from srh_clinic.validation.shift.simulated import Scenario, SimulatedCohort, simulate
from srh_clinic.validation.statistics.clusters import clustered_proportion, difference, naive_difference
from srh_clinic.validation.statistics.roc import delong, obuchowski, structural_components
from srh_clinic.validation.statistics.two_way import naive_wilson, two_way, two_way_bootstrap
from srh_clinic.validation.study.simulated_raters import balanced_assignment, marginal_logit


class Truth(Interface):
    """Something to simulate, of which the true numbers are known."""

    @property
    def name(self) -> str:
        """What a row of the report is called."""


T = TypeVar("T", bound=Truth)


@dataclass(frozen=True)
class Coverage(Generic[T]):
    """What is simulated, which intervals are made of it, and what is asked of them.

    Parameters
    ----------
    rows
        Simulates a truth with a generator of its own, and gives a row for each number whose intervals are made.
    criteria
        What is asked, and whether the rows hold it; their table is called ``asked``.
    """

    name: str
    title: str
    summary: str
    truths: Sequence[T]
    rows: Callable[[T, np.random.Generator], list[Row]]
    columns: tuple[Column, ...]
    note: str
    criteria: Callable[[Sequence[Row]], list[Row]]
    asked: str = "What was asked"

    def report(self, seed: int, progress: Progress = silent) -> Report:
        """Simulate every truth; the same seed gives the same numbers."""
        rows: list[Row] = []
        for number, truth in enumerate(self.truths):
            progress(truth.name, number, len(self.truths))
            rows += self.rows(truth, np.random.default_rng([seed, number]))
        asked = Table(self.asked, CRITERIA, self.criteria(rows))
        tables = (asked, Table("Coverage", self.columns, rows, self.note))
        return Report(self.name, self.title, self.summary, tables, provenance(seed=seed))


@dataclass
class Tally:
    """Intervals of one number whose truth is known, by how they were made, in the order of the simulations.

    ``slack`` is by how much an end may miss the truth and still hold it.
    """

    truth: float
    slack: float = 0.0
    intervals: dict[str, list[Interval]] = field(default_factory=dict)
    undefined: int = 0

    def add(self, found: Mapping[str, Finding]) -> None:
        """The intervals of one simulation; where one of them is not determined, none is counted."""
        known = {name: one for name, one in found.items() if isinstance(one, Interval)}
        if len(known) < len(found):
            self.undefined += 1
            return
        for name, one in known.items():
            self.intervals.setdefault(name, []).append(one)

    def above(self, name: str) -> int:
        """Intervals that lie below the truth."""
        return sum(one.high + self.slack < self.truth for one in self.intervals[name])

    def below(self, name: str) -> int:
        """Intervals that lie above the truth."""
        return sum(one.low - self.slack > self.truth for one in self.intervals[name])

    def held(self, name: str) -> int:
        """Intervals that hold the truth."""
        return len(self.intervals[name]) - self.above(name) - self.below(name)

    def width(self, name: str) -> float:
        """Mean width of the intervals."""
        return float(np.mean([one.high - one.low for one in self.intervals[name]]))


SHIFT_LEAST, SHIFT_MOST = 0.91, 0.99
"""What is asked of a 95 % interval over patients: how often it contains the truth."""

NAIVE_MOST = 0.90
"""The coverage of the interval over rows that it must fall below for clustering to matter in a scenario."""

RESAMPLES = 1000

REFERENCE_PATIENTS = 40_000
"""Of the cohort that the true AUCs are taken from; its error is 4 % of a cohort of 60's."""

SHIFT_TRUTHS = (
    Scenario("no effect, strong clustering", (0.30, 0.30), (0.20, 0.20), patient_sd=2.0, patient_correlation=0.2),
    Scenario("paper's effect: 22 % to 76 % correct", (0.52, 0.18), (0.26, 0.06)),
    Scenario("rare harm: 4 % newly wrong", (0.50, 0.15), (0.05, 0.0465), patient_sd=1.0),
    Scenario("rarer harm: 2 % newly wrong", (0.50, 0.15), (0.05, 0.0233), patient_sd=1.0),
)

HARM = "nondiagnostic to wrong"

SHIFT_COLUMNS = (
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

SHIFT_NOTE = (
    "Over patients: the expanded percentile bootstrap, extended by exact bounds where few patients have an event; "
    "Obuchowski's variance for the AUC. Over rows: Wald's for differences, Clopper and Pearson's for shares, DeLong's for "
    "the AUC. Coverage stands with its exact binomial interval. Rare harm is a share of under 10 %: the bound of no event "
    "among 60 patients, 6 %, then lies above the truth whatever is drawn, so no interval can lie below the truth, and "
    "coverage is 97.5 % and what the lower bound keeps of its 2.5 %. That keeps most of them, for events are whole "
    "numbers and few. Of 1,500 further cohorts of the paper's effect 99.1 % of the intervals for nondiagnostic to wrong "
    "held the truth; the rest of the row's 99.7 % is chance. Mid-P lower bounds were tried in the place of exact ones: "
    "98.9 % there, 98.2 to 98.9 % of the other rare harm, 99.3 % with 20 patients. Exact ones are kept: for few patients "
    "they keep their level, which mid-P promises on average alone."
)


def shift_coverage(
    cohorts: int = 300,
    seed: int = 0,
    *,
    scenarios: Sequence[Scenario] = SHIFT_TRUTHS,
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
    return Coverage(
        name="shift_coverage",
        title="Coverage of the accuracy shift's intervals",
        summary=(
            f"{cohorts} simulated cohorts a truth ({scenarios[0].patients} patients of 1 to {scenarios[0].most_cases} cases): "
            "how often 95 % intervals contain it."
        ),
        truths=scenarios,
        rows=lambda scenario, random: _shift_rows(scenario, cohorts, random),
        columns=SHIFT_COLUMNS,
        note=SHIFT_NOTE,
        criteria=_shift_criteria,
    ).report(seed, report)


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


def _shift_rows(scenario: Scenario, cohorts: int, random: np.random.Generator) -> list[Row]:
    large = simulate(replace(scenario, patients=REFERENCE_PATIENTS), random)
    tallies = {
        "difference in accuracy": Tally(scenario.shift),
        "wrong after": Tally(scenario.wrong[1]),
        HARM: Tally(scenario.newly_wrong),
        "difference in AUC": Tally(_auc(large, 1) - _auc(large, 0)),
    }
    for _ in range(cohorts):
        cohort, seed = simulate(scenario, random), int(random.integers(2**31))
        for tally, (patients, naive) in zip(tallies.values(), _shift_intervals(cohort, seed), strict=True):
            tally.add({"patients": patients, "naive": naive})
    return [{"scenario": scenario.name, "of": name, **_shift_row(tally)} for name, tally in tallies.items()]


def _shift_row(tally: Tally) -> Row:
    n = len(tally.intervals.get("patients", ()))
    if not n:
        return {"truth": tally.truth, "n": 0, "undefined": tally.undefined}
    return {
        "truth": tally.truth,
        "n": n,
        "coverage": proportion(tally.held("patients"), n),
        "naive": proportion(tally.held("naive"), n),
        "above": tally.above("patients") / n,
        "below": tally.below("patients") / n,
        "width": tally.width("patients"),
        "naive_width": tally.width("naive"),
        "undefined": tally.undefined,
    }


def _shift_intervals(cohort: SimulatedCohort, seed: int) -> tuple[tuple[Finding, Finding], ...]:
    """Over patients and over rows, of each number of :func:`_shift_rows`."""
    (before, after), wrong, nondiagnostic = cohort.right, cohort.wrong[1], cohort.nondiagnostic[0]
    tumour = CLASSES.index("tumor")
    positive, scores = cohort.truth == tumour, cohort.probabilities[..., tumour]
    clustered, naive = obuchowski(positive, scores[0], scores[1], cohort.patients), delong(positive, scores[0], scores[1])
    harmed, of = int((wrong * nondiagnostic).sum()), int(nondiagnostic.sum())
    patients, options = cohort.patients, {"resamples": RESAMPLES, "seed": seed}
    return (
        (difference(after, before, patients, **options), naive_difference(after, before)),
        (clustered_proportion(wrong, patients, **options), proportion(int(wrong.sum()), len(wrong))),
        (
            clustered_proportion(wrong, patients, of=nondiagnostic, **options),
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


def _shift_criteria(rows: Sequence[Row]) -> list[Row]:
    known = [row for row in rows if "coverage" in row]
    every = [row["coverage"].value for row in known]
    usual = [row["coverage"].value for row in known if not _rare(row)]
    by_scenario: dict[str, list[float]] = {row["scenario"]: [] for row in rows}
    for row in known:
        by_scenario[row["scenario"]].append(row["naive"].value)
    naive = [min(values) for values in by_scenario.values()]
    return [
        {
            "asked": f"coverage of the 95 % interval over patients from {SHIFT_LEAST:.0%} to {SHIFT_MOST:.0%}, every row",
            "measured": _range(every),
            "met": all(SHIFT_LEAST <= one <= SHIFT_MOST for one in every),
        },
        {
            "asked": "the same without rare harm, whose exact bounds are wide",
            "measured": _range(usual),
            "met": all(SHIFT_LEAST <= one <= SHIFT_MOST for one in usual),
        },
        {"asked": f"at least {SHIFT_LEAST:.0%}, every row", "measured": _range(every), "met": min(every) >= SHIFT_LEAST},
        {
            "asked": f"coverage of the interval over rows below {NAIVE_MOST:.0%} of at least one number in every scenario",
            "measured": _range(naive) + " at least in each",
            "met": max(naive) < NAIVE_MOST,
        },
    ]


def _rare(row: Row) -> bool:
    """An exact bound is behind such an interval, and it covers more than it says."""
    return row["of"] in (HARM, "wrong after") and row["truth"] < 0.1


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1%} to {max(values):.1%}" if values else "none"


STUDY_LEAST, STUDY_MOST, WIDEST = 0.92, 0.995, 1.5
"""What is asked of a study's headline 95 % interval: its coverage, and its width against the oracle's."""

REFERENCE_STUDIES = 4000
"""Further simulated studies that the true standard error is taken from: known to about 1 %."""

AGREEMENT_STUDIES = 5
"""Simulated studies of agreement for each of the preference rate."""

ROUNDING = 1e-12
"""By how much a mean may stand beside an end that is the truth itself."""

Assignment = Callable[[], NDArray[np.int64]]


@dataclass(frozen=True)
class PreferenceTruth:
    """A truth to simulate: the rate at which the method under test is preferred to each baseline, a tie counting half."""

    rate: float
    image_sd: float = 1.5
    rater_sd: float = 0.7
    tie: float = 0.0

    @property
    def name(self) -> str:
        """What a row of the report is called."""
        raters = f"rater SD {self.rater_sd:g}" if self.rater_sd else "raters alike"
        return f"rate {self.rate:g}, {raters}, image SD {self.image_sd:g}" + (f", {self.tie:.0%} ties" if self.tie else "")


STUDY_TRUTHS = (
    PreferenceTruth(0.6),
    PreferenceTruth(0.75),
    PreferenceTruth(0.9),
    PreferenceTruth(0.75, tie=0.15),
    PreferenceTruth(0.75, rater_sd=0.0),
    PreferenceTruth(0.75, image_sd=0.0, rater_sd=0.0),
)

STUDY_COLUMNS = (
    Column("scenario", "Truth"),
    Column("of", "Rate"),
    Column("n", "Intervals", "d"),
    Column("se", "True standard error", ".4f"),
    Column("coverage", "Coverage", ".3f"),
    Column("width", "Width / oracle's", ".2f"),
    Column("oracle", "Coverage, oracle", ".3f"),
    Column("plain", "Coverage, t with raters - 1", ".3f"),
    Column("plain_width", "Width / oracle's, t with raters - 1", ".2f"),
    Column("bootstrap", "Coverage, bootstrap", ".3f"),
    Column("bootstrap_width", "Width / oracle's, bootstrap", ".2f"),
    Column("naive", "Coverage, naive Wilson", ".3f"),
)


def study_coverage(
    studies: int = 200,
    seed: int = 0,
    *,
    scenarios: Sequence[PreferenceTruth] = STUDY_TRUTHS,
    assignment: Assignment = balanced_assignment,
    bootstrap: int = 300,
) -> Report:
    """Coverage and width of the headline interval, per baseline and over all baselines.

    The oracle knows the true standard error, from further simulated studies, and is ``estimate +- 1.96 SE``. An image's effect
    is shared by its tasks, a rater's by all tasks. The same seed gives the same numbers.

    Parameters
    ----------
    assignment
        Gives image, baseline and two raters of each task, ``(tasks, 4)``.
    bootstrap
        Resamples of the two-way bootstrap in each study; 0 leaves it out.
    """
    tasks = assignment()
    design = f"{len(set(tasks[:, 0]))} images, {len(tasks)} tasks, {len(set(tasks[:, 2:].ravel()))} raters, two a task"
    return Coverage(
        name="study_coverage",
        title="Coverage of the preference rate's interval",
        summary=(
            f"{studies} simulated studies a truth ({design}): the headline interval is the two-way sandwich with Student's t "
            "weighed after Cochran, in Wilson's form."
        ),
        truths=scenarios,
        rows=lambda truth, random: _study_rows(truth, tasks, studies, bootstrap, random),
        columns=STUDY_COLUMNS,
        note=(
            f"One baseline: the share over the {len(set(tasks[:, 1]))} baselines of each study, so its intervals are not "
            "independent and the exact interval of its share is rather narrow. The true standard error is the spread of the "
            f"estimate over {REFERENCE_STUDIES} further studies."
        ),
        criteria=_study_criteria,
        asked="Asked and measured",
    ).report(seed)


def run_study_coverage(out: str | Path, studies: int = 200, seed: int = 0) -> Report:
    """Make the report of :func:`study_coverage` and of agreement, and write it into ``out`` as Markdown and JSON.

    Agreement is simulated five times as often: its truths are many rare answers, whose coverage is wanted to within 1 %.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    made = study_coverage(studies, seed)
    criteria, agreement = agreement_coverage(AGREEMENT_STUDIES * studies, seed)
    asked, preference = made.tables
    asked = replace(asked, rows=[*asked.rows, *criteria])
    made = replace(made, title="Coverage of a rater study's intervals", tables=(asked, preference, agreement))
    write_report(made, out)
    return made


def simulated_scores(
    truth: PreferenceTruth, tasks: NDArray[np.int64], studies: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Scores of simulated studies, ``(studies, 2 tasks)``, first raters' and then second raters'."""
    image, rater = np.tile(tasks[:, 0], 2), np.concatenate([tasks[:, 2], tasks[:, 3]])
    sd = float(np.hypot(truth.image_sd, truth.rater_sd))
    images = random.normal(0, truth.image_sd, (studies, int(image.max()) + 1))
    raters = random.normal(0, truth.rater_sd, (studies, int(rater.max()) + 1))
    chance = expit(marginal_logit(truth.rate, sd, tie=truth.tie) + images[:, image] + raters[:, rater])
    scores = (random.random(chance.shape) < chance).astype(np.float64)
    return np.where(random.random(chance.shape) < truth.tie, 0.5, scores)


def _study_rows(
    truth: PreferenceTruth, tasks: NDArray[np.int64], studies: int, resamples: int, random: np.random.Generator
) -> list[Row]:
    image, rater, baseline = np.tile(tasks[:, 0], 2), np.concatenate([tasks[:, 2], tasks[:, 3]]), np.tile(tasks[:, 1], 2)
    scores = simulated_scores(truth, tasks, studies, random)
    reference = [simulated_scores(truth, tasks, REFERENCE_STUDIES // 8, random) for _ in range(8)]
    rows = []
    each = [np.flatnonzero(baseline == one) for one in np.unique(baseline)]
    for of, parts in (("one baseline", each), ("all baselines", [np.arange(len(baseline))])):
        spread = float(np.sqrt(np.mean([np.var([y[:, part].mean(axis=1) for y in reference]) for part in parts])))
        tally = Tally(truth.rate, ROUNDING)
        for study in range(studies):
            for part in parts:
                seed = int(random.integers(2**31))
                tally.add(_study_intervals(scores[study, part], image[part], rater[part], spread, resamples, seed))
        row: Row = {"scenario": truth.name, "of": of, "n": studies * len(parts), "se": spread}
        rows.append(row | _study_row(tally, 2 * 1.96 * spread))
    return rows


def _study_row(tally: Tally, oracle: float) -> Row:
    """Coverage of each interval, and its width over that of the oracle's."""
    row: Row = {}
    for name, intervals in tally.intervals.items():
        held, n = tally.held(name), len(intervals)
        row[name] = proportion(held, n) if name == "coverage" else held / n
        row["width" if name == "coverage" else f"{name}_width"] = tally.width(name) / oracle
    return row


def _study_intervals(
    scores: NDArray[np.float64],
    image: NDArray[np.int64],
    rater: NDArray[np.int64],
    spread: float,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    found = two_way(scores, image, rater)
    naive = naive_wilson(scores)
    if isinstance(found, Undefined) or isinstance(naive, Undefined):
        raise ValueError("found a study of one image; needed two or more.")
    half = float(stats.t.ppf(0.975, found.raters - 1)) * float(np.sqrt(found.variance))
    intervals = {
        "coverage": found.interval(),
        "oracle": Interval(found.value, found.value - 1.96 * spread, found.value + 1.96 * spread, found.images),
        "plain": Interval(found.value, max(found.value - half, 0.0), min(found.value + half, 1.0), found.images),
        "naive": naive,
    }
    if resamples:
        drawn = two_way_bootstrap(scores, image, rater, resamples=resamples, seed=seed)
        if isinstance(drawn, Interval):
            intervals["bootstrap"] = drawn
    return intervals


def _study_criteria(rows: Sequence[Row]) -> list[Row]:
    held, widths = [row["coverage"].value for row in rows], [row["width"] for row in rows]
    return [
        {
            "asked": f"coverage of the preference rate's 95 % interval from {STUDY_LEAST:.1%} to {STUDY_MOST:.1%}, every row",
            "measured": f"{min(held):.1%} to {max(held):.1%}",
            "met": min(held) >= STUDY_LEAST and max(held) <= STUDY_MOST,
        },
        {
            "asked": f"mean width at most {WIDEST} times the oracle's, every row",
            "measured": f"{min(widths):.2f} to {max(widths):.2f}",
            "met": max(widths) <= WIDEST,
        },
    ]
