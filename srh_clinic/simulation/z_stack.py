"""Z-stacks: one block of tissue at several depths, ever harder to see (Lyu et al. 2025, Figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.simulation.degradation import Sources, degrade
from srh_clinic.simulation.fields import Field
from srh_clinic.simulation.pairs import check_tissue, cut_tissue
from srh_clinic.simulation.streams import PatchStream, patch_stream
from srh_clinic.simulation.tissue import DIAGNOSIS_OF_KIND
from srh_clinic.slide import UM_PER_PX

ATTENUATION_UM = 130.0
"""Depth at which the signal has fallen to 1/e.

An assumption, in the usual range of 100 to 150 um for near-infrared light in brain: grey matter scatters 7.3 /mm at 810 nm and
5.9 /mm at 1064 nm, hence free paths of 137 and 169 um (PMC6366475, Table 1; white matter scatters five times as much there).
As both beams weaken, ballistic SRS signal would fall about twice as fast; light scattered forward by little makes up for it.
"""

DEEPEST_UM = 400.0
"""Beyond three attenuation lengths nothing but noise is left."""


@dataclass(frozen=True)
class ZStack:
    """A simulated block of tissue, slice by slice with its truth; Z slices in the order asked for.

    depths_um
        float64 ``(Z,)``.
    counts
        uint16 ``(Z, 2, H, W)``: what the imager would store, degraded.
    clean
        uint16 ``(Z, 2, H, W)`` counts: the same slices through a perfect instrument.
    expected
        float32 ``(Z, 2, H, W)`` counts: degraded, but without noise.
    severity
        float32 ``(Z, H, W)``: local noise relative to the signal left, in model units, as in
        :class:`~srh_clinic.simulation.phantom.Phantom`.
    nuclei
        For each slice float64 ``(K, 3)``: y, x and mean radius in px of every nucleus in focus.
    sources
        Strength of the degradation in each slice, besides what :data:`ATTENUATION_UM` takes.
    """

    depths_um: NDArray[np.float64]
    counts: Counts
    clean: Counts
    expected: Field
    severity: Field
    nuclei: tuple[NDArray[np.float64], ...]
    sources: tuple[Sources, ...]
    kind: str
    diagnosis: str
    um_per_px: float = UM_PER_PX


def simulate_z_stack(kind: str, depths_um: Sequence[float], seed: int, size: int = 256) -> ZStack:
    """A block of ``kind``, ``size`` x ``size`` px, at the depths asked for.

    At depth 0 lies the tissue of :func:`~srh_clinic.simulation.phantom.simulate_patch` for the same seed; deeper it changes
    as :mod:`~srh_clinic.simulation.sections` says. The signal falls as ``exp(-depth / ATTENUATION_UM)`` (Beer-Lambert) and the
    imager's gain makes up for it, so that a deep slice is not dark but noisy; scattering takes contrast as well. Vessels,
    autofluorescence and the instrument are as bad in every slice of a block.

    A slice is a function of seed and depth alone: which others are asked for does not matter.

    Raises
    ------
    InputError
        When the kind is unknown, there are no depths, or an argument is out of its range.
    """
    check_tissue(kind, size)
    if not len(depths_um):
        raise InputError("no depths", "one or more depths in micrometres")
    for depth in depths_um:
        if not 0 <= depth <= DEEPEST_UM:
            raise InputError(f"a depth of {depth:g} um", f"one from 0 to {DEEPEST_UM:g} um")
    block = patch_stream(seed, PatchStream.Z_STACK)
    rng = np.random.default_rng(block)
    absorption, autofluorescence, instrument = rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.2), rng.uniform(0.1, 0.3)
    key = [int(word) for word in block.generate_state(4)]
    slices, clean, nuclei, sources = [], [], [], []
    for depth in depths_um:
        canvas, signal = cut_tissue(kind, seed, float(depth), size)
        left = np.float32(np.exp(-depth / ATTENUATION_UM))
        sources.append(Sources(float(1 - left), float(absorption), float(autofluorescence), float(instrument)))
        degraded = degrade(np.random.default_rng([*key, round(depth * 1000)]), signal * left, sources[-1])
        slices.append(
            (np.clip(np.rint(degraded.counts / left), 0, 65_535), degraded.expected / left, degraded.severity / left)
        )
        clean.append(np.rint(signal))
        nuclei.append(np.array(canvas.nuclei, dtype=np.float64).reshape(-1, 3))
    counts, expected, severity = (np.stack(planes) for planes in zip(*slices, strict=True))
    return ZStack(
        depths_um=np.array(depths_um, dtype=np.float64),
        counts=counts.astype(np.uint16),
        clean=np.stack(clean).astype(np.uint16),
        expected=expected.astype(np.float32),
        severity=severity.astype(np.float32),
        nuclei=tuple(nuclei),
        sources=tuple(sources),
        kind=kind,
        diagnosis=DIAGNOSIS_OF_KIND[kind],
    )
