"""How many images and ratings a study needs: exact, and simulated with raters that differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit

from srh_clinic.estimates import Interval
from srh_clinic.validation.statistics.two_way import TwoWay, two_way
from srh_clinic.validation.study.simulated_raters import marginal_logit

POWER, FAMILY, ALPHA = 0.9, 0.05, 0.01
"""The power that a comparison is planned for, the level of all comparisons together, and that of each of five."""

PREFERENCES = (0.60, 0.65, 0.70, 0.75)
"""True proportions of preferences that a plan is made for."""

MOST_HALLUCINATIONS = 0.05
"""Upper bound on the proportion of images with a hallucination that a plan is made for."""

RATER_SD, IMAGE_SD = 0.7, 1.5
"""Standard deviations of raters and of images on the logit scale that the simulation takes."""


@dataclass(frozen=True)
class Power:
    """Power of one comparison for a true proportion of preferences: independent ratings, and as planned."""

    preference: float
    needed: int
    """Independent ratings for the power and level planned for, by the exact binomial test."""
    planned: int
    """Ratings of one comparison in this study."""
    exact: float
    """Power if they were independent."""
    simulated: float
    """Power of the two-way test with raters and images that differ."""


MOST_RATINGS = 1500
"""Ratings up to which a plan is looked for."""


def ratings_needed(preference: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Independent ratings from which on the exact two-sided binomial test against 1/2 has the power.

    Power is not monotonous in the number; from this number on it never falls below.
    """
    numbers = np.arange(1, MOST_RATINGS)
    return 1 + int(numbers[exact_power(numbers, preference, alpha) < power].max())


def exact_power(ratings: ArrayLike, preference: float, alpha: float = ALPHA) -> NDArray[np.float64]:
    """Power of the exact two-sided binomial test against 1/2 with independent ratings, for each number of them."""
    number = np.asarray(ratings)
    lost = stats.binom.ppf(alpha / 2, number, 0.5)
    critical = lost - (stats.binom.cdf(lost, number, 0.5) > alpha / 2)
    truth = stats.binom(number, preference)
    return np.asarray(truth.cdf(critical) + truth.sf(number - critical - 1))


def images_needed(hallucinations: int, bound: float = MOST_HALLUCINATIONS, confidence: float = 0.95) -> int:
    """Images after which so many hallucinations seen still put their proportion below the bound, two-sided Clopper-Pearson."""
    upper = (1 + confidence) / 2
    return next(
        n for n in range(hallucinations + 1, 10_000) if stats.beta.ppf(upper, hallucinations + 1, n - hallucinations) < bound
    )


def simulated_power(
    ratings: NDArray[np.int64],
    preference: float,
    *,
    rater_sd: float = RATER_SD,
    image_sd: float = IMAGE_SD,
    alpha: float = ALPHA,
    studies: int = 400,
    seed: int = 0,
) -> float:
    """Power of the two-way test when raters and images differ.

    Parameters
    ----------
    ratings
        Image and rater of every rating of one comparison, integers ``(N, 2)``.
    preference
        True proportion over raters and images.
    """
    rng = np.random.default_rng(seed)
    images, raters = ratings.T
    middle = marginal_logit(preference, float(np.hypot(rater_sd, image_sd)))
    significant = 0
    for _ in range(studies):
        shift = rng.normal(0, image_sd, images.max() + 1)[images] + rng.normal(0, rater_sd, raters.max() + 1)[raters]
        preferred = (rng.random(len(images)) < expit(middle + shift)).astype(float)
        found = two_way(preferred, images, raters)
        # The p-value is below alpha where this interval excludes 1/2, and takes longer.
        significant += isinstance(found, TwoWay) and not _holds(found.interval(1 - alpha), 0.5)
    return significant / studies


def sample_size(ratings: NDArray[np.int64], seed: int = 0, comparisons: int = 5) -> dict[str, Any]:
    """The calculation as the protocol states it, for the comparison whose ratings these are, ``(N, 2)`` of image and rater.

    Each of so many comparisons is tested at an equal part of the level of all together. The analysis corrects after Holm,
    whose hardest step this is.
    """
    alpha = FAMILY / comparisons
    rows = [
        Power(
            preference,
            ratings_needed(preference, alpha=alpha),
            len(ratings),
            float(exact_power(len(ratings), preference, alpha)),
            simulated_power(ratings, preference, alpha=alpha, seed=seed),
        )
        for preference in PREFERENCES
    ]
    return {
        "power": POWER,
        "alpha": alpha,
        "rater_sd": RATER_SD,
        "image_sd": IMAGE_SD,
        "comparisons": [asdict(row) for row in rows],
        "hallucinations": {
            "bound": MOST_HALLUCINATIONS,
            "images_needed": {str(seen): images_needed(seen) for seen in range(3)},
        },
    }


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high
