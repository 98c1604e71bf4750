"""Any slide to VL Whole Slide Microscopy files, tile row by tile row; a file that exists is whole."""

from __future__ import annotations

import errno
import hashlib
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_encoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, claimed, draft_of, flush
from srh_clinic.integration.dicom_file import quiet_pydicom
from srh_clinic.integration.dicom_header import check_identifiers, content_of, image_header, make_derived, make_level
from srh_clinic.integration.targets import check_replaceable, is_one_file, source_files, target_files
from srh_clinic.intensity import Counts
from srh_clinic.resampling import block_mean, level_shape
from srh_clinic.slide import Identity, Slide, require_unchanged

TRANSFER_SYNTAXES = {
    "jpeg-ls": JPEGLSLossless,
    "raw": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-2000": JPEG2000Lossless,
}
"""The lossless ways to store frames, by the name a caller gives."""

FRAME_PX = 512
"""Edge of a written tile in pixels; a smaller slide is one tile."""

LEAST_FRAME_PX = 8
"""Least edge of a tile: the encoder of JPEG-LS fails on frames of fewer than some 40 pixels."""

MAX_32_BIT = 2**32 - 2
"""Bytes that a native Pixel Data element or a basic offset table can address."""

_ITEM = b"\xfe\xff\x00\xe0"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_wsi(
    slide: Slide,
    out: str | Path,
    *,
    transfer_syntax: str = "jpeg-ls",
    derived_from: Slide | Identity | None = None,
    provenance: Mapping[str, Any] | None = None,
    created: datetime | None = None,
    levels: Sequence[int] = (),
) -> list[Path]:
    """Write a slide as DICOM, holding one row of tiles at a time.

    Parameters
    ----------
    slide
        What to write.
    out
        A name ending in ``.dcm`` gets both optical paths in one file; any other is a folder that gets one instance per Raman
        shift in one series. Files of the same names are replaced once the new ones are whole, if they are an earlier output
        of the same series or derived from the same source.
    transfer_syntax
        A key of :data:`TRANSFER_SYNTAXES`.
    derived_from
        The slide, or its identity, that ``slide`` was computed from: the images join its study as a new, DERIVED series.
    provenance
        What made the derived slide: JSON-like, with ``version``, ``bundle``, ``weights_sha256``, ``seed`` and ``settings``.
        Together with the source and what is written it determines the UIDs. Required with ``derived_from``.
    created
        Time stamped into the images (default: now).
    levels
        Further levels of the pyramid, see :func:`pyramid_levels`: each pixel of them is the mean of so many squared. They
        stand beside the files of a folder as ``SRS2845-4.dcm``.

    Returns
    -------
    list of Path
        The files written, CH2 before CH3, then those of the levels.

    Raises
    ------
    InputError
        When the syntax is unknown, an identifier is longer than DICOM allows, the place cannot be written or holds a file
        that must stay, or the disk is full. What was there is there then, and nothing else.
    ValueError
        When only one of ``derived_from`` and ``provenance`` is given; when levels are asked of one file.
    """
    if (derived_from is None) != (provenance is None):
        raise ValueError("derived_from and provenance belong together")
    if levels and is_one_file(Path(out)):
        raise ValueError("the levels of a pyramid need a folder")
    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise InputError(f"the transfer syntax {transfer_syntax!r}", f"one of {', '.join(TRANSFER_SYNTAXES)}")
    out = Path(out)
    source = derived_from if isinstance(derived_from, Identity) or derived_from is None else derived_from.identity
    files = (*source_files(slide), *source_files(derived_from))
    names = target_files(out, levels)
    layout: list[tuple[int, ...]] = [(0, 1)] if is_one_file(out) else [(0,), (1,)]
    created = created or datetime.now()
    try:
        check_place(out, folder=not is_one_file(out))
        with quiet_pydicom(), claimed(out), _spool(out) as work:
            encoded = _encode(slide, work, TRANSFER_SYNTAXES[transfer_syntax], levels)
            for read in (slide, derived_from):
                if isinstance(read, Slide):
                    require_unchanged(read)
            content = content_of(slide, encoded[0].digest, is_one_file(out))
            images = [(frames, channels) for frames in encoded for channels in layout]
            for number, ((frames, channels), name) in enumerate(zip(images, names, strict=True), start=1):
                header = image_header(slide, channels, encoded[0].frame_shape, number=number, content=content, created=created)
                if source is not None and provenance is not None:
                    resampled = _is_resampled(slide, derived_from, source)
                    make_derived(header, source, channels, provenance, content=content, resampled=resampled, created=created)
                if levels:
                    make_level(header, frames.factor, frames.shape)
                check_identifiers(header)
                check_replaceable(name, files, source, str(header.SeriesInstanceUID))
                _write_file(work / name.name, header, frames, channels)
                flush(work / name.name)
            names[0].parent.mkdir(parents=True, exist_ok=True)
            _put_in_place([work / name.name for name in names], names)
            flush(names[0].parent)
    except OSError as error:
        if error.errno in _NO_SPACE:
            pixels = slide.shape[0] * slide.shape[1]
            raise InputError(
                "no space left on the disk", f"up to {pixels * 8 / 1e9:.3g} GB of free space while writing", out
            ) from error
        raise InputError(f"a place that cannot be written ({error.strerror})", "a writable folder", out) from error
    return names


@contextmanager
def _spool(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` for what is not whole yet."""
    folder = draft_of(out.absolute())
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(new: Sequence[Path], names: Sequence[Path]) -> None:
    """Rename every new file to its name; where one cannot be, put back what was there under all of them.

    What was there keeps its name until the new one takes it, so that a power cut leaves no name without a file.
    """
    moves = [(file, file.with_name(f"{file.name}.replaced"), name) for file, name in zip(new, names, strict=True)]
    try:
        for file, old, name in moves:
            if name.exists():
                _second_name(name, old)
            file.replace(name)
    except BaseException:
        for file, old, name in moves:
            if old.exists():
                old.replace(name)
            elif not file.exists():
                name.unlink()
        raise


def _second_name(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # a disk without links
        shutil.copy2(file, name)


def _is_resampled(slide: Slide, derived_from: Slide | Identity | None, source: Identity) -> bool:
    """Whether a slide lies on another grid of pixels than the one that it is derived from, as far as that is known."""
    if isinstance(derived_from, Slide):
        return slide.shape != derived_from.shape
    shapes = {(h.TotalPixelMatrixRows, h.TotalPixelMatrixColumns) for h in source.attributes.get("headers", ())}
    return bool(shapes) and slide.shape not in shapes


class _EncodedFrames:
    """Both channels' frames of a level on their way: encoded into one spool a channel, as they will stand in the file."""

    def __init__(self, work: Path, syntax: UID, shape: tuple[int, int], frame_shape: tuple[int, int], factor: int) -> None:
        self.syntax = syntax
        self.factor = factor
        self.shape = shape[0], shape[1]
        self.frame_shape = frame_shape
        self.spools = [work / f"frames{channel}-{factor}" for channel in (0, 1)]
        self.lengths: tuple[list[int], list[int]] = ([], [])
        self._digest = hashlib.sha256()
        self._waiting: list[Counts] = []

    @property
    def digest(self) -> str:
        """SHA-256 of frame shape and counts; every syntax is lossless and keeps the image what it is."""
        digest = self._digest.copy()
        digest.update(f"{self.frame_shape}".encode())
        return digest.hexdigest()

    def take(self, rows: Counts, last: bool) -> None:
        """Take further rows of the image, uint16 ``(2, h, width)``; frames are encoded as soon as a row of them is there."""
        self._waiting.append(rows)
        height = self.frame_shape[0]
        while (there := sum(part.shape[1] for part in self._waiting)) >= height or (last and there):
            band = np.concatenate(self._waiting, axis=1)
            self._waiting = [band[:, height:]]
            self._encode_band(band[:, :height])

    def _encode_band(self, band: Counts) -> None:
        rows, columns = self.frame_shape
        right = -self.shape[1] % columns
        padded = np.pad(band, ((0, 0), (0, rows - band.shape[1]), (0, right)))
        for channel, spool in enumerate(self.spools):
            with spool.open("ab") as file:
                for x in range(0, padded.shape[2], columns):
                    self._put(file, channel, np.ascontiguousarray(padded[channel, :, x : x + columns]))

    def _put(self, spool: BinaryIO, channel: int, frame: Counts) -> None:
        self._digest.update(frame.tobytes())
        data = self._encoded(frame)
        data += b"\x00" * (len(data) % 2)
        if self.syntax.is_encapsulated:
            spool.write(_ITEM + struct.pack("<L", len(data)))
        spool.write(data)
        self.lengths[channel].append(len(data))

    def _encoded(self, frame: Counts) -> bytes:
        if not self.syntax.is_encapsulated:
            return frame.astype("<u2", copy=False).tobytes()
        return get_encoder(self.syntax).encode(
            frame,
            rows=frame.shape[0],
            columns=frame.shape[1],
            number_of_frames=1,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=16,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )


def _encode(slide: Slide, work: Path, syntax: UID, levels: Sequence[int]) -> list[_EncodedFrames]:
    """Spool every frame of the slide and of its levels, reading it once, one row of tiles at a time; the slide's own first."""
    height, width = slide.shape
    # Tiles of one size at every level: readers such as wsidicom leave out a level that has others.
    frame_shape = min(FRAME_PX, max(height, LEAST_FRAME_PX)), min(FRAME_PX, max(width, LEAST_FRAME_PX))
    whole = _EncodedFrames(work, syntax, slide.shape, frame_shape, 1)
    smaller = [_EncodedFrames(work, syntax, level_shape(slide.shape, f), frame_shape, f) for f in levels]
    step = whole.frame_shape[0]
    for y in range(0, height, step):
        inside = min(step, height - y)
        band = slide.read(y, 0, inside, width)
        last = y + inside == height
        whole.take(band, last)
        for level in smaller:
            inside = level.shape[0] - y // level.factor
            level.take(np.rint(block_mean(band, level.factor))[:, :inside, : level.shape[1]].astype(np.uint16), last)
    return [whole, *smaller]


def pyramid_levels(shape: tuple[int, int], at_least: int = 1) -> tuple[int, ...]:
    """The levels of a pyramid, powers of 2: down to a picture of at most a tile, and to ``at_least``.

    None is coarser than a tile's edge, which every row of tiles is then cut into.

    >>> pyramid_levels((6_000, 5_000)), pyramid_levels((6_000, 5_000), 64), pyramid_levels((300, 200))
    ((2, 4, 8, 16), (2, 4, 8, 16, 32, 64), ())
    """
    factors = []
    factor = 2
    while factor <= FRAME_PX and (factor <= at_least or max(shape) > FRAME_PX * factor // 2):
        factors.append(factor)
        factor *= 2
    return tuple(factors)


def _write_file(path: Path, header: Dataset, frames: _EncodedFrames, channels: Sequence[int]) -> None:
    """Header, offset table and the spooled frames of ``channels``, one channel after the other."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    meta.TransferSyntaxUID = frames.syntax
    header.file_meta = meta
    lengths = np.array([length for channel in channels for length in frames.lengths[channel]], dtype=np.uint64)
    encapsulated = frames.syntax.is_encapsulated
    if not encapsulated and lengths.sum() > MAX_32_BIT:
        raise InputError(
            f"{int(lengths.sum()) / 1e9:.3g} GB of raw pixels", "a compressed transfer syntax for more than 4 GiB"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths + np.uint64(8))[:-1]]).astype(np.uint64)
    extended = encapsulated and offsets[-1] > MAX_32_BIT
    if extended:
        header.ExtendedOffsetTable = offsets.astype("<u8").tobytes()
        header.ExtendedOffsetTableLengths = lengths.astype("<u8").tobytes()
    dcmwrite(path, header, enforce_file_format=True)
    with path.open("ab") as file:
        if encapsulated:
            table = b"" if extended else offsets.astype("<u4").tobytes()
            file.write(b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff" + _ITEM + struct.pack("<L", len(table)) + table)
        else:
            file.write(b"\xe0\x7f\x10\x00OW\x00\x00" + struct.pack("<L", int(lengths.sum())))
        for channel in channels:
            with frames.spools[channel].open("rb") as spool:
                shutil.copyfileobj(spool, file, 2**20)
        if encapsulated:
            file.write(b"\xfe\xff\xdd\xe0\x00\x00\x00\x00")
