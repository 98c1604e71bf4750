"""The three intensity spaces of SRH, and the ways between them.

========  ==================  ==========================================================
space     dtype, range        relation
========  ==================  ==========================================================
counts    uint16, 0..65535    what the microscope and every file holds
unit      float32, [0, 1]     ``counts / 65536``
model     float32, [-1, 1]    ``2 * unit - 1``; what calibrator and denoiser see
========  ==================  ==========================================================

Channel 0 is CH2 (2845 cm-1, lipid), channel 1 is CH3 (2930 cm-1, protein), everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL_SCALE = 65536
"""Counts at unit intensity 1 (one more than the largest uint16)."""

RAMAN_SHIFTS = (2845, 2930)
"""Raman shift of each channel in cm-1, in channel order."""

CHANNELS = ("CH2", "CH3")
"""Name of each channel, in channel order."""

Counts = NDArray[np.uint16]
Unit = NDArray[np.float32]
Model = NDArray[np.float32]


def counts_to_unit(counts: NDArray[Any]) -> Unit:
    """Counts (uint16, any shape) to unit intensity (float32)."""
    return np.asarray(counts, dtype=np.float32) / np.float32(FULL_SCALE)


def unit_to_counts(unit: NDArray[Any]) -> Counts:
    """Unit intensity (any shape) to counts, rounded to nearest and clipped to 0..65535."""
    return rounded_counts(np.asarray(unit, dtype=np.float64) * FULL_SCALE)


def rounded_counts(values: NDArray[Any]) -> Counts:
    """Counts that came out of arithmetic (float, any shape), rounded to nearest and clipped to 0..65535."""
    return np.clip(np.rint(values), 0, FULL_SCALE - 1).astype(np.uint16)


def unit_to_model(unit: NDArray[Any]) -> Model:
    """Unit intensity to model space (float32)."""
    return np.asarray(unit, dtype=np.float32) * np.float32(2) - np.float32(1)


def model_to_unit(model: NDArray[Any]) -> Unit:
    """Model space to unit intensity (float32), not clipped."""
    return (np.asarray(model, dtype=np.float32) + np.float32(1)) / np.float32(2)


def counts_to_model(counts: NDArray[Any]) -> Model:
    """Counts (uint16) to model space (float32)."""
    return unit_to_model(counts_to_unit(counts))


def model_to_counts(model: NDArray[Any]) -> Counts:
    """Model space to counts, rounded to nearest and clipped to 0..65535."""
    return unit_to_counts((np.asarray(model, dtype=np.float64) + 1.0) / 2.0)
