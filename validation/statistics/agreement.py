"""Agreement between raters who each saw some of the units: percent, Gwet's AC1, Cohen, Fleiss and Krippendorff.

Every function takes ``codes`` ``(units, raters)``, the category that a rater put a unit in, as a number from 0 on, or -1 where
the rater did not see it. What is not determined, such as kappa where only one category occurs, is an :class:`Undefined` with
its reason, never NaN.

Variances are over images, the raters being those of the study; how intervals are made of them is told by :class:`Agreement`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from srh_clinic.estimates import Finding, Interval, Undefined, proportion

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Coefficient = Callable[[Floats], Floats]
"""Of sums over units, ``(..., columns)``, a coefficient of each, ``(...)``; NaN where the sums do not determine it."""

UNSEEN = -1

FEWEST_SPEAKING = 3
"""Images with another answer than the commonest below which an interval of kappa would hold nearly every value."""

NOBODY_TWICE = Undefined("no unit was rated by two raters")
ONE_CATEGORY = Undefined("only one category was used, so chance alone explains everything")
ONE_IMAGE = Undefined("all units are of one image")


@dataclass(frozen=True)
class Agreement:
    """A coefficient of agreement, its variance over images, and what an interval needs beside them.

    Attributes
    ----------
    least
        The lowest value that the shares of the answers allow: with one answer in a hundred, kappa cannot fall below -0.01.
    images
        How many there are.
    speaking
        How many of them hold an answer other than the commonest. The others say nothing about kappa.
    pairs
        Of two ratings of a unit, in either order: more than any effective number of pairs.
    """

    value: float
    variance: float
    least: float
    images: int
    speaking: int
    pairs: int

    def interval(self, level: float = 0.95) -> Finding:
        """Wilson's interval of the effective number of units, on the scale where rare answers are binomial.

        Of the pairs of ratings that hold a rare answer, let c be the share of those in which both raters gave it. For two
        raters, ``kappa = least + (1 - least) 2 c / (1 + c)`` with ``least = -pi / (1 - pi)``, whatever the prevalence pi:
        given how many pairs hold a rare answer, c is a binomial share, and all that is known about kappa is known through so
        many pairs, not through the images on which everybody agreed that there is nothing. A symmetric interval leaves
        [-1, 1], and the bootstrap has no width where no two raters, or all, agreed on a rare answer.

        The variance of kappa is carried to c; ``c (1 - c) / variance`` is the effective number of pairs (Dean and Pagano
        2015, J. Surv. Stat. Methodol. 3:484), or the number of images with a rare answer where the variance is 0; and the
        ends of Wilson's interval of c are carried back. For more raters or categories c has no such meaning, but the
        scale still ends where the coefficient does.

        Returns
        -------
        Undefined with fewer than three images that hold another answer than the commonest.
        """
        if self.speaking < FEWEST_SPEAKING:
            images = "image holds" if self.speaking == 1 else "images hold"
            return Undefined(
                f"{self.speaking} {images} an answer other than the commonest; an interval needs {FEWEST_SPEAKING} or more"
            )
        width = 1 - self.least
        of_pairs = min(max((self.value - self.least) / width, 0.0), 1.0)
        share = of_pairs / (2 - of_pairs)
        variance = self.variance / width**2 * 4 / (2 - of_pairs) ** 4
        low, high = _wilson(share, variance, self.speaking, self.pairs, self.images, level)
        low, high = (self.least + width * 2 * end / (1 + end) for end in (low, high))
        # Rounding must not exclude the estimate itself at the ends.
        return Interval(self.value, min(low, self.value), max(high, self.value), self.images, level)


def percent_agreement(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Share of pairs of raters of a unit who agree, averaged over the units that two or more rated.

    The interval is Wilson's for the effective number of units, from the variance over clusters; where all agree, or none,
    Clopper and Pearson's over clusters. ``clusters`` names the image of each unit.
    """
    counts, group = _counts(codes, categories), _groups(codes, clusters)
    several = counts.sum(axis=1) >= 2
    if not several.any():
        return NOBODY_TWICE
    agreed = _pairwise(counts[several])
    variance = _variance(agreed - agreed.mean(), group[several])
    if isinstance(variance, Undefined):
        return variance
    images = len(np.unique(group[several]))
    return _share(float(agreed.mean()), variance, images, _pairs(counts[several]))


def gwet_ac1(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Gwet's first-order agreement coefficient with an interval; see :func:`ac1`.

    ``(1 - AC1) / 2``, the disagreement, is a share, and has :func:`percent_agreement`'s interval: rare disagreement makes
    that of AC1 reach further down than up. Where all agree, the lower end is that of the agreement's exact interval over
    images.
    """
    found = ac1(codes, categories, clusters)
    if isinstance(found, Undefined):
        return found
    if found.value == 1:
        chance = _chance(codes, categories)
        lowest = proportion(found.images, found.images).low
        return Interval(1.0, (lowest - chance) / (1 - chance), 1.0, found.images)
    share = _share((1 - found.value) / 2, found.variance / 4, found.images, found.pairs)
    return Interval(found.value, 1 - 2 * share.high, 1 - 2 * share.low, found.images)


def ac1(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Agreement | Undefined:
    """Gwet's first-order agreement coefficient (2008, Br. J. Math. Stat. Psychol. 61:29), units rated by any number of raters.

    ``AC1 = (p_a - p_e) / (1 - p_e)`` with ``p_e = sum_k pi_k (1 - pi_k) / (q - 1)``, where ``pi_k`` is the mean over units of
    the share of a unit's raters who chose category k. Units of one rater count towards ``pi_k`` only. The variance is the
    paper's linearisation over units; where units share an image their terms are added within ``clusters`` first, which for a
    cluster to each unit is the paper's formula.

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
    chance = _chance(codes, categories)
    agreed = np.zeros(len(counts))
    agreed[several] = _pairwise(counts[several])
    observed = float(agreed[several].mean())
    value = (observed - chance) / (1 - chance)
    per_unit = len(counts) / several.sum() * (agreed - chance * several) / (1 - chance)
    chance_of_unit = (shares @ (1 - pi)) / (categories - 1)
    variance = _variance(per_unit - 2 * (1 - value) * (chance_of_unit - chance) / (1 - chance) - value, group)
    if isinstance(variance, Undefined):
        return variance
    # All agree: rounding must not say otherwise.
    value, variance = (1.0, 0.0) if observed == 1 else (value, variance)
    images, speaking = _images(counts, group)
    return Agreement(value, variance, -chance / (1 - chance), images, speaking, _pairs(counts))


def cohen_kappa(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Cohen's kappa of two raters with an interval; see :func:`cohen`."""
    found = cohen(codes, categories, clusters)
    return found if isinstance(found, Undefined) else found.interval()


def cohen(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Agreement | Undefined:
    """Cohen's kappa (1960, Educ. Psychol. Meas. 20:37) of two raters, ``codes`` ``(units, 2)``, jackknife over images.

    The lowest value is that of the two raters' own shares: they agree at least where their shares of a category add up to more
    than 1.
    """
    both = (codes != UNSEEN).all(axis=1)
    if not both.any():
        return Undefined("the two raters share no unit")
    group = _groups(codes, clusters)[both]
    table = np.zeros((int(both.sum()), categories**2))
    table[np.arange(len(table)), codes[both, 0] * categories + codes[both, 1]] = 1
    total = table.sum(axis=0).reshape(categories, categories)
    if (total.sum(axis=0) + total.sum(axis=1) > 0).sum() < 2:
        return ONE_CATEGORY
    if (total.sum(axis=0) > 0).sum() < 2 or (total.sum(axis=1) > 0).sum() < 2:
        return Undefined("one of the two raters used one category only, and kappa is then 0 whatever the other saw")

    def kappa(sums: Floats) -> Floats:
        joint = sums.reshape(*sums.shape[:-1], categories, categories)
        joint = joint / joint.sum(axis=(-2, -1), keepdims=True)
        chance = (joint.sum(axis=-1) * joint.sum(axis=-2)).sum(axis=-1)
        return _corrected(np.trace(joint, axis1=-2, axis2=-1), chance)

    shares = total.sum(axis=0) / total.sum() + total.sum(axis=1) / total.sum()
    chance = float((total.sum(axis=0) * total.sum(axis=1)).sum() / total.sum() ** 2)
    least = (max(float(shares.max()) - 1, 0.0) - chance) / (1 - chance)
    return _jackknifed(kappa, table, group, _counts(codes[both], categories), least)


def cohen_pairs(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> dict[tuple[int, int], Finding]:
    """Cohen's kappa of each pair of raters, columns of ``codes``."""
    return {
        (a, b): cohen_kappa(codes[:, [a, b]], categories, clusters)
        for a, b in itertools.combinations(range(codes.shape[1]), 2)
    }


def fleiss_kappa(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Finding:
    """Fleiss' kappa with an interval; see :func:`fleiss`."""
    found = fleiss(codes, categories, clusters)
    return found if isinstance(found, Undefined) else found.interval()


def fleiss(codes: Codes, categories: int, clusters: Sequence[object] | None = None) -> Agreement | Undefined:
    """Fleiss' kappa (1971, Psychol. Bull. 76:378), jackknife variance over images.

    It is defined for units that the same number of raters saw, whoever they were: those with the commonest number of two or
    more are used.
    """
    counts, group = _counts(codes, categories), _groups(codes, clusters)
    raters = counts.sum(axis=1)
    several = raters[raters >= 2].astype(np.int64)
    if not len(several):
        return NOBODY_TWICE
    kept = raters == np.bincount(several).argmax()
    counts, group = counts[kept], group[kept]
    if (counts.sum(axis=0) > 0).sum() < 2:
        return ONE_CATEGORY

    def kappa(sums: Floats) -> Floats:
        agreed, answers = sums[..., 0] / sums[..., 1], sums[..., 2:]
        shares = answers / answers.sum(axis=-1, keepdims=True)
        return _corrected(agreed, (shares**2).sum(axis=-1))

    of_units = np.column_stack([_pairwise(counts), np.ones(len(counts)), counts])
    return _jackknifed(kappa, of_units, group, counts, _least(counts, 1 - np.eye(categories), finite=False))


def krippendorff_alpha(
    codes: Codes, distance: Literal["nominal", "ordinal"] = "nominal", clusters: Sequence[object] | None = None
) -> Finding:
    """Krippendorff's alpha with an interval; see :func:`alpha`.

    Krippendorff's own bootstrap draws pairs of values, which knows nothing of images, and is [1, 1] after a single pair of
    rare answers that agree.
    """
    found = alpha(codes, distance, clusters)
    return found if isinstance(found, Undefined) else found.interval()


def alpha(
    codes: Codes, distance: Literal["nominal", "ordinal"] = "nominal", clusters: Sequence[object] | None = None
) -> Agreement | Undefined:
    """Krippendorff's alpha (Content Analysis, 2018, chapter 12), jackknife variance over images.

    One less the disagreement within units over that between all answers, each unit counted by its ratings. Ordinal, two
    categories are as far apart as there are answers from one to the other, each end counted half.
    """
    counts = _counts(codes, max(int(codes.max(initial=0)) + 1, 2))
    group = _groups(codes, clusters)
    several = counts.sum(axis=1) >= 2
    if not several.any():
        return NOBODY_TWICE
    counts, group = counts[several], group[several]
    if (counts.sum(axis=0) > 0).sum() < 2:
        return ONE_CATEGORY
    categories = counts.shape[1]
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(categories) * counts[:, :, None]
    pairs /= counts.sum(axis=1)[:, None, None] - 1

    def coefficient(sums: Floats) -> Floats:
        answers = sums[..., :categories]
        within = sums[..., categories:].reshape(*sums.shape[:-1], categories, categories)
        apart = _distances(answers, distance)
        number = answers.sum(axis=-1)
        between = (answers[..., :, None] * answers[..., None, :] * apart).sum(axis=(-2, -1))
        with np.errstate(invalid="ignore", divide="ignore"):  # without a second category, which the caller leaves out
            return 1 - (number - 1) * (within * apart).sum(axis=(-2, -1)) / between

    of_units = np.column_stack([counts, pairs.reshape(len(counts), -1)])
    least = _least(counts, _distances(counts.sum(axis=0), distance), finite=True)
    return _jackknifed(coefficient, of_units, group, counts, least)


def random_agreement(rate: float) -> float:
    """Share on which two raters agree by chance alone who each say yes to ``rate`` of the units, whatever they are."""
    return rate**2 + (1 - rate) ** 2


def _counts(codes: Codes, categories: int) -> Floats:
    """How many raters put each unit in each category, ``(units, categories)``."""
    return np.stack([(codes == one).sum(axis=1) for one in range(categories)], axis=1).astype(np.float64)


def _groups(codes: Codes, clusters: Sequence[object] | None) -> NDArray[np.int64]:
    if clusters is None:
        return np.arange(len(codes))
    if not len(clusters):
        return np.zeros(0, np.int64)
    return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def _pairwise(counts: Floats) -> Floats:
    """Of units with two or more raters, the share of pairs of raters who agree."""
    raters = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))


def _pairs(counts: Floats) -> int:
    raters = counts.sum(axis=1)
    return int((raters * (raters - 1)).sum())


def _chance(codes: Codes, categories: int) -> float:
    """Agreement by chance as Gwet has it."""
    counts = _counts(codes, categories)
    counts = counts[counts.sum(axis=1) >= 1]
    pi = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    return float((pi * (1 - pi)).sum() / (categories - 1))


def _corrected(observed: Floats, chance: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):  # chance of 1: one category, which callers leave out
        return (observed - chance) / (1 - chance)


def _distances(answers: Floats, distance: str) -> Floats:
    """Squared distances between categories, ``(..., q, q)``, of the numbers of answers ``(..., q)``."""
    categories = answers.shape[-1]
    if distance == "nominal":
        return np.broadcast_to(1 - np.eye(categories), (*answers.shape, categories))
    # Where the middle of each category lies among all answers in order.
    middle = np.cumsum(answers, axis=-1) - answers / 2
    return (middle[..., :, None] - middle[..., None, :]) ** 2


def _images(counts: Floats, group: NDArray[np.int64]) -> tuple[int, int]:
    """How many images there are, and how many of them hold another answer than the commonest."""
    others = np.delete(counts, counts.sum(axis=0).argmax(), axis=1).sum(axis=1) > 0
    return len(np.unique(group)), len(np.unique(group[others]))


def _least(counts: Floats, apart: Floats, *, finite: bool) -> float:
    """The lowest kappa or alpha of units of two raters with these shares of answers, by linear programming.

    Raters who disagree as much as their answers let them are a coupling of the shares with themselves of the largest mean
    distance. ``finite`` takes pairs of different answers alone as what chance would give, as alpha does.
    """
    total = counts.sum(axis=0)
    categories, number = len(total), total.sum()
    shares = total / number
    if np.array_equal(apart, 1 - np.eye(categories)):
        most = min(1.0, 2 * (1 - float(shares.max())))
    else:
        from scipy.optimize import linprog

        rows = np.kron(np.eye(categories), np.ones(categories))
        columns = np.kron(np.ones(categories), np.eye(categories))
        found = linprog(-apart.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([shares, shares]))
        most = -float(found.fun)
    between = float(shares @ apart @ shares) * (number / (number - 1) if finite else 1)
    return float(1 - most / between)


def _jackknifed(
    coefficient: Coefficient, of_units: Floats, group: NDArray[np.int64], counts: Floats, least: float
) -> Agreement | Undefined:
    """A coefficient of the sums of ``of_units`` ``(units, columns)``, with the jackknife's variance over images.

    ``(G - 1) / G`` times the squared deviations of the G values without one image each (Miller 1974, Biometrika 61:1). A
    value that is not determined without an image, because only that image holds a second category, takes no part.
    """
    images, speaking = _images(counts, group)
    if images < 2:
        return ONE_IMAGE
    names, place = np.unique(group, return_inverse=True)
    sums = np.zeros((len(names), of_units.shape[1]))
    np.add.at(sums, place, of_units)
    total = sums.sum(axis=0)
    value = float(coefficient(total[None])[0])
    without = coefficient(total - sums)
    without = without[np.isfinite(without)]
    variance = float(((without - without.mean()) ** 2).sum()) * (images - 1) / images if len(without) else 0.0
    return Agreement(value, variance, min(least, value), images, speaking, _pairs(counts))


def _variance(centred: Floats, group: NDArray[np.int64]) -> float | Undefined:
    """Of the mean of units, ``centred`` ``(units,)`` being what each is from it, by their sums over clusters."""
    names, cluster = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return ONE_IMAGE
    totals = np.bincount(cluster, centred)
    return float((totals**2).sum()) / len(centred) ** 2 * len(names) / (len(names) - 1)


def _share(value: float, variance: float, images: int, pairs: int) -> Interval:
    """A share's interval: :func:`_wilson`, or Clopper and Pearson's over images where it is 0 or 1."""
    if min(value, 1 - value) < 1e-12:
        return proportion(round(value) * images, images)
    low, high = _wilson(value, variance, images, pairs, images, 0.95)
    return Interval(value, min(low, value), max(high, value), images)


def _wilson(share: float, variance: float, fewest: int, most: int, images: int, level: float) -> tuple[float, float]:
    """Wilson's interval of a share for the effective number of answers, with Student's t of the images.

    The number is ``fewest`` where the variance is 0 or the share an end, which says nothing, and never above ``most``.
    """
    inside = 1e-9 < share < 1 - 1e-9
    effective = min(share * (1 - share) / variance, most) if inside and variance > 1e-15 else float(fewest)
    share = share if inside else float(round(share))
    z = float(stats.t.ppf((1 + level) / 2, images - 1))
    shrink = 1 + z**2 / effective
    centre = (share + z**2 / (2 * effective)) / shrink
    half = z / shrink * float(np.sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2)))
    return max(centre - half, 0.0), min(centre + half, 1.0)
