"""The strips, tiles or rows of a channel of a TIFF: where they lie in the file, and how they become counts."""

from __future__ import annotations

import copy
import lzma
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from math import prod
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, TiffFile, TiffPage, TiffPageSeries

from srh_clinic.errors import InputError
from srh_clinic.integration.damage import DAMAGED, told_as
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.frames import Frames, check_frame_shape, grid_corners
from srh_clinic.integration.limits import limits
from srh_clinic.intensity import Counts

NEEDED = "a two-channel TIFF of shape (2, H, W), uint8 or uint16, CH2 before CH3"

_DEFLATE = {8, 32946}
_LZMA = 34925
_PREDICTORS = {1, 2}  # none, and differences of neighbours
_DECODERS = "the package imagecodecs (pip install imagecodecs), or a TIFF without compression"
_SPARE_BYTES = 4096  # what an encoder may put behind a whole piece
_BAND_ROWS = 32


@dataclass(frozen=True)
class TiffFrames:
    """Strips or tiles of one page of a series of a TIFF, or, uncompressed in one piece, bands of its rows.

    ``origin`` is the first byte of a channel that lies in the file in one piece, otherwise ``None``; ``sample`` of ``samples``
    is the channel's place among those that are interleaved pixel by pixel; ``first`` is the channel's first piece among those
    of its page. ``opened`` is the page as it was read when the file was opened; another process reads it anew.
    """

    path: Path
    series: int
    page: int
    shape: tuple[int, int]
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    origin: int | None
    depth: Depth
    sample: int = 0
    samples: int = 1
    first: int = 0
    opened: TiffPage | None = field(default=None, repr=False, compare=False)

    def load(self, index: int) -> Counts:
        """Decode one strip, tile or band to counts; ``InputError`` when the file does not give it."""
        with told_as(f"a TIFF whose strip or tile {index} cannot be decoded", NEEDED, self.path):
            try:
                stored = self.stored(index)
            except ImportError as error:
                raise InputError(f"{self._compression} compression", _DECODERS, self.path) from error
            except DAMAGED as error:
                if "requires the 'imagecodecs' package" in str(error):  # as tifffile says it
                    raise InputError(f"{self._compression} compression", _DECODERS, self.path) from error
                if self.origin is None and self._compression.isdigit():
                    found = f"compression {self._compression}, which is none that is known"
                    raise InputError(found, "a TIFF without compression", self.path) from error
                raise
            return self.depth.to_counts(stored, self.path)

    def stored(self, index: int) -> NDArray[Any]:
        """The piece as the file holds it."""
        rows, width = self.frame_shape
        if self.origin is not None:
            rows = min(rows, self.shape[0] - index * rows)
            offset = self.origin + index * self.frame_shape[0] * width * self.samples * self.dtype.itemsize
            band = np.fromfile(self.path, self.dtype, rows * width * self.samples, offset=offset)
            return band.reshape(rows, width, self.samples)[..., self.sample]
        piece = self.first + index
        offset, size = int(self._page.dataoffsets[piece]), int(self._page.databytecounts[piece])
        if size == 0:  # a sparse TIFF leaves out empty tiles
            return np.zeros(self.frame_shape, self.dtype)
        with self.path.open("rb") as file:
            file.seek(offset)
            encoded = file.read(size)
        inflated = self._inflated(encoded)
        page = self._page if inflated is None else self._plain_page
        decoded, _, valid = page.decode(encoded if inflated is None else inflated, piece)
        rows, columns = self._within(index)
        return np.asarray(decoded[0, : min(valid[1], rows), : min(valid[2], columns), self.sample])

    def _within(self, index: int) -> tuple[int, int]:
        """Rows and columns of a piece that are of the image; what fills up a tile at its edges is not."""
        (height, width), (rows, columns) = self.shape, self.frame_shape
        down, across = divmod(index, -(-width // columns))
        return min(rows, height - down * rows), min(columns, width - across * columns)

    def _inflated(self, encoded: bytes) -> bytes | None:
        """What a deflated piece holds, up to its pixels and no further: a few kilobytes can hold gigabytes.

        ``None`` for other compressions, which tifffile decodes.
        """
        n_bytes = self.frame_shape[0] * self.frame_shape[1] * self.samples * self.dtype.itemsize
        return inflated(encoded, int(self._page.compression), n_bytes, self.path)

    @property
    def _compression(self) -> str:
        return str(getattr(self._page.compression, "name", self._page.compression))

    @cached_property
    def _page(self) -> Any:
        if self.opened is not None:
            return self.opened
        with TiffFile(self.path, _multifile=False) as tiff:
            return tiff.series[self.series].pages[self.page].aspage()

    @cached_property
    def _plain_page(self) -> Any:
        """The page as if its pieces were not compressed."""
        page = copy.copy(self._page)
        page.__dict__.pop("decode", None)
        page.compression = COMPRESSION.NONE
        return page

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_page", "_plain_page")}
        return kept | {"opened": None}


def inflated(encoded: bytes, compression: int, n_bytes: int, path: Path) -> bytes | None:
    """What a deflated piece of ``n_bytes`` of pixels holds; ``None`` for compressions that are not deflate or LZMA.

    Raises
    ------
    InputError
        When it holds more than that, and what an encoder may put behind it.
    EOFError
        When it breaks off before.
    """
    if compression in _DEFLATE:
        decoder: Any = zlib.decompressobj()
    elif compression == _LZMA:
        decoder = lzma.LZMADecompressor(memlimit=2**28)
    else:
        return None
    most = n_bytes + _SPARE_BYTES
    held: bytes = decoder.decompress(encoded, most + 1)
    if len(held) > most:
        raise InputError("a tile that inflates to more than its pixels", f"at most {most} bytes", path)
    if not decoder.eof and len(held) < n_bytes:
        raise EOFError("the compressed piece ends before its pixels")
    return held


def locate(
    path: Path, tiff: TiffFile, number: int, page: int, channel: int, depth: Depth, opened: TiffPage | None = None
) -> Frames:
    """Find a channel's pieces and see that the file is long enough for them.

    Parameters
    ----------
    path, tiff, number
        The file, and which of its series.
    page
        The page of the series.
    channel
        The channel's place among the samples of the page.
    depth
        How its values become counts.
    opened
        The page itself, where it was read before.

    Raises
    ------
    InputError
        When they are too large, too many, too few, or not within the file.
    """
    series = tiff.series[number]
    lengths = dict(zip(series.axes, series.shape, strict=True))
    height, width = int(lengths["Y"]), int(lengths["X"])
    dtype = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
    interleaved = int(lengths["S"]) if series.axes.endswith("S") else 1
    size = path.stat().st_size
    plane_bytes = height * width * interleaved * dtype.itemsize
    origin, first = None, 0
    if series.dataoffset is not None:
        origin = int(series.dataoffset) + page * plane_bytes
        if series.axes[0] == "S":
            origin += channel * plane_bytes
        frame_shape = min(height, _BAND_ROWS), width
        end = origin + plane_bytes
    else:
        frame_shape, first, end = _pieces(path, series, page, channel, (height, width))
    if end > size:
        raise InputError("a truncated TIFF", "a whole file", path)
    check_frame_shape((frame_shape[0], frame_shape[1] * interleaved), path)
    top, left = grid_corners((height, width), frame_shape)
    source = TiffFrames(
        path,
        number,
        page,
        (height, width),
        frame_shape,
        dtype,
        origin,
        depth,
        sample=channel if interleaved > 1 else 0,
        samples=interleaved,
        first=first,
        opened=opened,
    )
    return Frames(source, np.arange(len(top), dtype=np.int64), top, left)


def _pieces(
    path: Path, series: TiffPageSeries, page: int, channel: int, shape: tuple[int, int]
) -> tuple[tuple[int, int], int, int]:
    """Shape of a page's strips or tiles, the first of the channel, and the last byte that its pieces take."""
    key = series.keyframe
    height, width = shape
    separate = series.axes.startswith("S")
    n_pages = prod(int(n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS")
    if len(series.pages) != n_pages:
        raise InputError("several images compressed in one page", "one page per channel", path)
    frame_shape = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, height), width)
    if min(frame_shape) < 1:
        raise InputError(f"tiles of {frame_shape[1]} x {frame_shape[0]} pixels", "tiles of at least one", path)
    per_plane = -(-height // frame_shape[0]) * -(-width // frame_shape[1])
    if per_plane > limits().frames:
        raise InputError(f"{per_plane} strips or tiles", f"at most {limits().frames}", path)
    pieces = series.pages[page]
    offsets, counts = pieces.dataoffsets, pieces.databytecounts
    if len(offsets) != per_plane * (key.samplesperpixel if separate else 1) or len(counts) != len(offsets):
        raise InputError(f"{len(offsets)} strips or tiles for {width} x {height} pixels", NEEDED, path)
    first = channel * per_plane if separate else 0
    of_channel = slice(first, first + per_plane)
    if not any(counts[of_channel]):
        raise InputError(f"no pixels in any of {per_plane} strips or tiles", "an image", path)
    end = max(map(add, offsets[of_channel], counts[of_channel]))
    return frame_shape, first, end


def is_decodable(series: TiffPageSeries) -> bool:
    """Whether no package beyond ours is needed for its pixels, as far as its header says."""
    key = series.keyframe
    plain = int(key.compression) in {COMPRESSION.NONE, *_DEFLATE, _LZMA} and int(key.predictor) in _PREDICTORS
    return series.dataoffset is not None or plain


def check_packing(series: TiffPageSeries, path: Path) -> None:
    """Refuse samples that are packed without gaps where the package that unpacks them is missing."""
    bits = int(series.keyframe.bitspersample)
    if bits not in (8, 16) and find_spec("imagecodecs") is None:
        needed = "8 or 16 bits a sample, or the package imagecodecs (pip install imagecodecs)"
        raise InputError(f"samples of {bits} bits, packed (BitsPerSample {bits})", needed, path)
