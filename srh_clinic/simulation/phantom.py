"""Phantoms: simulated SRH with known truth, as single patches and as whole cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.simulation.cells import Canvas
from srh_clinic.simulation.degradation import Sources, degrade, draw_sources
from srh_clinic.simulation.fields import Field, Rng, power_law_field, smooth_field
from srh_clinic.simulation.signal import raman_signal
from srh_clinic.simulation.streams import PatchStream, patch_stream
from srh_clinic.simulation.tissue import DIAGNOSIS_OF_KIND, KINDS_OF_DIAGNOSIS, PAINTERS
from srh_clinic.slide import UM_PER_PX

CaseDiagnosis = Literal["tumor", "normal", "nondiagnostic", "mixed"]
LARGEST_CASE = 16_384


@dataclass(frozen=True)
class Phantom:
    """A simulated image with its truth.

    counts
        uint16 ``(2, H, W)``: what the imager would store, degraded.
    clean
        uint16 ``(2, H, W)`` counts: the same tissue through a perfect instrument.
    expected
        float32 ``(2, H, W)`` counts: degraded, but without noise.
    class_map
        uint8 ``(H, W)``: index into :data:`CLASSES` of the tissue at each pixel.
    nuclei
        float64 ``(K, 3)``: y, x and mean radius in px of every nucleus in focus.
    severity
        float32 ``(H, W)``: local noise relative to the signal left, in model units (see
        :class:`~srh_clinic.simulation.degradation.Degraded`).
    diagnosis
        The truth of the whole image, one of :data:`CLASSES`.
    kind
        The tissue that fills most of it.
    """

    counts: Counts
    clean: Counts
    expected: Field
    class_map: NDArray[np.uint8]
    nuclei: NDArray[np.float64]
    severity: Field
    sources: Sources
    diagnosis: str
    kind: str
    um_per_px: float = UM_PER_PX


def _image(
    canvas: Canvas, signal: Field, severity: float, rng: Rng, class_map: NDArray[np.uint8], diagnosis: str, kind: str
) -> Phantom:
    """Degrade ``signal`` from a stream of its own and put truth and image together."""
    sources = draw_sources(rng, severity)
    degraded = degrade(rng, signal, sources)
    return Phantom(
        counts=degraded.counts,
        clean=np.rint(signal).astype(np.uint16),
        expected=degraded.expected,
        class_map=class_map,
        nuclei=np.array(canvas.nuclei, dtype=np.float64).reshape(-1, 3),
        severity=degraded.severity,
        sources=sources,
        diagnosis=diagnosis,
        kind=kind,
    )


def simulate_patch(kind: str, severity: float, seed: int, size: int = 256) -> Phantom:
    """One kind of tissue, ``size`` x ``size`` px, degraded at ``severity`` in [0, 1].

    Tissue and degradation come from separate streams of ``seed``: the same seed at another severity shows the same tissue.
    """
    if kind not in PAINTERS:
        raise InputError(f"the tissue kind {kind!r}", f"one of {', '.join(PAINTERS)}")
    rng = np.random.default_rng(patch_stream(seed, PatchStream.TISSUE))
    canvas = PAINTERS[kind](rng, (size, size))
    signal = raman_signal(rng, canvas)
    diagnosis = DIAGNOSIS_OF_KIND[kind]
    class_map = np.full((size, size), CLASSES.index(diagnosis), np.uint8)
    return _image(
        canvas,
        signal,
        severity,
        np.random.default_rng(patch_stream(seed, PatchStream.DEGRADATION)),
        class_map,
        diagnosis,
        kind,
    )


def _regions(rng: Rng, shape: tuple[int, int], shares: list[float]) -> NDArray[np.intp]:
    """A map of region indices with blobby borders, region ``i`` filling about ``shares[i]`` of the field."""
    field = smooth_field(rng, shape, 0.16 * min(shape)) + 0.12 * power_law_field(rng, shape, 1.1)
    edges = np.quantile(field, np.cumsum(shares)[:-1] / np.sum(shares))
    return np.digitize(field, edges)


def _plan(rng: Rng, diagnosis: str) -> list[tuple[str, float]]:
    """Kinds of tissue and their shares for a case."""

    def one(of: str) -> str:
        return str(rng.choice(KINDS_OF_DIAGNOSIS[of]))

    if diagnosis == "tumor":
        tumor = one("tumor")
        margin = str(rng.choice(["white_matter", "grey_matter"])) if tumor == "glioma" else one("nondiagnostic")
        return [(tumor, 0.85), (margin, 0.15)]
    if diagnosis == "normal":
        return [("white_matter", rng.uniform(0.3, 0.7)), ("grey_matter", 0.5)]
    if diagnosis == "nondiagnostic":
        first, second = rng.choice(KINDS_OF_DIAGNOSIS["nondiagnostic"], 2, replace=False)
        return [(str(first), 0.6), (str(second), 0.4)]
    return [(one("tumor"), 0.4), (str(rng.choice(["white_matter", "grey_matter"])), 0.4), (one("nondiagnostic"), 0.2)]


def simulate_case(diagnosis: CaseDiagnosis = "tumor", quality: float = 0.3, size: int = 1024, seed: int = 0) -> Phantom:
    """A case of several tissues, ``size`` x ``size`` px, scanned in strips of 1,000 px.

    Parameters
    ----------
    diagnosis
        What most of the case shows; ``mixed`` has tumor, normal and non-diagnostic regions and counts as tumor.
    quality
        0 is the worst, 1 a clean image; the severity of the degradation is ``1 - quality``.
    size
        Edge in px of 0.47 um, 64 to 16,384.

    Raises
    ------
    InputError
        When an argument is out of its range.
    """
    if diagnosis not in (*CLASSES, "mixed"):
        raise InputError(f"the diagnosis {diagnosis!r}", "tumor, normal, nondiagnostic or mixed")
    if not 0 <= quality <= 1:
        raise InputError(f"the quality {quality}", "a number from 0 (worst) to 1 (clean)")
    if not 64 <= size <= LARGEST_CASE:
        raise InputError(f"a size of {size} pixels", f"64 to {LARGEST_CASE}")
    shape = (size, size)
    rng = np.random.default_rng(patch_stream(seed, PatchStream.TISSUE))
    plan = _plan(rng, diagnosis)
    region = _regions(rng, shape, [share for _, share in plan])
    lipid, protein = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    class_map = np.zeros(shape, np.uint8)
    nuclei: list[tuple[float, float, float]] = []
    for index, (kind, _) in enumerate(plan):
        here = region == index
        painted = PAINTERS[kind](rng, shape)
        weight = ndi.gaussian_filter(here.astype(np.float32), 4.0)
        lipid += weight * painted.lipid
        protein += weight * painted.protein
        class_map[here] = CLASSES.index(DIAGNOSIS_OF_KIND[kind])
        nuclei += [n for n in painted.nuclei if here[int(n[0]), int(n[1])]]
    canvas = Canvas(lipid, protein, nuclei)
    signal = raman_signal(rng, canvas)
    truth = "tumor" if diagnosis == "mixed" else diagnosis
    return _image(
        canvas,
        signal,
        1 - quality,
        np.random.default_rng(patch_stream(seed, PatchStream.DEGRADATION)),
        class_map,
        truth,
        plan[0][0],
    )
