"""Which method raters prefer: rates against each baseline, and all methods on one scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.estimates import Finding, Interval, Undefined, draws, proportion
from srh_clinic.validation.reporting.report import Column, Table, reasoned_table
from srh_clinic.validation.statistics.bradley_terry import davidson
from srh_clinic.validation.statistics.paired import step_down
from srh_clinic.validation.statistics.two_way import NO_WIDTH, naive_wilson, two_way, two_way_bootstrap
from srh_clinic.validation.study.analysis.views import ASPECTS, CHOSEN, Aspect, Choice, Row, Views, rate

ALL = "all baselines"

COLUMNS = (
    Column("baseline", "Against"),
    Column("ratings", "Ratings", "d"),
    Column("images", "Independent", "d"),
    Column("test", "Preferred", "d"),
    Column("tie", "Ties", "d"),
    Column("against", "Not preferred", "d"),
    Column("rate", "Preference rate", ".3f"),
    Column("bootstrap", "Two-way bootstrap", ".3f"),
    Column("naive", "Naive (Wilson)", ".3f"),
    Column("p", "p against 1/2", ".2g"),
    Column("p_holm", "p, Holm", ".2g"),
)


@dataclass(frozen=True)
class BradleyTerry:
    """Strengths of all methods on one scale, see :func:`bradley_terry`.

    ``chance[b]`` is the chance that baseline b beats the method under test where there is no tie; ``strength[b]`` the logit of
    it, that is the log of the ratio of the two methods' strengths; ``tie`` the parameter of ties.
    """

    chance: dict[str, Finding]
    strength: dict[str, Finding]
    tie: float


def preference_table(views: Views, aspect: Aspect, rows: Sequence[Row]) -> Table:
    """The rows of :func:`preference_rows`."""
    note = (
        f"A tie counts half. {_intervals_note(views)} The naive interval takes every rating as independent and is shown to be "
        "distrusted. p is against a rate of 1/2: it is below 0.05 where the 95 % interval of the rate leaves 1/2 out. Holm "
        "over the baselines."
    )
    return reasoned_table(f"Preference for {views.protocol.test}, {aspect}", COLUMNS, rows, note)


def preference_rows(views: Views, aspect: Aspect, seed: int) -> list[dict[str, Any]]:
    """One row for each baseline and one for all, with Holm's p-values over the baselines."""
    choices = views.choices(aspect)
    rows = []
    for baseline in (*views.protocol.baselines, ALL):
        chosen = [one for one in choices if baseline in (one.baseline, ALL)]
        scores, images, raters = _arrays(chosen)
        found = two_way(scores, images, raters)
        counts = {f"{'against' if one == 'baseline' else one}": sum(c.chosen == one for c in chosen) for one in CHOSEN}
        rows.append(
            {
                "baseline": baseline,
                "ratings": len(chosen),
                "images": len(set(images)),
                **counts,
                "rate": found if isinstance(found, Undefined) else found.interval(),
                "bootstrap": two_way_bootstrap(scores, images, raters, seed=seed),
                "naive": naive_wilson(scores),
                "p": None if isinstance(found, Undefined) else found.p_value(),
            }
        )
    tested = [row for row in rows if row["baseline"] != ALL and row["p"] is not None]
    if tested:
        for row, p in zip(tested, step_down([row["p"] for row in tested]), strict=True):
            row["p_holm"] = float(p)
    return rows


def bradley_terry(choices: Sequence[Choice], *, resamples: int = 200, seed: int = 0) -> BradleyTerry | Undefined:
    """Strengths by the Bradley-Terry model with ties (Davidson 1970), fitted by :func:`.bradley_terry.davidson`.

    Intervals are percentiles of a bootstrap over images. A baseline that never won nor tied has strength 0, one that the
    method under test never beat nor tied an infinite one: its comparisons then carry nothing about the others, they are fitted
    without it, and its chance has the exact interval over images.
    """
    clusters = sorted({one.cluster for one in choices})
    names = sorted({one.baseline for one in choices})
    if len(clusters) < 2:
        return Undefined("Bradley-Terry strengths need two images")
    if all(one.chosen == "tie" for one in choices):
        return Undefined("every comparison is a tie")
    counts = np.zeros((len(clusters), len(names), len(CHOSEN)))
    place = {name: at for at, name in enumerate(clusters)}
    for one in choices:
        counts[place[one.cluster], names.index(one.baseline), CHOSEN.index(one.chosen)] += 1
    fitted = _fit(counts.sum(axis=0))
    if fitted is None:
        return Undefined("every comparison is a tie or won by the same method, so no strengths are the likeliest")
    drawn = draws(np.random.default_rng(seed), len(clusters), resamples)
    found = [fit for weights in drawn if (fit := _fit(np.tensordot(weights, counts, 1))) is not None]
    if len(found) < resamples / 2:
        return Undefined("most resamples of images determine no Bradley-Terry strengths")
    resampled = np.array([chances for chances, _ in found])
    chance: dict[str, Finding] = {}
    strength: dict[str, Finding] = {}
    for at, name in enumerate(names):
        low, high = np.nanquantile(resampled[:, at], [0.025, 0.975])
        value = Interval(float(fitted[0][at]), float(low), float(high), len(clusters))
        if value.value in (0.0, 1.0):
            # Resamples of nothing but wins are all alike; the exact interval over images is not.
            images = int((counts[:, at].sum(axis=1) > 0).sum())
            value = proportion(round(value.value * images), images)
        if value.high - value.low < NO_WIDTH:
            chance[name] = strength[name] = Undefined("every resample of images gives the same")
            continue
        chance[name] = value
        finite = value.low > 0 and value.high < 1
        strength[name] = (
            Interval(_logit(value.value), _logit(value.low), _logit(value.high), len(clusters))
            if finite
            else Undefined("it is not finite: in the data or in resamples one of the two never wins nor ties")
        )
    return BradleyTerry(chance, strength, fitted[1])


def bradley_terry_table(views: Views, aspect: Aspect, seed: int) -> Table:
    """All methods on one scale, the strongest first."""
    columns = (
        Column("method", "Method"),
        Column("strength", "Log strength", ".2f"),
        Column("chance", "Beats the method under test, ties aside", ".3f"),
    )
    title = f"Bradley-Terry strengths, {aspect}"
    found = bradley_terry(views.choices(aspect), seed=seed)
    if isinstance(found, Undefined):
        return reasoned_table(title, columns, [], f"Not determined, because {found.why}.")
    rows: list[dict[str, Any]] = [{"method": views.protocol.test, "strength": 0.0, "chance": None}]
    rows += [{"method": name, "strength": found.strength[name], "chance": found.chance[name]} for name in found.chance]
    rows.sort(key=lambda row: row["chance"].value if isinstance(row["chance"], Interval) else 0.5, reverse=True)
    note = (
        f"Davidson's model, natural logarithm, 0 for {views.protocol.test}; tie parameter {found.tie:.2f}. Percentile "
        f"intervals of a bootstrap over {views.cluster_name}s; raters are not resampled, so read them beside the preference "
        "rates."
    )
    return reasoned_table(title, columns, rows, note)


def strata_table(views: Views) -> Table | None:
    """Preference by stratum; None where there is a single one."""
    strata = sorted({one.stratum for aspect in ASPECTS for one in views.choices(aspect)})
    if len(strata) < 2:
        return None
    rows = _rows_by(views, "stratum", strata)
    return reasoned_table("Preference by stratum", _columns("Stratum"), rows, _intervals_note(views))


def groups_table(views: Views) -> Table | None:
    """Preference by group of raters; None where there is a single one."""
    groups = sorted({rater.group for rater in views.protocol.raters})
    if len(groups) < 2:
        return None
    note = "Groups hold few raters, so Student's t is wide: this shows whether groups differ in direction."
    return reasoned_table("Preference by group of raters", _columns("Group"), _rows_by(views, "group", groups), note)


def _rows_by(views: Views, name: str, values: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for value in values:
        row: dict[str, Any] = {"of": value or "none given"}
        for aspect in ASPECTS:
            chosen = [one for one in views.choices(aspect) if getattr(one, name) == value]
            if views.choices(aspect):
                row[aspect] = rate([one.score for one in chosen], chosen)
                row["ratings"] = len(chosen)
                row["raters"] = len({one.rater for one in chosen})
        rows.append(row)
    return rows


def _columns(title: str) -> tuple[Column, ...]:
    return (
        Column("of", title),
        Column("raters", "Raters", "d"),
        Column("ratings", "Ratings", "d"),
        *(Column(aspect, f"Preference, {aspect}", ".3f") for aspect in ASPECTS),
    )


def _intervals_note(views: Views) -> str:
    return (
        f"95 % intervals from the two-way sandwich ({views.cluster_name} x rater), Student's t weighed after "
        "Cochran, in Wilson's form."
    )


def _arrays(choices: Sequence[Choice]) -> tuple[NDArray[np.float64], list[str], list[str]]:
    return (
        np.array([one.score for one in choices], dtype=np.float64),
        [one.cluster for one in choices],
        [one.rater for one in choices],
    )


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _fit(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], float] | None:
    """Each baseline's chance against the method under test, and the tie parameter, from counts ``(baselines, 3)``.

    NaN for a baseline without comparison; None where nothing is determined.
    """
    test, tie, baseline = (counts[:, CHOSEN.index(one)] for one in ("test", "tie", "baseline"))
    chances = np.full(len(counts), np.nan)
    chances[(baseline + tie == 0) & (test > 0)] = 0.0
    chances[(test + tie == 0) & (baseline > 0)] = 1.0
    kept = np.flatnonzero((test + tie > 0) & (baseline + tie > 0))
    if not len(kept):
        return (chances, 0.0) if np.isfinite(chances).any() else None
    if not (test[kept] + baseline[kept]).any():
        return None
    fitted = davidson(test[kept], tie[kept], baseline[kept])
    if fitted is None:
        return None
    chances[kept] = fitted.chance
    return chances, fitted.tie


def side_rows(views: Views) -> list[Row]:
    """Proportion of side A among preferences that are no tie, and of ties, by aspect."""
    rows: list[Row] = []
    for aspect in ASPECTS:
        choices = views.choices(aspect)
        decided = [one for one in choices if one.side != "tie"]
        if choices:
            found = two_way([float(one.side == "A") for one in decided], *_arrays(decided)[1:])
            rows.append(
                {
                    "aspect": aspect,
                    "decided": len(decided),
                    "side": found if isinstance(found, Undefined) else found.interval(),
                    "p": None if isinstance(found, Undefined) else found.p_value(),
                    "ties": rate([float(one.side == "tie") for one in choices], choices),
                }
            )
    return rows


def by_rater(choices: Sequence[Choice]) -> dict[str, list[Choice]]:
    """Choices of each rater."""
    found: dict[str, list[Choice]] = defaultdict(list)
    for one in choices:
        found[one.rater].append(one)
    return found
