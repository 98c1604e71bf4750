"""The strips of an NIO imager as one slide: laid side by side, CH3 registered on CH2, the flat field taken off if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.integration.channels import ChannelOption, ChannelOrder, ChannelStatement, decide_channels
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.dicom_frames import DicomFrames
from srh_clinic.integration.flat_field import ColumnSums, FlatField, column_profile, flattened, require_flat_field
from srh_clinic.integration.frames import FramedSlide, Frames, check_extent
from srh_clinic.integration.nio_layout import StripFiles
from srh_clinic.integration.nio_strips import Strips, check_partners, decoded, open_strips, pixel_edge
from srh_clinic.integration.snapshot import content_of
from srh_clinic.integration.strip_registration import (
    ChannelShift,
    Overlap,
    channel_shift,
    moved,
    piece_shifts,
    strip_overlap,
)
from srh_clinic.intensity import CHANNELS, Counts, rounded_counts
from srh_clinic.slide import Identity

SHOWS = 1.1
"""Brightness gradient across borders, as a multiple of that elsewhere, from which on a note tells what lowers it."""

_SPARE = 4  # columns beyond the largest shift that are kept of a neighbour


@dataclass(frozen=True)
class StripFrames:
    """One channel of one strip, as it lies in the slide: cropped where a neighbour shows the same, flat and moved.

    ``beside`` are the neighbours' columns next to the strip, where strips only touch: what is moved in there was measured.
    """

    frames: DicomFrames
    crop: tuple[int, int]
    flat_field: FlatField
    profile: NDArray[np.float64] | None
    moves: NDArray[np.float64] | None
    beside: tuple[Counts | None, Counts | None]

    @property
    def path(self) -> Path:
        return self.frames.path

    @property
    def depth(self) -> Depth:
        return self.frames.depth

    @property
    def frame_shape(self) -> tuple[int, int]:
        return self.frames.frame_shape[0], self.crop[1] - self.crop[0]

    def stored(self, index: int) -> NDArray[Any]:
        """The strip as the file holds it, cropped; see :class:`~srh_clinic.integration.frames.FrameSource`."""
        return self.frames.stored(index)[:, slice(*self.crop)]

    def load(self, index: int) -> Counts:
        """Counts ``(H, w)`` of the strip; see :class:`~srh_clinic.integration.frames.FrameSource`."""
        image: Counts = self.frames.load(index)
        if self.flat_field == "none" and self.moves is None:
            return image[:, slice(*self.crop)]
        before, after = self.beside
        level = self._flat(image)
        left, right = self.crop
        if self.moves is not None:
            # a neighbour's columns are those at its far side, where the profile is that of its own place
            parts = [level]
            if before is not None:
                parts.insert(0, self._flat_columns(before, slice(-before.shape[1], None)))
                left, right = left + before.shape[1], right + before.shape[1]
            if after is not None:
                parts.append(self._flat_columns(after, slice(None, after.shape[1])))
            level = moved(np.concatenate(parts, axis=1), self.moves)
        return rounded_counts(level[:, left:right])

    def _flat(self, image: Counts) -> NDArray[np.float64]:
        return flattened(image, self.flat_field, self.profile)

    def _flat_columns(self, columns: Counts, at: slice) -> NDArray[np.float64]:
        """Columns of a neighbour; those of the usual preparation were levelled when they were kept."""
        return np.asarray(columns / self.profile[at] if self.profile is not None else columns, dtype=np.float64)


@dataclass(frozen=True)
class _Measured:
    """What one look at all strips says."""

    sums: tuple[tuple[ColumnSums, ColumnSums], ...]
    shift: ChannelShift
    overlap: Overlap
    profiles: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]


def read_nio(
    path: Path,
    files: StripFiles,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    flat_field: str = "none",
) -> FramedSlide:
    """Open the strips of a mosaic as one slide; all of them are decoded once, to find what is damaged and where CH3 lies.

    Parameters
    ----------
    path
        The folder, as the caller names it.
    files
        What :func:`~srh_clinic.integration.nio_layout.strip_files` found in it.
    um_per_px, full_scale, channels
        As in :func:`~srh_clinic.integration.reader.read_slide`; ``channels`` says of each pair of strips what they are.
    flat_field
        A name of :data:`~srh_clinic.integration.flat_field.FLAT_FIELDS`.

    Raises
    ------
    InputError
        That names the strip which is missing, damaged, there twice or of another scan.
    """
    flat = require_flat_field(flat_field)
    stated = [ChannelStatement((name,)) for name in CHANNELS]
    if channels is None:
        order = ChannelOrder((0, 1), "by the folders of the strips" if "folder" in files.layout else "by the strips' numbers")
    else:
        order = decide_channels(stated, channels, path)
    if order.places == (1, 0):
        files = StripFiles(files.layout, tuple((ch3, ch2) for ch2, ch3 in files.pairs))
    strips = open_strips(files, full_scale, trust_headers=channels is None)
    size, notes = pixel_edge(strips, um_per_px)
    measured = _measure(strips, flat)
    height, width = strips.shape
    pitch = width - measured.overlap.columns
    shape = height, width + pitch * (len(strips.pairs) - 1)
    check_extent(shape, size, path)
    opened = tuple((strip.file.path, strip.file.snapshot) for strip in strips.all)
    header = strips.pairs[0][0].file.header
    return FramedSlide(
        shape=shape,
        um_per_px=size,
        identity=Identity(
            patient_id=str(header.get("PatientID") or ""),
            specimen_id=str(header.get("AccessionNumber") or ""),
            study_uid=str(header.get("StudyInstanceUID") or ""),
            source=str(path),
            channel_order=str(order),
            content=content_of(opened) if flat == "none" else fingerprint(files=content_of(opened), flat_field=flat),
        ),
        stated=tuple(dict.fromkeys((*notes, *order.notes, *_told(files, strips, measured, flat)))),
        compare_bits=full_scale is None,
        planes=(_frames(strips, measured, flat, 0), _frames(strips, measured, flat, 1)),
        opened=opened,
    )


def _measure(strips: Strips, flat_field: FlatField) -> _Measured:
    margin = max(strips.shape[1] // 5, 1)
    sums, shifts = [], []
    for ch2, ch3 in decoded(strips):
        shifts.append(piece_shifts(ch2, ch3))
        if flat_field == "gaussian":
            ch2, ch3 = (rounded_counts(flattened(image, flat_field, None)) for image in (ch2, ch3))
        sums.append((ColumnSums.of(ch2, margin), ColumnSums.of(ch3, margin)))
    shift = channel_shift(shifts)
    check_partners(strips, shift.coherence)
    overlap = strip_overlap(sums)
    profiles: list[NDArray[np.float64] | None] = [None, None]
    if flat_field == "columns":
        profiles = [column_profile([strip[channel] for strip in sums], overlap.columns) for channel in (0, 1)]
    return _Measured(tuple(sums), shift, overlap, (profiles[0], profiles[1]))


def _frames(strips: Strips, measured: _Measured, flat_field: FlatField, channel: int) -> tuple[Frames, ...]:
    """Where each strip of a channel lies in the slide."""
    width, shared = strips.shape[1], measured.overlap.columns
    moves = measured.shift.moves if channel == 1 else None
    kept = 0 if moves is None or shared else int(np.ceil(np.abs(moves).max())) + _SPARE
    last = len(strips.pairs) - 1
    frames = []
    for at, pair in enumerate(strips.pairs):
        crop = (shared - shared // 2 if at else 0, width - (shared // 2 if at < last else 0))
        before = measured.sums[at - 1][channel].right[:, -kept:] if kept and at else None
        after = measured.sums[at + 1][channel].left[:, :kept] if kept and at < last else None
        source = StripFrames(
            pair[channel].frames,
            crop,
            flat_field,
            measured.profiles[channel],
            None if moves is None else moves[at],
            (before, after),
        )
        left = at * (width - shared) + crop[0]
        frames.append(Frames(source, *(np.array([number], dtype=np.int64) for number in (0, 0, left))))
    return tuple(frames)


def _told(files: StripFiles, strips: Strips, measured: _Measured, flat_field: FlatField) -> tuple[str, ...]:
    """What a result must say of the strips."""
    count, overlap = len(strips.pairs), measured.overlap
    notes = [f"{files.layout}: {count} of {strips.shape[1]} x {strips.shape[0]} px", str(measured.shift)]
    if flat_field != "none":
        notes.append(f"flat field taken off ({flat_field})")
    if count > 1:
        worst = max(_border_gradients(measured, channel) for channel in (0, 1))
        lie = f"overlap by {overlap.columns} px" if overlap.columns else "only touch"
        shows = "" if worst < SHOWS or flat_field != "none" else "; --flat-field columns lowers it"
        notes.append(f"the strips {lie}; brightness gradient across their borders {worst:.2f} times that elsewhere{shows}")
    apart = max((abs(down) for down in overlap.down), default=0.0)
    if apart >= 1:
        notes.append(f"neighbouring strips lie up to {apart:.1f} px higher or lower than each other; they were not moved")
    return tuple(notes)


def _border_gradients(measured: _Measured, channel: int) -> float:
    """Mean brightness step between the columns at both sides of the borders, over that between any other neighbours."""
    shared, profile = measured.overlap.columns, measured.profiles[channel]
    sums = [strip[channel] for strip in measured.sums]
    across, along = [], []
    for one, other in pairwise(sums):
        before, after = one.right.astype(np.float64), other.left.astype(np.float64)
        if profile is not None:
            before, after = before / profile[-before.shape[1] :], after / profile[: after.shape[1]]
        here, there = before[:, before.shape[1] - shared // 2 - 1], after[:, shared - shared // 2]
        across.append(np.abs(here - there).mean())
        along += [np.abs(np.diff(columns, axis=1)).mean() for columns in (before, after)]
    elsewhere = float(np.mean(along))
    return float(np.mean(across)) / elsewhere if elsewhere > 0 else 1.0


def require_no_flat_field(flat_field: str | None, path: Path | Sequence[Path]) -> None:
    """Refuse a flat field for a case that is no folder of strips."""
    if flat_field not in (None, "none"):
        place = path if isinstance(path, Path) else path[0]
        raise InputError(f"--flat-field {flat_field} for a case that is not strips", "no --flat-field", place)
