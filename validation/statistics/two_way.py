"""How often raters prefer one side, and how sure one may be of it when images and raters are both samples.

A rating shares its image with the other raters of that image and its rater with everything else that rater saw, so ratings are
not independent, and an interval that takes them as such is far too narrow. :func:`two_way` is the estimator behind every rate
of a study; the bootstrap beside it is a check and Wilson's interval shows what the naive answer would have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from srh_clinic.estimates import Finding, Interval, Undefined, codes, draws, proportion

SMALLEST_P = 1e-15
"""Of a p-value: beyond, one less it is no number of its own."""

NO_WIDTH = 1e-12
"""Of an interval of shares: what remains of rounding where all resamples are alike."""


@dataclass(frozen=True)
class TwoWay:
    """A mean score in [0, 1] over ratings that are crossed by image and rater.

    ``variance`` is that of the mean, ``rater_share`` the part of it that is known from the raters alone, and ``effective`` the
    number of independent yes-or-no answers that would tell as much; see :func:`two_way`.
    """

    value: float
    variance: float
    rater_share: float
    effective: float
    ratings: int
    images: int
    raters: int

    def quantile(self, level: float = 0.95) -> float:
        """Standard errors on either side that go with a confidence level."""
        at = (1 + level) / 2
        if not self.variance:
            return float(stats.norm.ppf(at))
        images = float(stats.t.ppf(at, self.images - 1)) ** 2
        raters = float(stats.t.ppf(at, self.raters - 1)) ** 2 if self.rater_share else 0.0
        return float(np.sqrt(self.rater_share * raters + (1 - self.rater_share) * images))

    def interval(self, level: float = 0.95) -> Interval:
        """Wilson's interval of ``effective`` answers, with :meth:`quantile` in the place of the normal one.

        It lies within [0, 1] by itself and stays sensible at 0 and 1. ``n`` of the result is the number of images.
        """
        z, p, n = self.quantile(level), self.value, self.effective
        shrink = 1 + z**2 / n
        centre, half = (p + z**2 / (2 * n)) / shrink, z / shrink * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low, high = float(max(centre - half, 0.0)), float(min(centre + half, 1.0))
        if not self.variance and p in (0.0, 1.0):
            exact = proportion(round(p * self.images), self.images, level=level)
            low, high = min(low, exact.low), max(high, exact.high)
        # Rounding must not exclude the estimate itself at 0 and 1.
        return Interval(p, min(low, p), max(high, p), self.images, level)

    def p_value(self, null: float = 0.5) -> float:
        """Two-sided p-value against a rate of ``null``: one less the highest level whose interval excludes it.

        Where all scores are 0, or all 1, that is the exact binomial p over images if it is the larger one, as the interval is
        the wider one. Not told apart below 1e-15.
        """
        distance = abs(self.value - null) / float(np.sqrt(null * (1 - null) / self.effective))
        if distance == 0:
            return 1.0
        exact = 0.0
        if not self.variance and self.value in (0.0, 1.0):
            exact = min(2 * (null if self.value else 1 - null) ** self.images, 1.0)
        if distance >= self.quantile(1 - SMALLEST_P):
            return max(SMALLEST_P, exact)
        found = brentq(lambda log_p: self.quantile(1 - np.exp(log_p)) - distance, np.log(SMALLEST_P), 0.0)
        return max(float(np.exp(found)), exact)


def two_way(scores: ArrayLike, images: Sequence[object] | NDArray, raters: Sequence[object] | NDArray) -> TwoWay | Undefined:
    """The mean of ``scores`` with a variance that counts images and raters as sampled.

    The variance is the two-way cluster sandwich (Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29:238), ``V = V_image
    + V_rater - V_rating``, each term the sum of squared cluster totals of the centred scores times ``G / (G - 1)`` for G
    clusters. It is never taken below ``V_image`` or ``V_rating``, as chance can make it.

    Student's t with ``raters - 1`` degrees of freedom treats the whole variance as if it came from six raters; the part that
    comes from a hundred images is known far better. The quantile is therefore Cochran's (1964, Biometrics 20:191) for a sum of
    variances, each weighed by its own: ``sqrt(w t_raters^2 + (1 - w) t_images^2)``, where ``w = V_rater / V`` is the share
    known from ``raters - 1`` degrees of freedom and the rest has ``images - 1``. Satterthwaite's degrees of freedom are
    narrower still, but they grow when chance makes ``V_rater`` small, just when the interval is too narrow already: over
    simulated studies whose variance is nearly all the raters' they covered 93.8 % where Cochran's cover 95.0 % and ``raters -
    1`` alone 95.9 %; where raters do not differ ``raters - 1`` is 1.45 times as wide as need be and Cochran's 1.1 to 1.35.

    A symmetric interval leaves [0, 1] and covers too seldom near its ends (Brown, Cai and DasGupta 2001, Stat. Sci. 16:101);
    the interval is Wilson's for the effective number of answers ``p (1 - p) / V`` (Dean and Pagano 2015, J. Surv. Stat.
    Methodol. 3:484). Where all scores are equal the sandwich is 0 and says nothing: the effective number is then that of the
    images, each taken as one independent answer, with the normal quantile, and at 0 and 1 the interval reaches as far as
    Clopper and Pearson's over images, whichever is wider. How often the interval covers
    is what the benchmark of coverage measures.

    Parameters
    ----------
    scores
        ``(N,)`` in [0, 1], such as 1 for the method under test, 0 for the baseline, 1/2 for a tie.
    images, raters
        ``(N,)``: of which image, or patient, and by whom each score is.

    Returns
    -------
    Undefined where there is no score, or those of one image only. With one rater, images are the only clusters.

    Raises
    ------
    ValueError
        When shapes differ or a score lies outside [0, 1].
    """
    y = np.asarray(scores, dtype=np.float64)
    image, rater = codes(images), codes(raters)
    if y.ndim != 1 or not len(y) == len(image) == len(rater):
        raise ValueError(
            f"found {y.shape} scores of {len(image)} images and {len(rater)} raters; needed one of each a rating."
        )
    if not len(y):
        return Undefined("there is no rating of this")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("found a score outside [0, 1]; needed 0, 1 or a value between.")
    of_images, of_raters = int(image.max()) + 1, int(rater.max()) + 1
    if of_images < 2:
        return Undefined("all ratings of this are of one image or patient")
    value = float(y.mean())
    centred = (y - value) / len(y)
    v_image = _clustered(centred, image, of_images)
    v_rating = float((centred**2).sum()) * len(y) / (len(y) - 1)
    v_rater = _clustered(centred, rater, of_raters) if of_raters > 1 else 0.0
    # With one rater the image clusters hold everything there is to know.
    variance = max(v_image + v_rater - v_rating, v_image, v_rating) if of_raters > 1 else max(v_image, v_rating)
    sizes = {"ratings": len(y), "images": of_images, "raters": of_raters}
    if variance <= 1e-18:
        return TwoWay(value, 0.0, 0.0, float(of_images), **sizes)
    return TwoWay(value, variance, min(v_rater / variance, 1.0), value * (1 - value) / variance, **sizes)


def preference_rate(
    scores: ArrayLike, images: Sequence[object] | NDArray, raters: Sequence[object] | NDArray, *, level: float = 0.95
) -> Finding:
    """The mean of scores with the study's headline interval; see :func:`two_way`."""
    found = two_way(scores, images, raters)
    return found if isinstance(found, Undefined) else found.interval(level)


def paired_two_way(
    differences: ArrayLike, images: Sequence[object] | NDArray, raters: Sequence[object] | NDArray
) -> TwoWay | Undefined:
    """:func:`two_way` of paired differences ``(N,)`` in [-1, 1], each taken as the score ``(d + 1) / 2``.

    No difference is a rate of 1/2; :func:`around_zero` carries its interval back.
    """
    return two_way((np.asarray(differences, dtype=np.float64) + 1) / 2, images, raters)


def around_zero(rate: Interval) -> Interval:
    """An interval on [0, 1] carried over to [-1, 1], where 1/2 becomes 0."""
    return Interval(2 * rate.value - 1, 2 * rate.low - 1, 2 * rate.high - 1, rate.n, rate.level)


def two_way_bootstrap(
    scores: ArrayLike,
    images: Sequence[object] | NDArray,
    raters: Sequence[object] | NDArray,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Finding:
    """The mean of scores with the percentile interval of the pigeonhole bootstrap (Owen 2007, Ann. Appl. Stat. 1:386).

    Images and raters are each drawn with replacement and a rating counts as often as both of its were drawn. It is a check on
    the sandwich. Six resampled raters show 5/6 of the variance of six, so it covers somewhat too seldom where raters dominate.
    """
    y = np.asarray(scores, dtype=np.float64)
    image, rater = codes(images), codes(raters)
    if not len(y) or image.max() < 1 or rater.max() < 1:
        return Undefined("the bootstrap needs two images and two raters")
    of_images, of_raters = int(image.max()) + 1, int(rater.max()) + 1
    cell = image * of_raters + rater
    shape = (of_images, of_raters)
    total = np.bincount(cell, y, minlength=of_images * of_raters).reshape(shape)
    count = np.bincount(cell, minlength=of_images * of_raters).reshape(shape).astype(np.float64)
    random = np.random.default_rng(seed)
    drawn_images = draws(random, of_images, resamples)
    drawn_raters = draws(random, of_raters, resamples)
    weight = ((drawn_images @ count) * drawn_raters).sum(axis=1)
    means = ((drawn_images @ total) * drawn_raters).sum(axis=1)[weight > 0] / weight[weight > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    if high - low < NO_WIDTH:
        return Undefined("every resample of images and raters gives the same, which says nothing of the next ones")
    return Interval(float(y.mean()), float(low), float(high), of_images, level)


def naive_wilson(scores: ArrayLike, *, level: float = 0.95) -> Finding:
    """Wilson's interval (1927) as if every rating were independent; a tie counts half. It is shown to be distrusted."""
    from statsmodels.stats.proportion import proportion_confint

    y = np.asarray(scores, dtype=np.float64)
    if not len(y):
        return Undefined("there is no rating of this")
    low, high = proportion_confint(float(y.sum()), len(y), alpha=1 - level, method="wilson")
    return Interval(float(y.mean()), float(low), float(high), len(y), level)


def _clustered(centred: NDArray[np.float64], cluster: NDArray[np.int64], clusters: int) -> float:
    totals = np.bincount(cluster, centred, minlength=clusters)
    return float((totals**2).sum()) * clusters / (clusters - 1)
