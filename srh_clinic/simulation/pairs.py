"""Near-registered pairs: one field of tissue acquired twice, badly and well, as no two acquisitions quite agree.

The paper's second dataset (Lyu et al. 2025, Table 2) comes from scanning a specimen with a cold and with a warm laser and
aligning the images; "non-affine deformation and optical tissue sectioning make perfect spatial alignment impossible". Here
both have a truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.simulation.cells import Canvas
from srh_clinic.simulation.degradation import degrade, draw_sources
from srh_clinic.simulation.fields import Field, Rng, smooth_field
from srh_clinic.simulation.phantom import Phantom, simulate_patch
from srh_clinic.simulation.sections import SectionRng
from srh_clinic.simulation.signal import raman_signal
from srh_clinic.simulation.streams import PatchStream, patch_stream
from srh_clinic.simulation.tissue import PAINTERS

SECTION_UM = (0.5, 2.0)
"""How much deeper the second acquisition cuts, uniform."""

WARP_RMS_PX = (1.0, 3.0)
"""Root mean square length of the non-rigid displacement, uniform."""

WARP_LENGTH_PX = 64.0
"""Correlation length of the non-rigid displacement."""

SHIFT_PX = 6.0
"""The second acquisition is displaced by up to so much along each axis, uniform."""

ROTATION_DEG = 1.5
"""The second acquisition is turned by up to so much either way, uniform."""

HIGH_SEVERITY = (0.02, 0.08)
"""Severity of the second acquisition's degradation, uniform."""


@dataclass(frozen=True)
class NearRegisteredPair:
    """Two acquisitions of one field with the truth of where they differ.

    low
        The bad one, as :func:`~srh_clinic.simulation.phantom.simulate_patch` gives it for the same arguments.
    high
        uint16 counts ``(2, H, W)``: the good one, of a section ``section_um`` deeper.
    displacement
        float32 ``(2, H, W)`` in px, along y and x: the pixel ``p`` of ``high`` shows the tissue that lies at
        ``p + displacement[:, p]`` of ``low``.
    inside
        bool ``(H, W)``: where that place lies within the field. Elsewhere ``high`` mirrors the field at its border.
    """

    low: Phantom
    high: Counts
    displacement: Field
    inside: NDArray[np.bool_]
    section_um: float


def simulate_pair(kind: str, severity: float, seed: int, size: int = 256) -> NearRegisteredPair:
    """A field of ``kind``, ``size`` x ``size`` px, degraded at ``severity`` in [0, 1], and acquired once more and well.

    Between both lie a section a little deeper, a smooth warp, a translation and rotation, and the noise of either. Tissue,
    degradation and everything about the second acquisition come from separate streams of ``seed``.

    Raises
    ------
    InputError
        When the kind is unknown or an argument out of its range.
    """
    check_tissue(kind, size)
    if not 0 <= severity <= 1:
        raise InputError(f"the severity {severity}", "a number from 0 (clean) to 1 (worst)")
    rng = np.random.default_rng(patch_stream(seed, PatchStream.PAIR))
    section_um = float(rng.uniform(*SECTION_UM))
    _, signal = cut_tissue(kind, seed, section_um, size)
    displacement = _displacement(rng, (size, size))
    place = np.mgrid[0:size, 0:size] + displacement
    warped = np.stack([ndi.map_coordinates(channel, place, order=3, mode="mirror") for channel in signal])
    sources = draw_sources(rng, float(rng.uniform(*HIGH_SEVERITY)))
    return NearRegisteredPair(
        low=simulate_patch(kind, severity, seed, size),
        high=degrade(rng, np.clip(warped, 0, 65_535), sources).counts,
        displacement=displacement,
        inside=np.asarray(((place >= 0) & (place <= size - 1)).all(axis=0)),
        section_um=section_um,
    )


def check_tissue(kind: str, size: int) -> None:
    """Refuse a kind of tissue that has no painter and a field too small to hold structure."""
    if kind not in PAINTERS:
        raise InputError(f"the tissue kind {kind!r}", f"one of {', '.join(PAINTERS)}")
    if size < 64:
        raise InputError(f"a size of {size} pixels", "64 or more")


def cut_tissue(kind: str, seed: int, depth_um: float, size: int) -> tuple[Canvas, Field]:
    """The tissue of ``simulate_patch(kind, ..., seed, size)`` cut ``depth_um`` deeper: its canvas and its signal.

    The signal is that of a perfect instrument, float32 counts ``(2, H, W)``; at depth 0 it is that patch's own.
    """
    rng = SectionRng(patch_stream(seed, PatchStream.TISSUE), patch_stream(seed, PatchStream.BENEATH), depth_um)
    canvas = PAINTERS[kind](rng, (size, size))
    return canvas, raman_signal(rng, canvas)


def _displacement(rng: Rng, shape: tuple[int, int]) -> Field:
    """A smooth warp, a translation and a rotation about the centre, float32 ``(2, H, W)`` in px."""
    warp = np.stack([smooth_field(rng, shape, WARP_LENGTH_PX) for _ in range(2)])
    warp *= rng.uniform(*WARP_RMS_PX) / np.sqrt(2)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] - (np.array(shape)[:, None, None] - 1) / 2
    angle = np.deg2rad(rng.uniform(-ROTATION_DEG, ROTATION_DEG))
    turn = np.stack([np.cos(angle) * y - np.sin(angle) * x - y, np.sin(angle) * y + np.cos(angle) * x - x])
    return np.asarray(warp + turn + rng.uniform(-SHIFT_PX, SHIFT_PX, (2, 1, 1)), np.float32)
