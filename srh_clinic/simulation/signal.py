"""From concentrations to the counts of a perfect instrument."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from srh_clinic.simulation.cells import Canvas
from srh_clinic.simulation.fields import Field, Rng

RAMAN_RESPONSE = np.array([[1.0, 0.12], [0.75, 1.0]], dtype=np.float32)
"""Signal in CH2 (2845 cm-1) and CH3 (2930 cm-1), rows, per unit of lipid and protein, columns.

The CH2 stretch at 2845 cm-1 is nearly lipid alone; at 2930 cm-1 the CH3 stretch of protein rides on the lipid's wing.
"""

DARK_COUNTS = 300.0
"""Counts of the instrument without any Raman signal."""


def raman_signal(rng: Rng, canvas: Canvas, gain: float | None = None) -> Field:
    """The noise-free signal, float32 counts ``(2, H, W)``.

    ``gain`` is the counts per unit concentration, drawn log-normally around 16,000 when not given; a Gaussian point
    spread of 0.4 to 0.6 px stands for the objective.
    """
    if gain is None:
        gain = float(np.clip(16_000 * np.exp(rng.normal(0, 0.3)), 7_000, 34_000))
    concentration = np.stack([np.clip(canvas.lipid, 0, None), np.clip(canvas.protein, 0, None)])
    signal = np.tensordot(RAMAN_RESPONSE, concentration, axes=1) * np.float32(gain)
    width = rng.uniform(0.4, 0.6)
    signal = ndi.gaussian_filter(signal, (0, width, width))
    return np.clip(signal + DARK_COUNTS, 0, 65_535).astype(np.float32)
