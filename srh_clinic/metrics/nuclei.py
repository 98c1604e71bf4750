"""Nuclei that a restoration added or took away, counted.

A nucleus is protein without lipid: dark in CH2, as bright as its surroundings or brighter in CH3. What marks it whatever the
gain, the illumination and the tissue is the share of the signal by which CH3 exceeds CH2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi
from scipy.fft import dctn, idctn
from scipy.spatial import KDTree

from srh_clinic.errors import InputError

RADII_UM = tuple(float(r) for r in np.geomspace(2.2, 6.2, 6))
"""Radii in um at which nuclei are looked for."""

STRONG = 0.14
"""Response from which on a blob counts as a nucleus."""

WEAK = 0.09
"""Response from which on a place is not free of a nucleus."""

MATCH_UM = 2.0
"""Distance in um within which two responses are of one nucleus."""

SURROUNDINGS_UM = 30.0
"""Edge in um of the square whose mean brightness keeps dark pixels from having a say."""

DARK = 0.02
"""Unit intensity that barely counts as signal, about 1,300 counts: what is darker is glass, and its noise no nucleus."""

SMOOTHING = 1.0
"""Standard deviation in px of the Gaussian before channels are divided: noise of one pixel is no protein."""

Responses = NDArray[np.float32]


@dataclass(frozen=True)
class NucleiChanges:
    """Nuclei that a restored image has and the clean one has not, and the reverse.

    ``reference`` is the number of nuclei of the clean image, of which ``removed`` are gone.
    """

    added: int
    removed: int
    reference: int
    area_mm2: float

    @property
    def added_per_mm2(self) -> float:
        """Nuclei invented in a square millimetre."""
        return self.added / self.area_mm2

    @property
    def removed_per_mm2(self) -> float:
        """Nuclei lost in a square millimetre."""
        return self.removed / self.area_mm2


def nuclear_contrast(image: ArrayLike, um_per_px: float) -> NDArray[np.float32]:
    """``(CH3 - CH2) / (CH3 + CH2 + s)``, float32 ``(H, W)``, highest in nuclei.

    ``s`` is a fifth of the mean brightness of :data:`SURROUNDINGS_UM` around, plus :data:`DARK`. A gain common to both
    channels nearly cancels, but nothing is divided by its own spread: an even image has no contrast, faint noise a faint one.

    Parameters
    ----------
    image
        Unit intensity ``(2, H, W)``.

    Raises
    ------
    InputError
        When the image has another shape, is not float, or is not finite.
    """
    ch2, ch3 = (ndi.gaussian_filter(channel, SMOOTHING, mode="reflect") for channel in _unit_image(image))
    brightness = (ch2 + ch3) / 2
    around = ndi.uniform_filter(brightness, max(1, round(SURROUNDINGS_UM / um_per_px)), mode="reflect")
    return np.asarray((ch3 - ch2) / (2 * brightness + 0.2 * around + DARK), dtype=np.float32)


def nuclear_responses(image: ArrayLike, um_per_px: float) -> Responses:
    """How much each place looks like the centre of a nucleus of each of :data:`RADII_UM`, float32 ``(6, H, W)``.

    The scale-normalised Laplacian of Gaussian (Lindeberg 1998, Int J Comput Vis 30:79) of :func:`nuclear_contrast` at
    ``sigma = r / sqrt(2)``, scaled so that a disc of radius r answers at its centre with its contrast to what is around it.

    Parameters
    ----------
    image
        Unit intensity ``(2, H, W)``.

    Raises
    ------
    InputError
        See :func:`nuclear_contrast`; also when the smallest nuclei would have a radius below 2 px.
    """
    return blob_responses(nuclear_contrast(image, um_per_px), um_per_px)


def blob_responses(field: NDArray[np.float32], um_per_px: float, radii_um: tuple[float, ...] = RADII_UM) -> Responses:
    """How much each place of a field ``(H, W)`` looks like the centre of a disc of each radius, float32 ``(S, H, W)``.

    Signed: a disc below its surroundings answers with a negative number. See :func:`nuclear_responses`.

    Raises
    ------
    InputError
        When the smallest discs would have a radius below 2 px.
    """
    if not 0 < um_per_px <= RADII_UM[0] / 2:
        raise InputError(
            f"{um_per_px} um per px", f"more than 0 and at most {RADII_UM[0] / 2} um, so that nuclei can be seen as discs"
        )
    spectrum = dctn(field, norm="ortho")
    filters = _filters(field.shape, um_per_px, radii_um)
    return np.stack([idctn(spectrum * filter_, norm="ortho") for filter_ in filters])


def blob_maxima(
    responses: Responses, um_per_px: float, threshold: float, radii_um: tuple[float, ...] = RADII_UM
) -> NDArray[np.float64]:
    """Maxima of :func:`blob_responses` over place and radius, float64 ``(K, 3)`` of y, x and radius in px, by strength.

    ``radii_um`` are those of the responses. Of two that lie nearer than 0.8 of the larger radius the stronger stays.
    """
    highest = ndi.maximum_filter(responses, size=3, mode="nearest")
    scale, y, x = np.nonzero((responses == highest) & (responses >= threshold))
    order = np.argsort(-responses[scale, y, x], kind="stable")
    radius = np.asarray(radii_um)[scale] / um_per_px
    candidates = np.column_stack([y, x, radius]).astype(np.float64)[order]
    kept = np.empty((0, 3))
    for candidate in candidates:
        apart = np.hypot(*(kept[:, :2] - candidate[:2]).T)
        if (apart > 0.8 * np.maximum(kept[:, 2], candidate[2])).all():
            kept = np.vstack([kept, candidate])
    return kept


def detect_nuclei(image: ArrayLike, um_per_px: float, *, threshold: float = STRONG) -> NDArray[np.float64]:
    """Nuclei of an image, float64 ``(K, 3)`` of y, x and radius in px, the strongest first.

    :func:`blob_maxima` of :func:`nuclear_responses`. Red cells, protein without lipid too, are found as well.

    Parameters
    ----------
    image
        Unit intensity ``(2, H, W)``.
    threshold
        Response from which on a maximum counts.

    Raises
    ------
    InputError
        See :func:`nuclear_responses`.
    """
    return blob_maxima(nuclear_responses(image, um_per_px), um_per_px, threshold)


def supported(nuclei: NDArray[np.float64], responses: Responses, um_per_px: float) -> NDArray[np.bool_]:
    """Which nuclei ``(K, 3)`` have a response of :data:`WEAK` within :data:`MATCH_UM`, bool ``(K,)``."""
    reach = MATCH_UM / um_per_px
    steps = np.arange(-int(reach), int(reach) + 1)
    disc = np.hypot(steps[:, None], steps[None]) <= reach
    near = ndi.maximum_filter(responses.max(axis=0), footprint=disc, mode="nearest")
    y, x = nuclei[:, :2].astype(np.intp).T
    return np.asarray(near[y, x] >= WEAK)


def nuclei_changes(
    restored: ArrayLike, clean: ArrayLike, um_per_px: float, truth: NDArray[np.floating] | None = None
) -> NucleiChanges:
    """Nuclei added and removed by a restoration.

    Added is a nucleus of ``restored`` (:data:`STRONG`) where ``clean`` has not even a :data:`WEAK` response within
    :data:`MATCH_UM`, nor ``truth`` a nucleus; removed is one of ``clean``, and of ``truth`` when given, where ``restored`` has
    no weak response. The gap between the two thresholds keeps a nucleus from counting that is a little fainter, softer or
    elsewhere. A body with as much CH3 as its surroundings counts from about a third less CH2 on, not with a quarter less.

    Parameters
    ----------
    restored, clean
        Unit intensity ``(2, H, W)`` of the same field.
    truth
        ``(K, 3)`` of y, x and radius in px, as phantoms state it.

    Raises
    ------
    InputError
        When the images have unequal shapes; see also :func:`nuclear_responses`.
    """
    if np.shape(restored) != np.shape(clean):
        raise InputError(f"images of shape {np.shape(restored)} and {np.shape(clean)}", "two of one shape (2, H, W)")
    ours, reference = nuclear_responses(restored, um_per_px), nuclear_responses(clean, um_per_px)
    found, expected = (blob_maxima(responses, um_per_px, STRONG) for responses in (ours, reference))
    added = ~supported(found, reference, um_per_px)
    if truth is not None:
        added &= ~_in_truth(found, truth, um_per_px)
        expected = expected[_in_truth(expected, truth, um_per_px)]
    removed = ~supported(expected, ours, um_per_px)
    height, width = ours.shape[1:]
    return NucleiChanges(int(added.sum()), int(removed.sum()), len(expected), height * width * (um_per_px / 1000) ** 2)


def _unit_image(image: ArrayLike) -> NDArray[np.float32]:
    found = np.asarray(image)
    if found.ndim != 3 or len(found) != 2 or found.dtype.kind != "f":
        raise InputError(f"an image of {found.dtype} with shape {found.shape}", "unit intensity, float of shape (2, H, W)")
    if not np.isfinite(found).all():
        raise InputError("an image with NaN or infinite pixels", "finite unit intensity")
    return found.astype(np.float32)


@lru_cache(maxsize=4)
def _filters(shape: tuple[int, int], um_per_px: float, radii_um: tuple[float, ...]) -> tuple[Responses, ...]:
    """Transfer functions of the Laplacians of Gaussian; a cosine transform reflects the image at its edges."""
    frequencies = (np.pi * np.arange(n) / n for n in shape)
    squared = np.add.outer(*(f**2 for f in frequencies))
    variances = ((radius / um_per_px) ** 2 / 2 for radius in radii_um)
    # At its centre a disc of radius sqrt(2) sigma and unit contrast answers -sigma^2 LoG with 2 / e.
    return tuple((np.e / 2 * v * squared * np.exp(-v * squared / 2)).astype(np.float32) for v in variances)


def _in_truth(nuclei: NDArray[np.float64], truth: NDArray[np.floating], um_per_px: float) -> NDArray[np.bool_]:
    """Which nuclei ``(K, 3)`` lie within the radius of a true one, or within the matching distance of its centre."""
    if not len(truth) or not len(nuclei):
        return np.zeros(len(nuclei), dtype=bool)
    distance, nearest = KDTree(truth[:, :2]).query(nuclei[:, :2])
    return np.asarray(distance <= np.maximum(truth[nearest, 2], MATCH_UM / um_per_px))
