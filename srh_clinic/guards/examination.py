"""All guards of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from srh_clinic.guards.evidence import Evidence, residual_evidence
from srh_clinic.guards.faithfulness import brightness_drift, residual_structure
from srh_clinic.guards.lattice import GridPattern, grid_pattern
from srh_clinic.guards.residual import Residual

GuardName = Literal["nucleus", "added", "removed", "one_channel", "brightness", "structure", "steps_left", "lattice"]
GUARDS: tuple[GuardName, ...] = get_args(GuardName)

NUCLEUS_VERSION = 2
"""Version of what ``nucleus`` measures; thresholds that were calibrated on another hold for nothing."""


@dataclass(frozen=True, eq=False)
class Examination:
    """What each of :data:`GUARDS` says of a tile by name, the higher the worse; evidence and pattern with their places."""

    scores: dict[str, float]
    evidence: Evidence
    pattern: GridPattern | None = None


def examine(
    scanned: ArrayLike, restored: ArrayLike, um_per_px: float, steps_left: float | None = None, *, control: bool = False
) -> Examination:
    """Ask every guard about a field; ``lattice`` has no score in one that is too small for it.

    Parameters
    ----------
    scanned, restored
        Unit intensity ``(2, H, W)``.
    steps_left
        What :func:`~srh_clinic.guards.steps_left` says of it; None where no calibrator is at hand, and the guard is left out.
    control
        See :func:`~srh_clinic.guards.grid_pattern`.

    Raises
    ------
    InputError
        When the shapes differ, or the smallest nuclei would have a radius below 2 px.
    """
    residual = Residual(np.asarray(scanned, dtype=np.float32), np.asarray(restored, dtype=np.float32), um_per_px)
    evidence = residual_evidence(residual)
    scores: dict[str, float] = {
        "nucleus": evidence.nucleus,
        "added": float(evidence.added.max()),
        "removed": float(evidence.removed.max()),
        "one_channel": float(evidence.apart.max()),
        "brightness": brightness_drift(residual),
        "structure": residual_structure(residual),
    }
    if steps_left is not None:
        scores["steps_left"] = float(steps_left)
    pattern = grid_pattern(residual, control=control)
    if pattern is not None:
        scores["lattice"] = pattern.strength
    return Examination(scores, evidence, pattern)
