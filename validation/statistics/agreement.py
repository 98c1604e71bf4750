"""Agreement between raters who each saw some of the units: percent, Gwet's AC1, Cohen, Fleiss and Krippendorff.

Every function takes ``codes`` ``(units, raters)``, the category that a rater put a unit in, as a number from 0 on, or -1 where
the rater did not see it. What is not determined, such as kappa where only one category occurs, is an :class:`Undefined` with
its reason, never NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import evalica
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from srh_clinic.estimates import Finding, Interval, Undefined, proportion

Codes = NDArray[np.int64]

UNSEEN = -1

NOBODY_TWICE = Undefined("no unit was rated by two raters")
ONE_CATEGORY = Undefined("only one category was used, so chance alone explains everything")


def percent_agreement(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Share of pairs of raters of a unit who agree, averaged over the units that two or more rated.

    The interval is from the variance over clusters, Student's t, cut to [0, 1]; ``clusters`` names the image of each unit.
    """
    counts, group = _counts(codes, categories), _groups(codes, clusters)
    several = counts.sum(axis=1) >= 2
    if not several.any():
        return NOBODY_TWICE
    agreed = _pairwise(counts[several])
    found = _mean(float(agreed.mean()), agreed, group[several], (0.0, 1.0))
    if isinstance(found, Interval) and agreed.min() == agreed.max() and agreed[0] in (0.0, 1.0):
        # Units that are all alike have no spread, which does not make the next one certain: exact, over clusters.
        return proportion(round(found.value * found.n), found.n)
    return found


def gwet_ac1(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Gwet's first-order agreement coefficient (2008, Br. J. Math. Stat. Psychol. 61:29), units rated by any number of raters.

    ``AC1 = (p_a - p_e) / (1 - p_e)`` with ``p_e = sum_k pi_k (1 - pi_k) / (q - 1)``, where ``pi_k`` is the mean over units of
    the share of a unit's raters who chose category k. Units of one rater count towards ``pi_k`` only. The variance is the
    paper's linearisation over units; where units share an image their terms are added within ``clusters`` first, which for a
    cluster to each unit is the paper's formula. Where all agree it is 0, and the lower end is that of the exact interval of
    the agreement over clusters.

    Parameters
    ----------
    categories
        q, the categories that raters could choose from, used or not.
    """
    counts, group = _counts(codes, categories), _groups(codes, clusters)
    rated = counts.sum(axis=1) >= 1
    counts, group = counts[rated], group[rated]
    raters = counts.sum(axis=1)
    several = raters >= 2
    if not several.any():
        return NOBODY_TWICE
    shares = counts / raters[:, None]
    pi = shares.mean(axis=0)
    chance = float((pi * (1 - pi)).sum() / (categories - 1))
    agreed = np.zeros(len(counts))
    agreed[several] = _pairwise(counts[several])
    observed = float(agreed[several].mean())
    value = (observed - chance) / (1 - chance)
    per_unit = len(counts) / several.sum() * (agreed - chance * several) / (1 - chance)
    chance_of_unit = (shares @ (1 - pi)) / (categories - 1)
    linear = per_unit - 2 * (1 - value) * (chance_of_unit - chance) / (1 - chance)
    found = _mean(value, linear, group, (-1.0, 1.0))
    if isinstance(found, Interval) and observed == 1:
        least = proportion(found.n, found.n).low
        return Interval(value, (least - chance) / (1 - chance), 1.0, found.n)
    return found


def cohen_kappa(codes: Codes, categories: int) -> Finding:
    """Cohen's kappa of two raters, ``codes`` ``(units, 2)``, asymptotic interval (Fleiss, Cohen and Everitt 1969)."""
    from statsmodels.stats.inter_rater import cohens_kappa

    both = codes[(codes != UNSEEN).all(axis=1)]
    if not len(both):
        return Undefined("the two raters share no unit")
    table = np.bincount(both[:, 0] * categories + both[:, 1], minlength=categories**2).reshape(categories, categories)
    used = (table.sum(axis=0) + table.sum(axis=1)) > 0
    if used.sum() < 2:
        return ONE_CATEGORY
    if (table.sum(axis=0) > 0).sum() < 2 or (table.sum(axis=1) > 0).sum() < 2:
        return Undefined("one of the two raters used one category only, and kappa is then 0 whatever the other saw")
    found = cohens_kappa(table[np.ix_(used, used)])
    value = float(found.kappa)
    half = 1.96 * float(np.sqrt(max(found.var_kappa, 0.0)))
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0), len(both))


def cohen_pairs(codes: Codes, categories: int) -> dict[tuple[int, int], Finding]:
    """Cohen's kappa of each pair of raters, columns of ``codes``."""
    return {(a, b): cohen_kappa(codes[:, [a, b]], categories) for a, b in itertools.combinations(range(codes.shape[1]), 2)}


def fleiss_kappa(
    codes: Codes, categories: int, clusters: Sequence[object] | None = None, *, resamples: int = 500, seed: int = 0
) -> Finding:
    """Fleiss' kappa (1971, Psychol. Bull. 76:378), percentile bootstrap interval over clusters.

    It is defined for units that the same number of raters saw, whoever they were: those with the commonest number of two or
    more are used.
    """
    from statsmodels.stats.inter_rater import fleiss_kappa as of_table

    counts, group = _counts(codes, categories), _groups(codes, clusters)
    raters = counts.sum(axis=1)
    several = raters[raters >= 2].astype(np.int64)
    if not len(several):
        return NOBODY_TWICE
    kept = raters == np.bincount(several).argmax()
    table, group = counts[kept], group[kept]
    if (table.sum(axis=0) > 0).sum() < 2:
        return ONE_CATEGORY
    members = [np.flatnonzero(group == one) for one in np.unique(group)]
    if len(members) < 2:
        return Undefined("all units are of one image")
    values = []
    random = np.random.default_rng(seed)
    for drawn in random.integers(0, len(members), (resamples, len(members))):
        chosen = table[np.concatenate([members[one] for one in drawn])]
        # A resample of one category has no kappa.
        if (chosen.sum(axis=0) > 0).sum() > 1:
            values.append(float(of_table(chosen)))
    if len(values) < resamples / 2:
        return Undefined("a second category is so rare that most resamples hold one only")
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(of_table(table)), float(low), float(high), len(members))


def krippendorff_alpha(
    codes: Codes, distance: Literal["nominal", "ordinal"] = "nominal", *, resamples: int = 1000, seed: int = 0
) -> Finding:
    """Krippendorff's alpha (Content Analysis, 2018) with Krippendorff's own bootstrap, both of evalica.

    That bootstrap draws pairs of values and knows nothing of images that share units, so the interval is rather narrow.
    """
    several = codes[(codes != UNSEEN).sum(axis=1) >= 2]
    if not len(several):
        return NOBODY_TWICE
    if len(np.unique(several[several != UNSEEN])) < 2:
        return ONE_CATEGORY
    import pandas as pd  # type: ignore[import-untyped]  # comes with statsmodels

    frame = pd.DataFrame(np.where(several == UNSEEN, np.nan, several).T)
    found = evalica.alpha_bootstrap(frame, distance, n_resamples=resamples, random_state=seed)
    return Interval(float(found.alpha), float(found.low), float(found.high), len(several))


def random_agreement(rate: float) -> float:
    """Share on which two raters agree by chance alone who each say yes to ``rate`` of the units, whatever they are."""
    return rate**2 + (1 - rate) ** 2


def _counts(codes: Codes, categories: int) -> NDArray[np.float64]:
    """How many raters put each unit in each category, ``(units, categories)``."""
    return np.stack([(codes == one).sum(axis=1) for one in range(categories)], axis=1).astype(np.float64)


def _groups(codes: Codes, clusters: Sequence[object] | None) -> NDArray[np.int64]:
    if clusters is None:
        return np.arange(len(codes))
    if not len(clusters):
        return np.zeros(0, np.int64)
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def _pairwise(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of units with two or more raters, the share of pairs of raters who agree."""
    raters = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))


def _mean(value: float, linear: NDArray[np.float64], group: NDArray[np.int64], bounds: tuple[float, float]) -> Finding:
    """A coefficient that is the mean of ``linear`` ``(units,)``, with an interval from their spread between clusters."""
    names, cluster = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return Undefined("all units are of one image")
    totals = np.bincount(cluster, linear - value)
    variance = float((totals**2).sum()) / len(linear) ** 2 * len(names) / (len(names) - 1)
    half = float(stats.t.ppf(0.975, len(names) - 1)) * np.sqrt(variance)
    return Interval(value, float(max(value - half, bounds[0])), float(min(value + half, bounds[1])), len(names))
