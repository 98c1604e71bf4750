"""How unusual a sum of paired differences is among those that swapping before and after of whole patients would give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_UP_TO = 13
"""Patients with a change up to which all swaps are counted: 2^13 are fewer than the usual 9,999 draws."""

ROUNDING = 1e-9
"""Of the largest sum: what two sums may differ by and be the same."""


class Swapped(NamedTuple):
    """``p`` is two-sided, ``changed`` the number of sums other than 0, ``exact`` whether every swap was counted."""

    p: float
    changed: int
    exact: bool


def swapped(sums: NDArray[np.float64], *, seed: int = 0, draws: int = 9999) -> Swapped | None:
    """Compare a sum of ``sums``, one a patient, ``(K,)``, with the sums under other signs (Good 2005, section 3.7).

    Where all that are not 0 have one size, the signs are binomial, as in McNemar's test, and up to 13 are counted one by one;
    else ``p = (1 + as extreme) / (1 + draws)`` (Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39). None where no
    patient's sum differs from 0.
    """
    sizes = np.abs(sums)
    scale = float(sizes.max(initial=0.0))
    changed = sums[sizes > 1e-12 * max(scale, 1.0)]
    if not len(changed):
        return None
    if np.ptp(np.abs(changed)) <= ROUNDING * scale:
        fewer = min(int((changed > 0).sum()), int((changed < 0).sum()))
        return Swapped(min(2 * float(stats.binom.cdf(fewer, len(changed), 0.5)), 1.0), len(changed), exact=True)
    exact = len(changed) <= EXACT_UP_TO
    if exact:
        bits = np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (draws, len(changed)), dtype=np.int8)
    # As extreme up to rounding: a swap of all must count.
    extreme = int((np.abs((1.0 - 2.0 * bits) @ changed) >= abs(float(changed.sum())) - ROUNDING * scale).sum())
    return Swapped(extreme / len(bits) if exact else (1 + extreme) / (1 + draws), len(changed), exact)
