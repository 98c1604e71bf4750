"""A threshold that keeps a promise: of places where something is wrong, at most a share ``alpha`` goes unflagged."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from srh_clinic.errors import InputError
from srh_clinic.estimates import Interval, proportion

CONFIDENCE = 0.95
"""With which a calibrated threshold keeps its promise: a bundle is calibrated once and used ever after."""


def fewest_cases(alpha: float, confidence: float = CONFIDENCE) -> int:
    """Calibration cases that a promise needs: with fewer, every place would have to be flagged."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - alpha))


def conformal_threshold(strengths: ArrayLike, alpha: float, confidence: float = CONFIDENCE) -> float:
    """The strength from which on a place is flagged, so that at most the share ``alpha`` of wrong ones is missed.

    Split conformal prediction (Vovk et al. 2005; Papadopoulos et al. 2002) with the strength as conformity, and the guarantee
    that holds for the one calibration at hand, not on average over calibrations (Vovk 2012, proposition 2a): when further
    wrong places are exchangeable with the ``n`` of the calibration, the share of them below the ``k``-th weakest is at most
    Beta(k, n + 1 - k) distributed, whatever the distribution of strengths. ``k`` is the largest for which that share is at
    most ``alpha`` with probability ``confidence``. It promises nothing for places of another kind, or from an instrument that
    is worse than those it was calibrated on; nor for the rate of flags on faithful places, which is measured.

    Parameters
    ----------
    strengths
        Of independent places where something is known to be wrong, ``(n,)``.
    alpha
        Largest miss rate, in (0, 1).
    confidence
        In (0, 1).

    Raises
    ------
    InputError
        When there are too few places for ``alpha``, or a strength is not a number.
    """
    found = np.sort(np.asarray(strengths, dtype=np.float64).ravel())
    for name, value in (("miss rate", alpha), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"a {name} of {value}", "a value between 0 and 1")
    if np.isnan(found).any():
        raise InputError("a strength that is not a number", "a number for every calibration place")
    from scipy.stats import beta

    ranks = np.arange(1, len(found) + 1)
    # The chance falls with the rank, so those that keep the promise come first.
    kept = int((beta.cdf(alpha, ranks, len(found) + 1 - ranks) >= confidence).sum())
    if kept < 1:
        needed = f"{fewest_cases(alpha, confidence)} or more for a miss rate of {alpha}"
        raise InputError(f"{len(found)} calibration places", needed)
    return float(found[kept - 1])


def conformal_limit(scores: ArrayLike, share: float) -> float:
    """A score that a further faithful place exceeds with a chance of at most ``share``.

    The conformal quantile (Vovk et al. 2005): of ``n`` exchangeable places the ``ceil((n + 1) (1 - share))``-th, or, where
    there are too few for the share, the largest.

    Raises
    ------
    InputError
        When there are none, or one is not a number.
    """
    found = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if not len(found) or np.isnan(found).any():
        raise InputError(f"{len(found)} scores, {int(np.isnan(found).sum())} of them not a number", "numbers, at least one")
    return float(found[min(math.ceil((len(found) + 1) * (1 - share)), len(found)) - 1])


def miss_rate(strengths: ArrayLike, threshold: float, level: float = 0.95) -> Interval:
    """The share of held-out wrong places that lie below a threshold, with its exact binomial interval.

    Raises
    ------
    InputError
        When there are none.
    """
    found = np.asarray(strengths, dtype=np.float64).ravel()
    if not len(found):
        raise InputError("no held-out places", "at least one")
    return proportion(int((found < threshold).sum()), len(found), level=level)
