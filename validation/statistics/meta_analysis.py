"""Effects of several sites pooled as random draws from all sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from srh_clinic.estimates import Interval, Undefined


@dataclass(frozen=True)
class MetaAnalysis:
    """Effects of several sites put together as random draws from all sites.

    Attributes
    ----------
    effect
        With Hartung and Knapp's interval; ``n`` is the number of sites.
    dersimonian_laird
        The same with the normal interval, which is too narrow with few sites.
    tau2
        Variance between sites, DerSimonian and Laird's.
    q, df, p
        Cochran's Q, its degrees of freedom, and p of no difference between sites.
    i2
        Share of the spread that is between sites, 0 to 1.
    weights
        Of each site, by name, adding up to 1.
    """

    effect: Interval
    dersimonian_laird: Interval
    tau2: float
    q: float
    df: int
    p: float
    i2: float
    weights: dict[str, float]


def meta_analysis(
    effects: ArrayLike, variances: ArrayLike, names: Sequence[str], *, level: float = 0.95
) -> MetaAnalysis | Undefined:
    """Random effects by DerSimonian and Laird (1986, Control. Clin. Trials 7:177), interval by Hartung and Knapp (2001).

    The latter (Stat. Med. 20:3875) scales the variance by how the effects spread and takes Student's t. Where they agree
    better than chance lets them, it would shrink the interval; it is then not scaled (Röver et al. 2015, BMC Med. Res.
    Methodol. 15:99).

    Parameters
    ----------
    effects, variances
        ``(K,)``, of independent sites, variances above 0.
    names
        K of them.

    Returns
    -------
    Undefined with fewer than two sites.

    Raises
    ------
    ValueError
        When shapes differ or a variance is not above 0.
    """
    effect, variance = np.asarray(effects, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if effect.ndim != 1 or not effect.shape == variance.shape == (len(names),):
        raise ValueError(f"found {effect.shape} effects, {variance.shape} variances, {len(names)} names; needed K of each.")
    if not (variance > 0).all():
        raise ValueError("found a variance of 0; needed all above 0.")
    if len(effect) < 2:
        return Undefined("how sites differ needs two of them")
    fixed = 1 / variance
    q = float((fixed * (effect - fixed @ effect / fixed.sum()) ** 2).sum())
    tau2 = max((q - (len(effect) - 1)) / float(fixed.sum() - (fixed**2).sum() / fixed.sum()), 0.0)
    weights = 1 / (variance + tau2)
    error = float(weights.sum()) ** -0.5
    weights = weights / weights.sum()
    value = float(weights @ effect)
    scaled = float(weights @ (effect - value) ** 2) / (len(effect) - 1)
    df, at = len(effect) - 1, (1 + level) / 2
    half = float(stats.t.ppf(at, df)) * max(error, float(np.sqrt(scaled)))
    normal = float(stats.norm.ppf(at)) * error
    return MetaAnalysis(
        Interval(value, value - half, value + half, len(effect), level),
        Interval(value, value - normal, value + normal, len(effect), level),
        tau2,
        q,
        df,
        float(stats.chi2.sf(q, df)),
        max(1 - df / q, 0.0) if q > 0 else 0.0,
        {name: float(weight) for name, weight in zip(names, weights, strict=True)},
    )
