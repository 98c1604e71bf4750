"""Tiles on their way into a restorer and out of it."""

from __future__ import annotations

from dataclasses import dataclass

from srh_clinic.intensity import Counts


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile on its way in: uint16 counts ``(2, H, W)`` whose top left corner lies at ``(y, x)`` of the slide."""

    key: int
    counts: Counts
    y: int = 0
    x: int = 0


@dataclass(frozen=True, eq=False)
class RestoredTile:
    """A tile on its way out; what has a default is that of a filter.

    Attributes
    ----------
    counts
        uint16 ``(2, H, W)``.
    t_pred
        Index of the first calibration, before the cap (with ``fixed_steps``, the index begun at); -1 where no calibrator was
        asked, and where it saw nothing to remove.
    steps
        Reverse steps run in all ``rounds``.
    stop_reason
        Why it left; of RSCD see :data:`~srh_clinic.rscd.restoration.StopReason`.
    flags
        May hold ``capped`` (a prediction lay above the cap), ``skipped`` and ``no-estimate``.
    evaluations
        Forward passes of a network that it took.
    """

    key: int
    counts: Counts
    t_pred: int = -1
    steps: int = 0
    rounds: int = 0
    stop_reason: str = "filtered"
    flags: tuple[str, ...] = ()
    evaluations: int = 0
