"""The strips of an NIO imager, opened and compared: each is one whole image of one channel, and all are of one scan."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import channel_of_words
from srh_clinic.integration.damage import told_as
from srh_clinic.integration.dicom_file import DicomFile, quiet_pydicom, read_header
from srh_clinic.integration.dicom_frames import DicomFrames, open_frames
from srh_clinic.integration.nio_layout import NEEDED, StripFiles
from srh_clinic.integration.strip_registration import shows_the_same
from srh_clinic.integration.units import StatedLength, settle
from srh_clinic.intensity import CHANNELS, Counts
from srh_clinic.registration import COHERENT

_ONE_CASE = {"PatientID": "patient", "StudyInstanceUID": "study", "AccessionNumber": "accession number"}
_MOST_COMPARED = 64  # pairs of strips, of which some ten take a second
_SAYS_CHANNEL = ("SeriesDescription", "ImageComments", "ProtocolName", "AcquisitionProtocolDescription")


@dataclass(frozen=True)
class Strip:
    """One strip of one channel."""

    file: DicomFile
    frames: DicomFrames

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames.frame_shape


@dataclass(frozen=True)
class Strips:
    """The strips of a mosaic, from left to right: CH2's and CH3's of each."""

    pairs: tuple[tuple[Strip, Strip], ...]

    @property
    def all(self) -> tuple[Strip, ...]:
        """Every strip, CH2's before CH3's."""
        return tuple(pair[channel] for channel in (0, 1) for pair in self.pairs)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each strip."""
        return self.pairs[0][0].shape


def open_strips(files: StripFiles, full_scale: int | None, *, trust_headers: bool = True) -> Strips:
    """Open the files of a mosaic; pixels are not read.

    Where ``trust_headers``, a strip whose header names the other channel is refused.

    Raises
    ------
    InputError
        That names the strip which is damaged, cut, not of one channel, or of another size, patient or study than the others.
    """
    with told_as("a damaged DICOM header", "undamaged strips", files.pairs[0][0]), quiet_pydicom():
        ch2, ch3 = ([_open(pair[at], at if trust_headers else None, full_scale) for pair in files.pairs] for at in (0, 1))
    strips = Strips(tuple(zip(ch2, ch3, strict=True)))
    _check_alike(strips.all, lambda strip: strip.shape, "a strip of {0[1]} x {0[0]} pixels, where {2} has {1[1]} x {1[0]}")
    for keyword, word in _ONE_CASE.items():
        _check_alike(strips.all, partial(_stated, keyword), f"a strip of another {word} than {{2}}")
    _check_alike(strips.all, lambda strip: strip.frames.depth.full_scale, "a strip of full scale {0}, where {2} has {1}")
    _check_copies(strips.all)
    return strips


def _open(path: Path, channel: int | None, full_scale: int | None) -> Strip:
    file = read_header(path)
    header = file.header
    n_frames = header.get("NumberOfFrames")
    if n_frames not in (None, "") and int(n_frames) != 1:
        raise InputError(f"a strip of {n_frames} frames", "strips of one image each", path)
    header.NumberOfFrames = 1
    samples = header.get("SamplesPerPixel")
    if samples not in (None, "", 1):
        raise InputError(f"a strip of {samples} samples a pixel", "strips of one channel each", path)
    said = channel_of_words(tuple(str(header.get(keyword) or "") for keyword in _SAYS_CHANNEL))
    if channel is not None and said in (0, 1) and said != channel:
        needed = f"a strip of {CHANNELS[channel]}; its number or its folder says so"
        raise InputError(f"a strip that says it is of {CHANNELS[said]}", needed, path)
    return Strip(file, open_frames(file, full_scale))


def _check_alike(strips: Sequence[Strip], of: Callable[[Strip], Any], found: str) -> None:
    """Refuse the strip that differs from most others; ``found`` says so of its value, theirs, and the first of them."""
    values = [of(strip) for strip in strips]
    usual = Counter(values).most_common(1)[0][0]
    first = strips[values.index(usual)].file.path.name
    for strip, value in zip(strips, values, strict=True):
        if value != usual:
            raise InputError(found.format(value, usual, first), "strips of one scan", strip.file.path)


def _stated(keyword: str, strip: Strip) -> str:
    return str(strip.file.header.get(keyword) or "")


def _check_copies(strips: Sequence[Strip]) -> None:
    """Refuse two strips of one SOP Instance UID: one is a copy of the other under another number."""
    known: dict[str, Path] = {}
    for strip in strips:
        uid = str(strip.file.header.get("SOPInstanceUID") or strip.file.path)
        if uid in known:
            raise InputError(f"the same instance as {known[uid].name}, under another name", NEEDED, strip.file.path)
        known[uid] = strip.file.path


def check_partners(strips: Strips, coherence: NDArray[np.float64]) -> None:
    """Refuse strips of CH2 and CH3 that go together and are numbered as if they did not.

    Parameters
    ----------
    strips
        The strips of a mosaic.
    coherence
        ``(strips, pieces)``: how much CH2 and CH3 of each resemble each other; those that do not are compared.

    Raises
    ------
    InputError
        That names both strips.
    """
    apart = [at for at, heights in enumerate(coherence) if heights.max() < COHERENT]
    pairs = sorted(permutations(apart, 2), key=lambda pair: abs(pair[0] - pair[1]))[:_MOST_COMPARED]
    for at, other in pairs:
        ch2, ch3 = strips.pairs[other][0], strips.pairs[at][1]
        if shows_the_same(ch2.frames.load(0), ch3.frames.load(0)):
            own = strips.pairs[at][0].file.path.name
            found = f"a strip of CH3 that shows what {ch2.file.path.name} of CH2 does, and not what {own} does"
            raise InputError(found, NEEDED, ch3.file.path)


def pixel_edge(strips: Strips, um_per_px: float | None) -> tuple[float, tuple[str, ...]]:
    """Pixel edge in micrometres by the headers or, before them, the caller; and what a result must say of it."""
    stated = []
    for strip in strips.all:
        spacing = strip.file.header.get("PixelSpacing")
        if spacing not in (None, "") and len(spacing) == 2:
            stated += [StatedLength(float(edge) * 1000, f"{strip.file.path.name}, PixelSpacing") for edge in spacing]
    path = strips.pairs[0][0].file.path
    size, notes = settle(stated, um_per_px, path)
    if size is None:
        raise InputError("strips that do not state their pixel size", "--um-per-px", path)
    return size, notes


def decoded(strips: Strips) -> Iterator[tuple[Counts, Counts]]:
    """Counts ``(H, W)`` of CH2 and CH3, strip by strip; each file is read once.

    Raises
    ------
    InputError
        When a strip does not decode, holds one value alone, or the pixels of another.
    """
    seen: dict[bytes, Path] = {}
    for pair in strips.pairs:
        counts = []
        for strip in pair:
            image, path = strip.frames.load(0), strip.file.path
            if image.min() == image.max():
                raise InputError(f"a strip of which every pixel is {int(image.min())}", "a strip that was scanned", path)
            digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
            if digest in seen:
                raise InputError(f"the pixels of {seen[digest].name}, once more", NEEDED, path)
            seen[digest] = path
            counts.append(image)
        yield counts[0], counts[1]
