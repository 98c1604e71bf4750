"""Tiles: where they lie, that they survive a cut, and that they become the slide again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.slide import ArraySlide, Slide
from srh_clinic.tiling import MosaicSlide, TileGrid, TileStore, feather, read_tile


def numbered(height: int, width: int) -> np.ndarray:
    """Counts that are different in every pixel as far as 16 bits go, ``(2, height, width)``."""
    ramp = np.arange(height * width).reshape(height, width) % 65536
    return np.stack([ramp, 65535 - ramp]).astype(np.uint16)


def slide_of(counts: np.ndarray) -> ArraySlide:
    return ArraySlide(counts, um_per_px=0.47)


SHAPES = [(1000, 700), (256, 256), (257, 300), (480, 704), (100, 600), (40, 30), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap"), [(256, 32), (64, 0), (64, 32)])
def test_tiles_cover_every_pixel_and_end_with_the_slide(shape: tuple[int, int], tile: int, overlap: int) -> None:
    grid = TileGrid(shape, tile, overlap)
    covered = np.zeros(shape, dtype=int)
    for y, x in grid.positions:
        covered[y : y + tile, x : x + tile] += 1
    assert covered.min() >= 1
    assert grid.positions.dtype == np.int64
    assert grid.positions.shape == (len(grid), 2)
    for axis in (0, 1):
        assert grid.positions[:, axis].max() == max(shape[axis] - tile, 0)
        steps = np.diff(np.unique(grid.positions[:, axis]))
        assert (steps <= tile - overlap).all()
        assert (steps > 0).all()
    np.testing.assert_array_equal(grid.positions, sorted(map(tuple, grid.positions)))


def test_a_region_meets_the_tiles_that_share_a_pixel_with_it() -> None:
    grid = TileGrid((500, 700), 128, 16)
    for y, x, height, width in ((0, 0, 1, 1), (111, 127, 2, 2), (128, 240, 300, 17), (499, 699, 1, 1), (0, 0, 500, 700)):
        top, left = grid.positions.T
        meets = (top < y + height) & (top + 128 > y) & (left < x + width) & (left + 128 > x)
        assert [index for index, *_ in grid.within(y, x, height, width)] == np.flatnonzero(meets).tolist()
        assert all((grid.positions[index] == (top, left)).all() for index, top, left in grid.within(y, x, height, width))


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((0, 5), 256, 32), ((5, 5), 0, 0), ((5, 5), 64, 33), ((5, 5), 64, -1)])
def test_an_impossible_grid_is_refused(shape: tuple[int, int], tile: int, overlap: int) -> None:
    with pytest.raises(InputError, match="overlap"):
        TileGrid(shape, tile, overlap)


def test_neighbouring_feathers_add_up_to_one() -> None:
    weights = feather(64, 16)
    assert weights.dtype == np.float64
    assert weights.min() > 0
    # float64 rounding of two weights.
    np.testing.assert_allclose(weights[-16:] + weights[:16], 1.0, atol=1e-15)
    assert (weights[16:-16] == 1).all()
    np.testing.assert_array_equal(feather(64, 0), np.ones(64))


def test_a_tile_within_the_slide_is_read_as_it_is() -> None:
    counts = numbered(300, 300)
    np.testing.assert_array_equal(read_tile(slide_of(counts), 44, 7, 256), counts[:, 44:300, 7:263])


def test_a_small_slide_is_reflected_to_a_whole_tile() -> None:
    counts = numbered(100, 300)
    tile = read_tile(slide_of(counts), 0, 44, 256)
    assert tile.shape == (2, 256, 256)
    np.testing.assert_array_equal(tile[:, :100], counts[:, :, 44:300])
    np.testing.assert_array_equal(tile[:, 100:199], counts[:, 98::-1, 44:300])
    assert (read_tile(slide_of(numbered(1, 1)), 0, 0, 256) == numbered(1, 1)).all()


# The mosaic


def restored(path: Path, grid: TileGrid, source: Slide, indices: Iterator[int] | range | list[int]) -> TileStore:
    store = TileStore(path, grid, "a run")
    for index in indices:
        y, x = grid.positions[index]
        store.put(index, read_tile(source, int(y), int(x), grid.tile), {})
    return store


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mosaic_of_a_slides_own_tiles_is_the_slide(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Exactly: shares of a pixel add up to one within float32, far below half a count. The source is black, so that nothing of
    it may show through."""
    original, black = slide_of(numbered(*shape)), slide_of(np.zeros((2, *shape), dtype=np.uint16))
    grid = TileGrid(shape, 256, 32)
    with restored(tmp_path / "tiles", grid, original, range(len(grid))) as store:
        mosaic = MosaicSlide(black, grid, store)
        assert isinstance(mosaic, Slide)
        np.testing.assert_array_equal(mosaic.read(0, 0, *shape), original.counts)


def test_reading_a_mosaic_by_regions_is_reading_it_whole(tmp_path: Path) -> None:
    shape, rng = (300, 420), np.random.default_rng(0)
    source = slide_of(rng.integers(0, 65536, (2, *shape)).astype(np.uint16))
    grid = TileGrid(shape, 128, 32)
    with restored(tmp_path / "tiles", grid, slide_of(numbered(*shape)), [0, 1, 5, 7]) as store:
        mosaic = MosaicSlide(source, grid, store)
        whole = mosaic.read(0, 0, *shape)
        for y, x, height, width in ((0, 0, 128, 128), (97, 95, 40, 70), (299, 419, 1, 1), (100, 0, 1, 420)):
            np.testing.assert_array_equal(mosaic.read(y, x, height, width), whole[:, y : y + height, x : x + width])
        with pytest.raises(ValueError, match="not within"):
            mosaic.read(0, 0, 301, 1)


def test_tissue_that_was_not_restored_is_the_sources(tmp_path: Path) -> None:
    shape, rng = (600, 600), np.random.default_rng(1)
    source = slide_of(rng.integers(0, 65536, (2, *shape)).astype(np.uint16))
    grid = TileGrid(shape, 256, 32)
    white = slide_of(np.full((2, *shape), 65535, dtype=np.uint16))
    with restored(tmp_path / "tiles", grid, white, [4]) as store:
        (y, x), mosaic = grid.positions[4], MosaicSlide(source, grid, store).read(0, 0, *shape)
        outside = np.ones(shape, dtype=bool)
        outside[y : y + 256, x : x + 256] = False
        np.testing.assert_array_equal(mosaic[:, outside], source.counts[:, outside])
        inside = mosaic[:, y + 32 : 344, x + 32 : 344]  # the next tiles, clamped to the slide's end, begin at 344
        np.testing.assert_array_equal(inside, np.full_like(inside, 65535))


def test_restored_tiles_fade_into_what_was_left_alone(tmp_path: Path) -> None:
    shape = (256, 480)
    source, white = (slide_of(np.full((2, *shape), value, dtype=np.uint16)) for value in (1000, 34000))
    grid = TileGrid(shape, 256, 32)
    with restored(tmp_path / "tiles", grid, white, [0]) as store:
        row = MosaicSlide(source, grid, store).read(128, 0, 1, 480)[0, 0].astype(int)
    assert (np.diff(row) <= 0).all()
    # 33,000 counts in 33 steps of Hann's ramp: flat at both ends, steepest between.
    steps = -np.diff(row)[223:256]
    assert (steps.sum(), (row[224:256] + row[224:256][::-1] == 35000).all()) == (33_000, True)
    assert max(steps[0], steps[-1]) < 100 < 1500 < steps[16] == steps.max()


def test_a_mosaic_keeps_what_is_known_of_its_source(tmp_path: Path) -> None:
    source = ArraySlide(numbered(10, 10), um_per_px=0.35, notes=("stretched from 8 bits",))
    grid = TileGrid((10, 10))
    with TileStore(tmp_path / "tiles", grid, "a run") as store:
        mosaic = MosaicSlide(source, grid, store)
        assert (mosaic.shape, mosaic.um_per_px, mosaic.notes) == ((10, 10), 0.35, source.notes)
        assert mosaic.identity is source.identity
        with pytest.raises(InputError, match="grid"):
            MosaicSlide(slide_of(numbered(11, 10)), grid, store)


# The store


GRID = TileGrid((100, 100), 64, 16)


def some_tile(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (2, 64, 64)).astype(np.uint16)


def filled(path: Path, *indices: int) -> TileStore:
    store = TileStore(path, GRID, "run 1")
    for index in indices:
        store.put(index, some_tile(index), {"steps": index + 1, "flags": ["capped"]})
    return store


def test_a_store_gives_back_what_it_got_also_when_opened_again(tmp_path: Path) -> None:
    for store in (filled(tmp_path / "tiles", 0, 3), TileStore(tmp_path / "tiles", GRID, "run 1")):
        with store:
            assert store.done.tolist() == [True, False, False, True]
            assert 3 in store
            assert 1 not in store
            np.testing.assert_array_equal(store.get(3), some_tile(3))
            assert store.record(3) == {"steps": 4, "flags": ["capped"]}
            with pytest.raises(KeyError):
                store.get(1)


def test_a_half_written_record_is_cut_off_and_its_tile_is_done_again(tmp_path: Path) -> None:
    filled(tmp_path / "tiles", 0, 1, 2).close()
    journal = tmp_path / "tiles" / "records.jsonl"
    whole = journal.read_bytes()
    second_ends = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for cut in (len(whole) - 1, len(whole) - 10, second_ends + 1):
        journal.write_bytes(whole[:cut])
        with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
            assert store.done.tolist() == [True, True, False, False]
            store.put(2, some_tile(20), {"steps": 7})
        with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
            assert store.done.tolist() == [True, True, True, False]
            np.testing.assert_array_equal(store.get(2), some_tile(20))
            assert store.record(2) == {"steps": 7}


def test_a_tile_whose_bytes_did_not_reach_the_disk_is_not_done(tmp_path: Path) -> None:
    filled(tmp_path / "tiles", 0, 1).close()
    content = tmp_path / "tiles" / "tiles.bin"
    os.truncate(content, content.stat().st_size - 5)
    with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
        assert store.done.tolist() == [True, False, False, False]


def test_a_killed_process_loses_no_tile_that_it_called_finished(tmp_path: Path) -> None:
    script = f"""
import itertools, numpy as np
from srh_clinic.tiling import TileGrid, TileStore
store = TileStore({str(tmp_path / "tiles")!r}, TileGrid((100, 100), 64, 16), "run 1")
for i in itertools.cycle(range(4)):
    store.put(i, np.full((2, 64, 64), i, dtype=np.uint16), {{"steps": i}})
    print(i, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = [int(process.stdout.readline()) for _ in range(3)]
        process.kill()
    with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
        assert all(store.done[announced])
        for index in announced:
            assert (store.get(index) == index).all()
            assert store.record(index) == {"steps": index}


@pytest.mark.parametrize(("grid", "fingerprint"), [(GRID, "run 2"), (TileGrid((100, 100), 64, 8), "run 1")])
def test_a_store_of_another_run_is_refused_and_left_as_it_is(tmp_path: Path, grid: TileGrid, fingerprint: str) -> None:
    filled(tmp_path / "tiles", 0).close()
    with pytest.raises(InputError, match="another run"):
        TileStore(tmp_path / "tiles", grid, fingerprint)
    assert filled(tmp_path / "tiles").done[0]


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other content"):
        TileStore(tmp_path, GRID, "run 1")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        TileStore(tmp_path / "thesis.txt", GRID, "run 1")


def test_tiles_that_were_never_put_take_no_room(tmp_path: Path) -> None:
    grid = TileGrid((20000, 20000))
    with TileStore(tmp_path / "tiles", grid, "run 1") as store:
        store.put(len(grid) - 1, np.ones((2, 256, 256), dtype=np.uint16), {})
    content = (tmp_path / "tiles" / "tiles.bin").stat()
    assert content.st_size == len(grid) * 2 * 256 * 256 * 2
    assert content.st_blocks * 512 < 2**20


def test_a_full_disk_is_said_in_one_sentence_and_leaves_the_store_whole(tmp_path: Path) -> None:
    script = f"""
import resource, signal, numpy as np
from srh_clinic.errors import InputError
from srh_clinic.tiling import TileGrid, TileStore
store = TileStore({str(tmp_path / "tiles")!r}, TileGrid((100, 100), 64, 16), "run 1")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
store.put(0, np.full((2, 64, 64), 7, dtype=np.uint16), {{}})
try:
    store.put(1, np.full((2, 64, 64), 7, dtype=np.uint16), {{}})
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "needed room and permission to write tiles" in done.stdout
    with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
        assert store.done.tolist() == [True, False, False, False]


def test_a_record_line_is_plain_json(tmp_path: Path) -> None:
    filled(tmp_path / "tiles", 2).close()
    (line,) = (tmp_path / "tiles" / "records.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["steps"] == 3


def test_a_large_mosaic_is_read_in_the_memory_of_a_few_tiles(tmp_path: Path) -> None:
    class Blank:
        shape, um_per_px, identity, notes = (40000, 40000), 0.47, None, ()

        def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
            return np.zeros((2, height, width), dtype=np.uint16)

    grid = TileGrid((40000, 40000))
    with TileStore(tmp_path / "tiles", grid, "run 1") as store:
        for index in range(0, len(grid), 400):
            store.put(index, np.ones((2, 256, 256), dtype=np.uint16), {})
        mosaic = MosaicSlide(Blank(), grid, store)  # type: ignore[arg-type]
        tracemalloc.start()
        for y in range(0, 39000, 1024):
            mosaic.read(y, y, 1024, 1024)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # One region of 1,024 px takes 4 MB of counts and some copies in float32; the slide would take 6 GB.
    assert peak < 50e6


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 100_000, b"\xff\xfe"])
def test_a_store_whose_header_is_damaged_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path / "tiles", 0, 3).close()
    (tmp_path / "tiles" / "store.json").write_bytes(content)
    with filled(tmp_path / "tiles", 1) as store:
        assert store.done.tolist() == [index == 1 for index in range(len(GRID))]
    (aside,) = tmp_path.glob("tiles.damaged-*")
    assert (aside / "store.json").read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        b"1",
        b"{}",
        b'{"index": 10000, "crc32": 0, "record": {}}',
        b'{"index": -1, "crc32": 0, "record": {}}',
        b'{"index": "1", "crc32": 0, "record": {}}',
        b'{"index": 1, "crc32": 0, "record": []}',
        b"[" * 100_000,
    ],
)
def test_a_journal_that_says_what_nobody_wrote_is_cut_off_there(tmp_path: Path, line: bytes) -> None:
    filled(tmp_path / "tiles", 0, 3).close()
    journal = tmp_path / "tiles" / "records.jsonl"
    first, second = journal.read_bytes().splitlines()
    journal.write_bytes(first + b"\n" + line + b"\n" + second + b"\n")
    with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
        assert store.done.tolist() == [index == 0 for index in range(len(GRID))]


def test_a_tile_whose_record_was_changed_is_not_done(tmp_path: Path) -> None:
    filled(tmp_path / "tiles", 0).close()
    journal = tmp_path / "tiles" / "records.jsonl"
    line = json.loads(journal.read_bytes())
    line["record"]["steps"] = 999
    journal.write_text(json.dumps(line) + "\n")
    with TileStore(tmp_path / "tiles", GRID, "run 1") as store:
        assert not store.done.any()
