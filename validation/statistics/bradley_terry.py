"""Strengths by paired comparisons with ties: Davidson's model where one method meets all others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]


class Strengths(NamedTuple):
    """``chance`` ``(B,)``: that each other method beats the one that met it, ties aside; ``tie`` the parameter of ties."""

    chance: Floats
    tie: float


def davidson(wins: Floats, ties: Floats, losses: Floats) -> Strengths | None:
    """Maximum likelihood of Davidson's model (1970, J. Am. Stat. Assoc. 65:317) for one method against B others.

    With strengths ``pi``, i beats j with probability ``pi_i / (pi_i + pi_j + 2 v sqrt(pi_i pi_j))`` and ties with ``2 v
    sqrt(pi_i pi_j)`` over the same; ``v`` is that of all comparisons. Given v, the likelihood's derivative in each strength
    is a quadratic equation; what is left is one equation in v, of whose logarithm the likelihood is concave. Of a single
    other method the solution is ``pi = losses / wins`` and ``v = ties / (2 sqrt(wins losses))``.

    Parameters
    ----------
    wins, ties, losses
        ``(B,)``, of the method that met all others, need be no whole numbers. Every other method must have a tie or a win, and
        a tie or a loss.

    Returns
    -------
    None where the likelihood has no maximum: it still grows as v does.
    """
    number = wins + ties + losses
    balance = (losses - wins) / number

    def roots(log_nu: float) -> Floats:
        """Root of each strength over that of the method that met it."""
        favour = np.abs(balance)
        slope = favour * np.exp(log_nu)
        of_stronger = (slope + np.sqrt(slope**2 + 4 * (1 - favour**2))) / (2 * (1 - favour))
        return np.asarray(np.where(balance < 0, 1 / of_stronger, of_stronger))

    def excess(log_nu: float) -> float:
        """Ties that the model expects less those seen."""
        nu, root = np.exp(log_nu), roots(log_nu)
        return float((number * nu / (root + 1 / root + nu)).sum() - ties.sum())

    if not ties.any():
        odds = losses / wins
        return Strengths(odds / (1 + odds), 0.0)
    ends = -50.0, 50.0
    if excess(ends[0]) >= 0 or excess(ends[1]) <= 0:
        return None
    log_nu = float(brentq(excess, *ends, xtol=1e-12, rtol=1e-14))
    odds = roots(log_nu) ** 2
    return Strengths(odds / (1 + odds), float(np.exp(log_nu)) / 2)
