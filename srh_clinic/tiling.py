"""Tiles of a slide: where they lie, how they are kept on disk, and how they become one slide again."""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.files import parsed_json, require_no_link, whole_file
from srh_clinic.intensity import Counts, rounded_counts
from srh_clinic.notebook import ShownSlide
from srh_clinic.slide import Identity, Slide, check_region


@dataclass(frozen=True)
class TileGrid:
    """Overlapping square tiles that cover a slide; the last row and column are moved back to end with it.

    Parameters
    ----------
    shape
        Height and width of the slide in pixels.
    tile
        Edge of a tile in pixels. A slide smaller than that gets one tile in that axis, which :func:`read_tile` fills by
        reflection.
    overlap
        Pixels that neighbours share, at most half a tile.

    Raises
    ------
    InputError
        When shape, tile or overlap are out of range.
    """

    shape: tuple[int, int]
    tile: int = 256
    overlap: int = 32

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.tile < 1 or not 0 <= self.overlap <= self.tile // 2:
            found = (
                f"tiles of {self.tile} px that overlap by {self.overlap} px on a slide of {self.shape[0]} x {self.shape[1]} px"
            )
            raise InputError(found, "a slide with pixels and an overlap of at most half a tile")

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Upper edge of each row of tiles."""
        return self._offsets(self.shape[0])

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """Left edge of each column of tiles."""
        return self._offsets(self.shape[1])

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """Top left corner ``(y, x)`` of each tile, row by row, ``(N, 2)``; a tile's index is its place in this list."""
        y, x = np.meshgrid(self.rows, self.columns, indexing="ij")
        return np.stack([y.ravel(), x.ravel()], axis=1)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def within(self, y: int, x: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """Index, y and x of every tile that shares a pixel with a region."""
        rows = np.flatnonzero((self.rows < y + height) & (self.rows + self.tile > y))
        columns = np.flatnonzero((self.columns < x + width) & (self.columns + self.tile > x))
        for i in rows.tolist():
            for j in columns.tolist():
                yield i * len(self.columns) + j, int(self.rows[i]), int(self.columns[j])

    def _offsets(self, length: int) -> NDArray[np.int64]:
        last = max(length - self.tile, 0)
        offsets = np.arange(0, last, self.tile - self.overlap, dtype=np.int64)
        return np.append(offsets, last)


def read_tile(slide: Slide, y: int, x: int, tile: int) -> Counts:
    """The tile with its top left corner at ``(y, x)``, uint16 counts ``(2, tile, tile)``; past the slide's end reflected."""
    height, width = min(tile, slide.shape[0] - y), min(tile, slide.shape[1] - x)
    return np.pad(slide.read(y, x, height, width), ((0, 0), (0, tile - height), (0, tile - width)), mode="reflect")


def feather(tile: int, overlap: int) -> NDArray[np.float64]:
    """Weight of a tile's pixels along an axis before normalisation, float64 ``(tile,)``: Hann's ramp, never zero.

    That of a pixel is the product of both axes'. Where a tile begins the network has seen nothing beyond, and the ramp is
    flat there and where it ends: neither line shows.
    """
    from_edge = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 1
    return np.sin(np.pi / 2 * np.minimum(from_edge / (overlap + 1), 1.0)) ** 2


HEADER, TILES, JOURNAL = "store.json", "tiles.bin", "records.jsonl"
"""The files of a :class:`TileStore`."""

DAMAGED = ".damaged-"
"""In the name of a store that was found damaged and set aside."""


class TileStore:
    """Finished tiles of one run in a folder, whole after any cut.

    ``tiles.bin`` holds each tile at its own offset (sparse: what was never put takes no room), ``records.jsonl`` a line for
    each finished one, written after the tile and carrying the checksum of its bytes. Opening cuts off a half-written line and
    forgets tiles whose bytes did not reach the disk. A folder of ours whose header is damaged is set aside, and begun anew.

    Parameters
    ----------
    path
        The folder; made when it does not exist.
    grid
        Where the tiles lie.
    fingerprint
        Names everything the tiles depend on: source, settings, seed, weights.

    Raises
    ------
    InputError
        When the folder holds tiles of another grid or fingerprint, or cannot be written; when it, or a file in it, is a link.
    """

    def __init__(self, path: str | Path, grid: TileGrid, fingerprint: str) -> None:
        self.path = Path(path)
        self.grid = grid
        self.fingerprint = fingerprint
        self._lines: dict[int, dict[str, Any]] = {}
        with _writing(self.path):
            require_no_link(self.path.parent, self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim()
            self._tiles = _open_to_update(self.path / TILES)
            self._journal = _open_to_update(self.path / JOURNAL)
            self._recover()

    def put(self, index: int, counts: Counts, record: dict[str, Any]) -> None:
        """Keep a finished tile, uint16 counts ``(2, tile, tile)``, and what is to be known of it (anything JSON holds).

        Raises
        ------
        InputError
            When the disk is full or the folder is gone.
        """
        if counts.shape != self._shape or counts.dtype != np.uint16:
            raise ValueError(f"found {counts.dtype} {counts.shape}; needed uint16 {self._shape}.")
        content = np.ascontiguousarray(counts, dtype="<u2").tobytes()
        line = {"index": index, "crc32": _checksum(content, record), "record": record}
        with _writing(self.path):
            self._tiles.seek(index * len(content))
            _write_all(self._tiles, content)
            self._journal.seek(0, os.SEEK_END)
            _write_all(self._journal, json.dumps(line).encode() + b"\n")
        self._lines[index] = line

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which tiles are finished, bool ``(N,)``."""
        finished = np.zeros(len(self.grid), dtype=bool)
        finished[list(self._lines)] = True
        return finished

    def __contains__(self, index: int) -> bool:
        return index in self._lines

    def get(self, index: int) -> Counts:
        """A finished tile, uint16 counts ``(2, tile, tile)``; ``KeyError`` when it is not finished."""
        if index not in self._lines:
            raise KeyError(index)
        return np.frombuffer(self._content(index), dtype="<u2").reshape(self._shape).astype(np.uint16)

    def record(self, index: int) -> dict[str, Any]:
        """What :meth:`put` was told of a finished tile; ``KeyError`` when it is not finished."""
        return dict(self._lines[index]["record"])

    def close(self) -> None:
        """Close the files; what was put stays."""
        self._tiles.close()
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def _shape(self) -> tuple[int, int, int]:
        return 2, self.grid.tile, self.grid.tile

    def _content(self, index: int) -> bytes:
        size = 2 * self.grid.tile * self.grid.tile * np.dtype(np.uint16).itemsize
        return os.pread(self._tiles.fileno(), size, index * size)  # moves nothing that another thread reads or writes by

    def _claim(self) -> None:
        """Write whose tiles these are, or compare it with what is written."""
        header = self.path / HEADER
        require_no_link(header)
        grid = {"shape": list(self.grid.shape), "tile": self.grid.tile, "overlap": self.grid.overlap}
        ours = {"fingerprint": self.fingerprint, "grid": grid}
        if self._is_damaged():
            self.path.replace(_free_name(self.path))
            self.path.mkdir()
        if header.exists():
            if parsed_json(header.read_bytes()) != ours:
                raise InputError(
                    "tiles of another run", "the same source, settings, seed and weights, or another folder", self.path
                )
        # A run that was cut here has left a draft of the header, and nothing else.
        elif any(not path.name.startswith(f".{header.name}-") for path in self.path.iterdir()):
            raise InputError("a folder with other content", "an empty folder for the tiles", self.path)
        else:
            with whole_file(header) as draft:
                draft.write_text(json.dumps(ours), encoding="utf-8")

    def _recover(self) -> None:
        """Take up every whole record whose tile is whole, and cut off the rest of a half-written line."""
        whole = 0
        for text in self._journal.readlines():
            try:
                line = parsed_json(text)
            except ValueError:
                break
            if not (text.endswith(b"\n") and self._is_ours(line)):
                break
            whole += len(text)
            self._lines[line["index"]] = line
        self._journal.truncate(whole)
        for index, line in list(self._lines.items()):
            if _checksum(self._content(index), line["record"]) != line["crc32"]:
                del self._lines[index]

    def _is_damaged(self) -> bool:
        """Whether this folder was ours and is broken: a header that says nothing, a folder in the place of a file."""
        header = self.path / HEADER
        if not header.exists():
            return False
        if any((self.path / name).is_dir() for name in (HEADER, TILES, JOURNAL)):
            return True
        try:
            said = parsed_json(header.read_bytes())
        except ValueError:
            return True
        return not (isinstance(said, dict) and set(said) == {"fingerprint", "grid"} and isinstance(said["grid"], dict))

    def _is_ours(self, line: Any) -> bool:
        """Whether a line of the journal can be one of this grid's."""
        if not isinstance(line, dict) or not isinstance(line.get("record"), dict):
            return False
        return type(line.get("index")) is int and 0 <= line["index"] < len(self.grid) and type(line.get("crc32")) is int


@dataclass(frozen=True, eq=False)
class Change:
    """A region of a source, uint16 ``(2, h, w)``, and what finished tiles add to it, float32 of the same shape.

    ``share`` is that of the finished tiles in each pixel, float32 ``(h, w)`` from 0 to 1.
    """

    source: Counts
    counts: NDArray[np.float32]
    share: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MosaicSlide(ShownSlide):
    """A slide whose finished tiles replace the source, blended on every read.

    Each tile of the grid, finished or not, has its feathered share of a pixel, and an unfinished one's share is the source's:
    a restored tile fades into a neighbour that was left alone. Where no tile was restored the source is shown exactly. Only
    the tiles that a read touches are loaded. Finished tiles in ``withheld`` are shown as if they were not finished.

    Raises
    ------
    InputError
        When source and grid differ in size.
    """

    source: Slide
    grid: TileGrid
    store: TileStore
    withheld: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.source.shape != self.grid.shape:
            raise InputError(
                f"a slide of {self.source.shape} pixels and a grid for {self.grid.shape}", "a grid of the slide's shape"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def um_per_px(self) -> float:
        return self.source.um_per_px

    @property
    def identity(self) -> Identity:
        return self.source.identity

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        change = self.change(y, x, height, width)
        return rounded_counts(change.source + change.counts)

    def change(self, y: int, x: int, height: int, width: int) -> Change:
        """What the finished tiles make of a region; ``ValueError`` when it is not within the slide."""
        check_region(self.shape, y, x, height, width)
        source = self.source.read(y, x, height, width)
        change = np.zeros(source.shape, dtype=np.float32)
        share = np.zeros((height, width), dtype=np.float32)
        for index, top, left in self.grid.within(y, x, height, width):
            if index not in self.store or index in self.withheld:
                continue
            rows = slice(max(y, top), min(y + height, top + self.grid.tile))
            columns = slice(max(x, left), min(x + width, left + self.grid.tile))
            here = (slice(None), _shifted(rows, y), _shifted(columns, x))
            restored = self.store.get(index)[:, _shifted(rows, top), _shifted(columns, left)].astype(np.float32)
            weight = np.outer(
                self._profile[_shifted(rows, top)] / self._row_sums[rows],
                self._profile[_shifted(columns, left)] / self._column_sums[columns],
            ).astype(np.float32)
            change[here] += weight * (restored - source[here])
            share[here[1:]] += weight
        return Change(source, change, share)

    @cached_property
    def _profile(self) -> NDArray[np.float64]:
        return feather(self.grid.tile, self.grid.overlap)

    @cached_property
    def _row_sums(self) -> NDArray[np.float64]:
        return self._weight_sums(self.shape[0], self.grid.rows)

    @cached_property
    def _column_sums(self) -> NDArray[np.float64]:
        return self._weight_sums(self.shape[1], self.grid.columns)

    def _weight_sums(self, length: int, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of all tiles' weights along one axis, ``(length,)``; the weights are separable and so is their sum."""
        sums = np.zeros(length)
        for offset in offsets.tolist():
            part = sums[offset : offset + self.grid.tile]
            part += self._profile[: len(part)]
        return sums


def _free_name(folder: Path) -> Path:
    """Where a damaged folder is set aside: beside its place, under a name that says what it is."""
    return folder.with_name(f"{folder.name}{DAMAGED}{secrets.token_hex(4)}")


def _checksum(content: bytes, record: Any) -> int:
    """CRC-32 of a tile's bytes and of what is to be known of it."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode(), zlib.crc32(content))


def _shifted(span: slice, origin: int) -> slice:
    return slice(span.start - origin, span.stop - origin)


def _open_to_update(path: Path) -> FileIO:
    require_no_link(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666))
    return FileIO(path, "r+", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))


def _write_all(file: FileIO, content: bytes) -> None:
    """Write every byte: an unbuffered file may take fewer, as it does just before the disk is full."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell a full disk or a missing permission as what a user can mend."""
    try:
        yield
    except OSError as error:
        raise InputError(error.strerror or str(error), "room and permission to write tiles", path) from error
