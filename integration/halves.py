"""Images of one channel each as one slide, focal plane by focal plane, whether they lie in two files or in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import ChannelOrder, ChannelStatement
from srh_clinic.integration.frames import FrameCache, FramedSlide, Frames, check_extent, require_stated_bits
from srh_clinic.integration.limits import limits
from srh_clinic.integration.snapshot import Snapshot, content_of
from srh_clinic.integration.units import agree
from srh_clinic.slide import Identity

DEPTH_TOLERANCE = 0.01
"""Depths of both channels that differ by less, as a share of the distance of planes, are one."""


@dataclass(frozen=True)
class Half:
    """One channel: its frames in each focal plane, what is said of it, and what it needs to be half of a slide."""

    path: Path
    planes: tuple[Frames, ...]
    depths_um: tuple[float | None, ...]
    shape: tuple[int, int]
    um_per_px: float | None
    statement: ChannelStatement
    notes: tuple[str, ...]
    snapshot: Snapshot
    bits: int | None


def joined(
    halves: Sequence[Half], order: ChannelOrder, full_scale: int | None, source: Path
) -> list[tuple[float | None, FramedSlide]]:
    """The two halves that are CH2 and CH3 as slides, one a focal plane, with its depth in micrometres or ``None``.

    Parameters
    ----------
    halves
        Two or more images of one channel each.
    order
        Which of them are CH2 and CH3.
    full_scale
        Stored value at unit intensity 1 where the caller states it.
    source
        What the slides are said to come from.

    Raises
    ------
    InputError
        When they are not two halves of one slide: another size, pixel size, depth of values, or other focal planes.
    """
    ch2, ch3 = (halves[place] for place in order.places)
    size = _pixel_size(ch2, ch3)
    check_extent(ch2.shape, size, ch2.path)
    depths_um = _depths(ch2, ch3)
    bits = _bits(ch2, ch3)
    opened = tuple(dict.fromkeys((half.path, half.snapshot) for half in (ch2, ch3)))
    n_planes = len(ch2.planes)
    slides = [
        FramedSlide(
            shape=ch2.shape,
            um_per_px=size,
            identity=Identity(source=str(source), channel_order=str(order), content=content_of(opened)),
            stated=tuple(dict.fromkeys((*ch2.notes, *ch3.notes, *order.notes))),
            compare_bits=full_scale is None and bits is not None,
            planes=((first,), (second,)),
            cache=FrameCache(limits().cache_bytes // n_planes),
            opened=opened,
        )
        for first, second in zip(ch2.planes, ch3.planes, strict=True)
    ]
    if full_scale is None and bits is None:
        for half in (ch2, ch3):  # each is a file, or an image, with a depth of its own
            require_stated_bits(half.planes, half.path)
    return list(zip(depths_um, slides, strict=True))


def _pixel_size(ch2: Half, ch3: Half) -> float:
    if ch2.shape != ch3.shape:
        found = f"channels of {ch2.shape[1]} x {ch2.shape[0]} and {ch3.shape[1]} x {ch3.shape[0]} pixels"
        raise InputError(found, "two of one size", ch3.path)
    sizes = [half.um_per_px for half in (ch2, ch3) if half.um_per_px is not None]
    if not sizes:
        raise InputError("TIFFs that do not state their pixel size", "--um-per-px", ch2.path)
    if not agree(sizes[0], sizes[-1]):
        raise InputError(
            f"channels of {sizes[0]:g} and {sizes[-1]:g} um per pixel", "one pixel size, or --um-per-px", ch3.path
        )
    return sizes[0]


def _depths(ch2: Half, ch3: Half) -> tuple[float | None, ...]:
    """Depths that either states; refused where both state others, or have another number of planes."""
    counts = len(ch2.planes), len(ch3.planes)
    if counts[0] != counts[1]:
        raise InputError(f"{counts[0]} focal planes of CH2 and {counts[1]} of CH3", "as many of both", ch3.path)
    if None in ch2.depths_um:
        return ch3.depths_um
    if None in ch3.depths_um:
        return ch2.depths_um
    both = [(one, two) for one, two in zip(ch2.depths_um, ch3.depths_um, strict=True) if one is not None and two is not None]
    extent = max(one for one, _ in both) - min(one for one, _ in both)
    most = DEPTH_TOLERANCE * extent / max(len(both) - 1, 1)
    for number, (one, two) in enumerate(both, start=1):
        if abs(one - two) > most:
            found = f"focal plane {number} of CH2 at {one:g} um and of CH3 at {two:g} um"
            raise InputError(found, "both channels of a plane at one depth", ch3.path)
    return ch2.depths_um


def _bits(ch2: Half, ch3: Half) -> int | None:
    """Significant bits that either states; refused where the values of both become counts in different ways."""
    scales = [half.planes[0].source.depth.full_scale for half in (ch2, ch3)]
    if scales[0] != scales[1] and (ch2.bits is None) != (ch3.bits is None):
        stated = max(filter(None, (ch2.bits, ch3.bits)))
        found = f"a channel of {stated} bits and one that does not state its bits"
        raise InputError(found, f"--full-scale {2**stated} or 65536", ch3.path)
    if scales[0] != scales[1]:
        raise InputError(f"channels of full scales {scales[0]} and {scales[1]}", "two of one depth", ch3.path)
    return ch2.bits if ch2.bits is not None else ch3.bits
