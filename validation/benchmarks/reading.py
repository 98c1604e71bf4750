"""How fast regions of a JPEG-LS slide are read, beside wsidicom on the same file in the same run, and what opening takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide

REGION = 256
_BLOCK = 1000

Region = Callable[[int, int], Counts]


@dataclass(frozen=True)
class Reading:
    """Seconds of the processor: opening, all regions once, and the same regions again."""

    open_s: float
    cold_s: float
    warm_s: float


def run_reading(file: Path | None = None, edge: int = 6000, regions: int = 150, seed: int = 0) -> dict[str, Reading]:
    """Read random regions of 256 px of both channels by us and, where it is installed, by wsidicom.

    Cold, nothing of the slide is decoded; warm, the same regions were just read. The processor's time is taken: on a busy
    machine others' work would count otherwise. Both must give the same pixels.

    Parameters
    ----------
    file
        A DICOM slide of one file (default: noise of ``edge`` pixels, written as JPEG-LS).

    Raises
    ------
    InputError
        When the slide is smaller than a region, or wsidicom reads other pixels.
    """
    with tempfile.TemporaryDirectory() as work:
        path = _noise(Path(work) / "slide.dcm", edge, seed) if file is None else file
        height, width = read_slide(path).shape
        if min(height, width) <= REGION:
            raise InputError(f"a slide of {width} x {height} pixels", f"one larger than {REGION} pixels", path)
        random = np.random.default_rng(seed)
        places = np.stack([random.integers(0, n - REGION, regions) for n in (height, width)], axis=1).tolist()
        found, seen = {}, {}
        for name, opener in {"srh-clinic": _ours, "wsidicom": _wsidicom}.items():
            if name == "wsidicom" and find_spec("wsidicom") is None:
                continue
            found[name], seen[name] = _timed(opener, path, places)
        if "wsidicom" in seen and seen["wsidicom"] != seen["srh-clinic"]:
            raise InputError("other pixels by wsidicom", "the same by both", path)
    return found


def _timed(opener: Callable[[Path], Region], path: Path, places: list[list[int]]) -> tuple[Reading, list[int]]:
    began = time.process_time()
    read = opener(path)
    opened = time.process_time()
    for y, x in places:
        read(y, x)
    cold = time.process_time()
    for y, x in places:
        read(y, x)
    warm = time.process_time()
    return Reading(opened - began, cold - opened, warm - cold), [int(read(y, x).sum(dtype=np.int64)) for y, x in places]


def _ours(path: Path) -> Region:
    slide = read_slide(path)
    return lambda y, x: slide.read(y, x, REGION, REGION)


def _wsidicom(path: Path) -> Region:
    from wsidicom import WsiDicom  # not one of our dependencies

    slide: Any = WsiDicom.open(path)
    # the order of its optical paths changes from process to process: they are asked for by name, CH2's first
    paths = sorted(slide.levels.base_level.optical_paths)

    def read(y: int, x: int) -> Counts:
        return np.stack([np.asarray(slide.read_region((x, y), 0, (REGION, REGION), path=name)) for name in paths])

    return read


def _noise(path: Path, edge: int, seed: int) -> Path:
    """A slide of noise on a level, in tiles of 512 px: what JPEG-LS takes longest for."""
    block = np.random.default_rng(seed).normal(20_000, 3_000, (2, _BLOCK, _BLOCK)).clip(0, 65535).astype(np.uint16)
    times = -(-edge // _BLOCK)
    counts = np.ascontiguousarray(np.tile(block, (1, times, times))[:, :edge, :edge])
    return write_wsi(ArraySlide(counts, 0.47), path)[0]
