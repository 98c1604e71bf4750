"""When a restored tile is flagged: what its guards said as one number, and thresholds that a bundle makes promises for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from srh_clinic.errors import InputError
from srh_clinic.trust.conformal import CONFIDENCE, conformal_threshold

FAITHFUL_SHARE = 0.98
"""Share of faithful tiles whose score of a guard lies below its scale, unless another is asked for."""

Scores = Mapping[str, float]
"""What each guard says of a tile, by name, the higher the worse."""


class Promise(BaseModel):
    """From ``threshold`` on a tile is flagged; of tiles that are wrong at most the share ``alpha`` lies below it.

    That this is so of the calibration at hand has the probability ``confidence``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(gt=0, lt=1)
    threshold: float
    confidence: float = Field(gt=0, lt=1)


class GuardPolicy(BaseModel):
    """What a bundle states about its guards (``trust`` in its metadata).

    A tile's strength is the largest of its guards' scores, each divided by that guard's scale, a high quantile of what it says
    of faithful tiles. Guards with a limit of their own take no part in that, nor in the promises: they flag from there on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scales: dict[str, float]
    promises: tuple[Promise, ...] = Field(min_length=1)
    """By rising ``alpha``, so rising threshold; the first, the strictest, is the one in use unless another is asked for."""
    calibration: dict[str, str | int | float]
    """Number and kind of the tiles that it was calibrated on, their seeds and severities."""
    steps: tuple[int, int]
    """Fewest and most steps predicted on calibration tiles: outside of these nothing is promised."""
    limits: dict[str, float] = Field(default_factory=dict)
    """By guard, the score from which on it flags whatever was promised; bundles of earlier versions state none."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.scales or min(self.scales.values()) <= 0:
            raise ValueError("found a scale of 0 or none; needed one above 0 for each guard")
        if min(self.limits.values(), default=1.0) <= 0:
            raise ValueError("found a limit of 0 or less; needed one above 0")
        if twice := set(self.scales) & set(self.limits):
            raise ValueError(f"found a scale and a limit for {', '.join(sorted(twice))}; needed one of them")
        return self

    def strength(self, scores: Scores) -> float:
        """How strongly the guards of the promises speak against a tile; those without a scale or a score have no say."""
        return max(self._strengths(scores).values(), default=0.0)

    def against(self, scores: Scores, threshold: float) -> dict[str, float]:
        """What each guard says against a tile in thresholds, 1 is just flagged, the strongest first.

        A guard with a limit of its own has no say below it.
        """
        said = {name: strength / threshold for name, strength in self._strengths(scores).items()}
        own = {name: scores[name] / limit for name, limit in self.limits.items() if name in scores}
        said |= {name: strength for name, strength in own.items() if strength >= 1}
        return dict(sorted(said.items(), key=lambda one: -one[1]))

    def reasons(self, scores: Scores, threshold: float) -> tuple[str, ...]:
        """The guards that alone would flag the tile, the strongest first."""
        return tuple(name for name, strength in self.against(scores, threshold).items() if strength >= 1)

    def _strengths(self, scores: Scores) -> dict[str, float]:
        """Each guard's score in its own scale."""
        return {name: scores[name] / scale for name, scale in self.scales.items() if name in scores}

    def promise(self, alpha: float | None = None) -> Promise:
        """The promise of a miss rate, by default the first.

        Raises
        ------
        InputError
            When the bundle makes no such promise.
        """
        for promise in self.promises:
            if alpha is None or promise.alpha == alpha:
                return promise
        known = ", ".join(f"{promise.alpha:g}" for promise in self.promises)
        raise InputError(f"a miss rate of {alpha:g}", f"a rate that the bundle was calibrated for: {known}")


def calibrated_policy(
    faithful: Sequence[Scores],
    wrong: Sequence[Scores],
    alphas: Sequence[float],
    *,
    steps: tuple[int, int],
    calibration: Mapping[str, str | int | float],
    shares: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
) -> GuardPolicy:
    """A policy from tiles of which it is known whether something was invented or lost.

    Parameters
    ----------
    faithful
        Scores of tiles that are right; each guard's scale is what :data:`FAITHFUL_SHARE` of them stay below.
    wrong
        Scores of *other* tiles where something is wrong, each from a field of its own, so that they are exchangeable.
    alphas
        Promised miss rates.
    steps, calibration, limits
        See :class:`GuardPolicy`.
    shares
        Share of faithful tiles below a guard's scale, by guard, where it is not :data:`FAITHFUL_SHARE`.

    Raises
    ------
    InputError
        When there are too few tiles.
    """
    if not faithful:
        raise InputError("no faithful tiles", "at least one")
    own = dict(limits or {})
    names = [name for name in faithful[0] if name not in own and all(name in scores for scores in faithful)]
    below = {name: (shares or {}).get(name, FAITHFUL_SHARE) for name in names}
    scales = {name: float(np.quantile([scores[name] for scores in faithful], below[name])) for name in names}
    draft = GuardPolicy(
        scales=scales,
        promises=(Promise(alpha=0.5, threshold=0.0, confidence=CONFIDENCE),),
        calibration=dict(calibration),
        steps=steps,
        limits=own,
    )
    strengths = [draft.strength(scores) for scores in wrong]
    promises = tuple(
        Promise(alpha=alpha, threshold=conformal_threshold(strengths, alpha), confidence=CONFIDENCE)
        for alpha in sorted(alphas)
    )
    return draft.model_copy(update={"promises": promises})
