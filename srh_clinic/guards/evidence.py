"""Evidence for nuclei: does the input support what the restoration shows, and is what the input holds still there?

Both are asked of the difference of the two images alone. Counting nuclei in both and comparing does not work: noise makes
blobs of its own in the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from srh_clinic.guards.residual import FILTER_RADII_UM, Residual
from srh_clinic.metrics.nuclei import Responses, blob_maxima

Kind = Literal["added", "removed"]

SHADOW = 1.5
"""Radii around a nucleus within which the filter's answer of the other sign is its shadow."""

LEAST_TOTAL = 0.5
"""Added in squares to the spread of both channels' sum, so that what cancels almost wholly makes no finding of every rest.
Channels that change alike have a spread of 2, unrelated ones 1.4, and RSCD's residuals of noisy phantoms 0.3 to 0.9."""


@dataclass(frozen=True)
class Place:
    """A nucleus that a restoration shows without evidence (``added``), or has lost (``removed``).

    ``y``, ``x`` and ``radius`` are px; ``strength`` is in standard deviations of the filter's answers around it.
    """

    kind: Kind
    y: float
    x: float
    radius: float
    strength: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers of the matched filter in standard deviations, float32 ``(4, H, W)`` for the radii ``FILTER_RADII_UM``.

    High values of ``added`` mark nuclei of the restoration that the input contradicts; of ``removed`` the reverse; of
    ``apart`` discs that changed in one channel more than in the other (:func:`one_channel_change`); of ``total`` discs that
    changed both channels' sum.
    """

    added: Responses
    removed: Responses
    apart: Responses
    total: Responses
    um_per_px: float

    @property
    def strength(self) -> float:
        """The strongest answer of either kind."""
        return float(max(self.added.max(), self.removed.max()))

    @property
    def nucleus(self) -> float:
        """The strongest answer of either kind with :attr:`apart` and half of :attr:`total` at the same place and radius added.

        What a restoration wrongly smooths or draws mostly changes in both channels together, a nucleus in CH2 above all. And
        at a nucleus's size a restoration takes the noise by which the channels differ and leaves what they share, so that its
        changes of CH2 and of CH3 nearly cancel, which those of a nucleus do not. Where all three answers are high at one
        place, it is a nucleus rather than the strongest of some thousand places of noise. (With the whole of ``total``,
        planted and erased nuclei are told as well, but fewer of those that a restoration itself made or lost.)
        """
        return float(max(self._together(self.added).max(), self._together(self.removed).max()))

    def _together(self, own: Responses) -> Responses:
        return np.asarray(own + self.apart + self.total / 2, dtype=np.float32)

    def places(self, threshold: float, *, together: bool = False) -> tuple[Place, ...]:
        """Where the answers reach ``threshold``, the strongest first, without the shadows of stronger ones.

        ``together`` takes the answers of :attr:`nucleus`.

        A filter that answers to a disc answers to its surroundings with the other sign: a place of the other kind that is
        nearer than :data:`SHADOW` times both radii together and less than half as strong is no finding of its own.
        """
        found: list[Place] = []
        kinds: tuple[tuple[Kind, Responses], ...] = (("added", self.added), ("removed", self.removed))
        for kind, own in kinds:
            answers = self._together(own) if together else own
            near = answers.max(axis=0)
            for y, x, radius in blob_maxima(answers, self.um_per_px, threshold, FILTER_RADII_UM):
                found.append(Place(kind, float(y), float(x), float(radius), float(near[int(y), int(x)])))
        kept: list[Place] = []
        for place in sorted(found, key=lambda place: -place.strength):
            if not any(_shades(other, place) for other in kept):
                kept.append(place)
        return tuple(kept)


def _shades(strong: Place, weak: Place) -> bool:
    near = np.hypot(strong.y - weak.y, strong.x - weak.x) < SHADOW * (strong.radius + weak.radius)
    return strong.kind != weak.kind and weak.strength < strong.strength / 2 and bool(near)


def residual_evidence(residual: Residual) -> Evidence:
    """The matched filter of nuclei on what a restoration changed.

    A nucleus is dark in CH2 and as bright as its surroundings or brighter in CH3. One that was added shows as a bright disc
    in ``d_CH3 - d_CH2`` and in ``-d_CH2``, where ``d`` is :attr:`Residual.relative`; one that was taken away as a dark disc.
    Both fields are filtered with the scale-normalised Laplacian of Gaussian at four radii
    (:func:`~srh_clinic.metrics.nuclei.blob_responses`) and put in relation to the spread around
    (:meth:`Residual.in_spreads`); the stronger answer counts. ``total`` is ``|z_CH2 + z_CH3|``, each channel's answers in
    their own spreads, in relation to the spread of that sum, with :data:`LEAST_TOTAL` added to it in squares.

    It assumes that what a faithful restoration takes away has no discs of a nucleus's size, which holds of noise whatever its
    colour. It fails where many nuclei of a square were changed, because they raise the spread; where the input's noise is
    stronger than a nucleus's contrast, where nothing can be told; and for changes of another shape than a disc. It does not
    say which of the two images is right.

    Raises
    ------
    InputError
        When the smallest nuclei would have a radius below 2 px.
    """
    nuclear, dark = residual.in_spreads(residual.ch3 - residual.ch2), -residual.ch2_in_spreads
    added, removed = np.maximum(nuclear, dark), -np.minimum(nuclear, dark)
    return Evidence(added, removed, _apart(residual), _total(residual), residual.um_per_px)


def one_channel_change(residual: Residual) -> float:
    """The strongest disc that changed in one channel while the other stayed as it was, in standard deviations.

    ``max (|z_k| - |z_j|)`` over places, radii and channels ``k != j``, ``z`` the answers of each channel's own change
    (:meth:`Residual.in_spreads`), bright or dark.

    It assumes that what is there shows in both channels, as cells, fibres and droplets do, while what a network makes of one
    channel's noise need not. It fails for bodies that differ in one channel alone: a nucleus as bright as its
    surroundings in CH3 is one.

    Raises
    ------
    InputError
        When the smallest nuclei would have a radius below 2 px.
    """
    return float(_apart(residual).max())


def _apart(residual: Residual) -> Responses:
    return np.abs(np.abs(residual.ch2_in_spreads) - np.abs(residual.ch3_in_spreads))


def _total(residual: Residual) -> Responses:
    return np.abs(residual.in_spreads(residual.ch2_in_spreads + residual.ch3_in_spreads, least=LEAST_TOTAL))
