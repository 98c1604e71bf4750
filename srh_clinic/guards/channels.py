"""Whether two channels can be what they say: CH2 and CH3 of one field, each scanned once, in this order and in register.

Numbers first, flags second. The numbers are taken from windows of the slide as it was scanned:

* the ratio of means: protein gives more signal at 2930 cm-1 than lipid at 2845 cm-1, but real tissue overlaps;
* the order of contrast: a nucleus is dark in CH2 and not in CH3, so nuclear blobs of the share of CH3 are bright, not dark;
* the shift between both by phase correlation (Kuglin and Hines 1975), in pixels, and the height of its peak, the coherence:
  two fields have no peak;
* the similarity, a correlation of what both show without their noise, which is 1 for one channel scanned twice;
* the structure of each, the share of its fine variation that neighbouring pixels have in common: noise has none.

Nothing is ever refused on it: a flag asks a person to look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srh_clinic.intensity import CHANNELS, Counts, counts_to_unit
from srh_clinic.metrics.nuclei import RADII_UM, nuclear_responses
from srh_clinic.registration import COHERENT, IN_REGISTER, phase_shift
from srh_clinic.slide import Slide
from srh_clinic.tissue import TissueMask

WINDOW = 512
"""Edge in px of the windows that are looked at."""

WINDOWS = 6
"""Most windows that are looked at."""

SHIFTED_PX, FAR_SHIFTED_PX = 1.0, 4.0
"""Shift in px from which on a flag is raised, and from which on it is a warning."""

SWAPPED_ORDER, SURE_RATIO = 0.85, 1.05
"""Nuclear contrast of CH3 over CH2 relative to that of CH2 over CH3, below which the pair looks swapped, unless the ratio of
means is above the second number."""

FAINT_ORDER = 0.065
"""Response below which blobs are noise and their order says nothing."""

SWAPPED_RATIO, UNSURE_ORDER = 0.87, 1.1
"""Ratio of means below which the pair looks swapped, unless the order of contrast is above this."""

UNEQUAL = 4.0
"""Ratio of means, either way, above which no tissue is: 12 bits read as 16 are a sixteenth. Real images have 0.52 to 1.30."""

SAME, CERTAIN = 0.998, 1.02
"""Similarity from which on both look like one channel scanned twice; above the second number noise has spoiled it."""

NOISE, STRUCTURED = 0.02, 0.1
"""Structure of a channel that is noise while the other, from the second number on, is not."""

DARK = 0.004
"""Unit intensity of the 99th percentile below which a channel is dark (260 counts)."""

_LAGS = tuple((dy, dx) for dy in range(-3, 4) for dx in range(4) if 4 <= dy * dy + dx * dx <= 9)


@dataclass(frozen=True)
class ChannelCheck:
    """What two channels have to do with each other; ``None`` where nothing could be measured.

    Attributes
    ----------
    ratio_of_means
        Mean of CH3 by mean of CH2.
    contrast_order
        Strongest one per cent of nuclear responses of CH3 over CH2 by those of CH2 over CH3; above 1 in tissue with nuclei.
    shift_px
        How far CH3 lies below and right of CH2.
    coherence
        Height of the correlation's peak in its standard deviations.
    similarity
        Correlation of both without their noise.
    structure
        Of each channel, the share of its fine variation that is no noise.
    brightest
        Of each channel, the 99th percentile in unit intensity.
    windows
        How many windows were looked at.
    """

    ratio_of_means: float | None
    contrast_order: float | None
    shift_px: tuple[float, float] | None
    coherence: float
    similarity: float | None
    structure: tuple[float, float]
    brightest: tuple[float, float]
    windows: int


def look_at_channels(slide: Slide, mask: TissueMask | None = None, um_per_px: float | None = None) -> ChannelCheck | None:
    """Check the channels of a slide in its windows with most tissue; ``None`` for a slide too small for any.

    Parameters
    ----------
    slide
        As it was scanned.
    mask, um_per_px
        Where its tissue is, and the pixel size that the mask counts in (default: the slide's).
    """
    height, width = slide.shape
    edge = min(WINDOW, height, width)
    if edge < 32:
        return None
    scale = slide.um_per_px / (um_per_px or slide.um_per_px)
    corners = [(y, x) for y in _spread(height, edge) for x in _spread(width, edge)]

    def tissue(corner: tuple[int, int]) -> float:
        if mask is None:
            return 1.0
        rows, columns = (n * mask.cell for n in mask.cells.shape)
        y, x, size = (int(n * scale) for n in (*corner, edge))
        return mask.within(min(y, rows - 1), min(x, columns - 1), max(size, 1), max(size, 1))

    chosen = sorted(corners, key=tissue, reverse=True)[:WINDOWS]
    return check_channels([slide.read(y, x, edge, edge) for y, x in chosen], slide.um_per_px)


def check_channels(windows: Sequence[Counts], um_per_px: float) -> ChannelCheck:
    """The numbers of :class:`ChannelCheck` from windows of one size.

    Parameters
    ----------
    windows
        Counts ``(2, h, w)``, at least one.
    um_per_px
        Pixel edge in micrometres.
    """
    images = [counts_to_unit(window) for window in windows]
    ch2, ch3 = (float(np.mean([image[channel].mean() for image in images])) for channel in (0, 1))
    shift, coherence = phase_shift((image[0], image[1]) for image in images)
    structure, similarity = _shared(images)
    pixels = np.stack([image[:, ::4, ::4] for image in images], axis=1).reshape(2, -1)
    brightest = np.percentile(pixels, 99, axis=1)
    return ChannelCheck(
        ratio_of_means=ch3 / ch2 if ch2 > 0 else None,
        contrast_order=_contrast_order(images, um_per_px),
        shift_px=shift,
        coherence=coherence,
        similarity=similarity,
        structure=structure,
        brightest=(float(brightest[0]), float(brightest[1])),
        windows=len(images),
    )


def channel_flags(check: ChannelCheck) -> tuple[str, ...]:
    """What a reader must know of the pair, each with its number; a sentence begins with a code and a colon."""
    return tuple(f"{code}: {said}" for code, said in _said(check))


def _said(check: ChannelCheck) -> Iterator[tuple[str, str]]:
    for channel, name in enumerate(CHANNELS):
        if check.brightest[channel] < DARK <= check.brightest[1 - channel]:
            yield "channel-dark", f"99 % of {name} is below {check.brightest[channel]:.4f} of full scale"
            return
        one, other = check.structure[channel], check.structure[1 - channel]
        if one < NOISE and other >= STRUCTURED and check.coherence < COHERENT:
            yield "channel-noise", f"{name} is noise: {one:.1%} of its fine variation is structure, of the other's {other:.0%}"
            return
    if max(check.structure) < STRUCTURED or max(check.brightest) < DARK:
        return
    alike = check.similarity is not None and SAME <= check.similarity <= CERTAIN and check.contrast_order is None
    if alike and check.coherence >= IN_REGISTER:
        yield "channels-same", f"CH2 and CH3 look like one channel scanned twice (similarity {check.similarity:.4f})"
        return
    if check.coherence < COHERENT:
        said = f"CH2 and CH3 share no structure (peak of {check.coherence:.1f} standard deviations), as two fields do"
        yield "channels-of-two-fields", said
    elif check.shift_px is not None and check.coherence >= IN_REGISTER:
        down, right = check.shift_px
        if (distance := float(np.hypot(down, right))) > SHIFTED_PX:
            far = distance > FAR_SHIFTED_PX
            code = "channels-far-shifted" if far else "channels-shifted"
            yield code, f"CH3 lies {distance:.1f} px from CH2 ({down:+.1f} down, {right:+.1f} right)"
    ratio = check.ratio_of_means
    if ratio is not None and not 1 / UNEQUAL <= ratio <= UNEQUAL:
        yield "channels-unequal", f"CH3 has {ratio:.2g} of the mean of CH2: one may be stored at another scale (--full-scale)"
    elif (swapped := _looks_swapped(check)) is not None:
        yield "channels-swapped", f"CH2 and CH3 may be swapped: {swapped}; see --channels"


def _looks_swapped(check: ChannelCheck) -> str | None:
    order, ratio = check.contrast_order, check.ratio_of_means
    if order is not None and ratio is not None and order < SWAPPED_ORDER and ratio < SURE_RATIO:
        return f"nuclei are darker in CH3 than in CH2 (order of contrast {order:.2f})"
    if ratio is not None and ratio < SWAPPED_RATIO and (order is None or order < UNSURE_ORDER):
        return f"CH3 has {ratio:.2f} of the mean of CH2, which protein exceeds"
    return None


def _spread(length: int, edge: int) -> list[int]:
    """Up to five places for a window along an edge, evenly."""
    n = min(5, max(1, length // edge))
    return [int(at) for at in np.linspace(0, length - edge, n)]


def _contrast_order(images: Sequence[NDArray[np.float32]], um_per_px: float) -> float | None:
    if not 0 < um_per_px <= RADII_UM[0] / 2:
        return None
    bright, dark = [], []
    for image in images:
        bright.append(nuclear_responses(image, um_per_px).max(axis=0)[::2, ::2])
        dark.append(nuclear_responses(np.ascontiguousarray(image[::-1]), um_per_px).max(axis=0)[::2, ::2])
    strongest = [float(np.quantile(np.stack(responses), 0.99)) for responses in (bright, dark)]
    return strongest[0] / strongest[1] if max(strongest) >= FAINT_ORDER and strongest[1] > 0 else None


def _shared(images: Sequence[NDArray[np.float32]]) -> tuple[tuple[float, float], float | None]:
    """Structure of each channel, and their correlation without noise, from covariances at distances of 2 to 3 px.

    Noise of a pixel has nothing in common with that of a pixel two away, so it is in none of them.
    """
    from scipy import ndimage as ndi

    own, spread, cross = np.zeros(2), np.zeros(2), 0.0
    for image in images:
        fine = [channel - ndi.uniform_filter(channel, 15, mode="reflect") for channel in image.astype(np.float64)]
        spread += [float((channel**2).mean()) for channel in fine]
        own += [_lagged(channel, channel) for channel in fine]
        cross += (_lagged(fine[0], fine[1]) + _lagged(fine[1], fine[0])) / 2
    structure = np.divide(own, spread, out=np.zeros(2), where=spread > 0)
    similarity = float(cross / np.sqrt(own[0] * own[1])) if (own > 0).all() else None
    return (float(structure[0]), float(structure[1])), similarity


def _lagged(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    height, width = one.shape
    covariances = []
    for dy, dx in _LAGS:
        first = one[max(0, -dy) : height - max(0, dy), : width - dx]
        second = two[max(0, dy) : height - max(0, -dy), dx:]
        covariances.append(float((first * second).mean()))
    return float(np.mean(covariances))
