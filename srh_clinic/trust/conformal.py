"""A threshold that keeps a promise: of places where something is wrong, at most a share ``alpha`` goes unflagged."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from srh_clinic.errors import InputError
from srh_clinic.metrics import Interval, proportion


def fewest_cases(alpha: float) -> int:
    """Calibration cases that a promise needs: with fewer, every place would have to be flagged."""
    return math.ceil(1 / alpha) - 1


def conformal_threshold(strengths: ArrayLike, alpha: float) -> float:
    """The strength from which on a place is flagged, so that a wrong one is missed with a probability of at most ``alpha``.

    Split conformal prediction (Vovk et al. 2005; Papadopoulos et al. 2002) with the strength as conformity: of ``n`` places
    that are known to be wrong, the ``floor(alpha (n + 1))``-th weakest. When the next wrong place and these are exchangeable,
    its strength lies below that with a probability of at most ``alpha``, whatever the distribution. It promises nothing for
    places of another kind, or from an instrument that is worse than those it was calibrated on; nor for the rate of flags
    on faithful places, which is measured.

    Parameters
    ----------
    strengths
        Of independent places where something is known to be wrong, ``(n,)``.
    alpha
        Largest miss rate, in (0, 1).

    Raises
    ------
    InputError
        When there are too few places for ``alpha``, or a strength is not a number.
    """
    found = np.sort(np.asarray(strengths, dtype=np.float64).ravel())
    if not 0 < alpha < 1:
        raise InputError(f"a miss rate of {alpha}", "one between 0 and 1")
    if np.isnan(found).any():
        raise InputError("a strength that is no number", "strengths of calibration places")
    # The small excess undoes the rounding of products such as 0.1 * (29 + 1).
    rank = math.floor(alpha * (len(found) + 1) + 1e-9)
    if rank < 1:
        raise InputError(f"{len(found)} calibration places", f"{fewest_cases(alpha)} or more for a miss rate of {alpha}")
    return float(found[rank - 1])


def miss_rate(strengths: ArrayLike, threshold: float, level: float = 0.95) -> Interval:
    """The share of held-out wrong places that lie below a threshold, with its exact binomial interval.

    Raises
    ------
    InputError
        When there are none.
    """
    found = np.asarray(strengths, dtype=np.float64).ravel()
    if not len(found):
        raise InputError("no held-out places", "one or more")
    return proportion(int((found < threshold).sum()), len(found), level=level)
