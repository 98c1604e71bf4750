"""How often the headline interval of a study contains the truth, over simulated studies of the default design."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from srh_clinic.metrics import Interval, Undefined, proportion
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table, provenance, write_report
from srh_clinic.validation.statistics.two_way import naive_wilson, two_way, two_way_bootstrap
from srh_clinic.validation.study.simulated import balanced_assignment, marginal_logit

LEAST, MOST, WIDEST = 0.92, 0.995, 1.5
"""What is asked of the headline 95 % interval: its coverage, and its width against the oracle's."""

REFERENCE_STUDIES = 4000
"""Further simulated studies that the true standard error is taken from: known to about 1 %."""

Assignment = Callable[[], NDArray[np.int64]]


@dataclass(frozen=True)
class Scenario:
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


SCENARIOS = (
    Scenario(0.6),
    Scenario(0.75),
    Scenario(0.9),
    Scenario(0.75, tie=0.15),
    Scenario(0.75, rater_sd=0.0),
    Scenario(0.75, image_sd=0.0, rater_sd=0.0),
)

COLUMNS = (
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


def coverage(
    studies: int = 200,
    seed: int = 0,
    *,
    scenarios: Sequence[Scenario] = SCENARIOS,
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
    rows: list[dict[str, Any]] = []
    for number, scenario in enumerate(scenarios):
        random = np.random.default_rng([seed, number])
        rows += _rows(scenario, tasks, studies, bootstrap, random)
    shares = [row["coverage"].value for row in rows]
    widths = [row["width"] for row in rows]
    criteria = [
        {
            "asked": f"coverage of the 95 % interval from {LEAST:.1%} to {MOST:.1%}, every row",
            "measured": f"{min(shares):.1%} to {max(shares):.1%}",
            "met": min(shares) >= LEAST and max(shares) <= MOST,
        },
        {
            "asked": f"mean width at most {WIDEST} times the oracle's, every row",
            "measured": f"{min(widths):.2f} to {max(widths):.2f}",
            "met": max(widths) <= WIDEST,
        },
    ]
    design = f"{len(set(tasks[:, 0]))} images, {len(tasks)} tasks, {len(set(tasks[:, 2:].ravel()))} raters, two a task"
    note = (
        f"One baseline: the share over the {len(set(tasks[:, 1]))} baselines of each study, so its intervals are not "
        "independent and the exact interval of its share is rather narrow. The true standard error is the spread of the "
        f"estimate over {REFERENCE_STUDIES} further studies."
    )
    summary = (
        f"{studies} simulated studies a truth ({design}): the headline interval is the two-way sandwich with Student's t "
        "weighed after Cochran, in Wilson's form."
    )
    tables = (Table("Asked and measured", CRITERIA, criteria), Table("Coverage", COLUMNS, rows, note))
    return Report("study_coverage", "Coverage of the preference rate's interval", summary, tables, provenance(seed=seed))


def run_coverage(out: str | Path, studies: int = 200, seed: int = 0) -> Report:
    """Make the report of :func:`coverage` and write it into ``out`` as Markdown and JSON.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    made = coverage(studies, seed)
    write_report(made, out)
    return made


def simulated_scores(
    scenario: Scenario, tasks: NDArray[np.int64], studies: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Scores of simulated studies, ``(studies, 2 tasks)``, first raters' and then second raters'."""
    image, rater = np.tile(tasks[:, 0], 2), np.concatenate([tasks[:, 2], tasks[:, 3]])
    sd = float(np.hypot(scenario.image_sd, scenario.rater_sd))
    images = random.normal(0, scenario.image_sd, (studies, int(image.max()) + 1))
    raters = random.normal(0, scenario.rater_sd, (studies, int(rater.max()) + 1))
    chance = expit(marginal_logit(scenario.rate, sd, tie=scenario.tie) + images[:, image] + raters[:, rater])
    scores = (random.random(chance.shape) < chance).astype(np.float64)
    return np.where(random.random(chance.shape) < scenario.tie, 0.5, scores)


def _rows(
    scenario: Scenario, tasks: NDArray[np.int64], studies: int, resamples: int, random: np.random.Generator
) -> list[dict[str, Any]]:
    image, rater, baseline = np.tile(tasks[:, 0], 2), np.concatenate([tasks[:, 2], tasks[:, 3]]), np.tile(tasks[:, 1], 2)
    scores = simulated_scores(scenario, tasks, studies, random)
    reference = [simulated_scores(scenario, tasks, REFERENCE_STUDIES // 8, random) for _ in range(8)]
    rows = []
    each = [np.flatnonzero(baseline == one) for one in np.unique(baseline)]
    for of, parts in (("one baseline", each), ("all baselines", [np.arange(len(baseline))])):
        spread = float(np.sqrt(np.mean([np.var([y[:, part].mean(axis=1) for y in reference]) for part in parts])))
        found: dict[str, list[Interval]] = {}
        for study in range(studies):
            for part in parts:
                for name, interval in _intervals(
                    scores[study, part], image[part], rater[part], spread, resamples, int(random.integers(2**31))
                ).items():
                    found.setdefault(name, []).append(interval)
        row: dict[str, Any] = {"scenario": scenario.name, "of": of, "n": studies * len(parts), "se": spread}
        for name, intervals in found.items():
            # The mean may stand a rounding error beside an end that is the truth itself.
            held = sum(one.low - 1e-12 <= scenario.rate <= one.high + 1e-12 for one in intervals)
            relative = float(np.mean([one.high - one.low for one in intervals])) / (2 * 1.96 * spread)
            row |= {name: proportion(held, len(intervals)) if name == "coverage" else held / len(intervals)}
            row |= {"width" if name == "coverage" else f"{name}_width": relative}
        rows.append(row)
    return rows


def _intervals(
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
