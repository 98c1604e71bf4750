"""Peak memory of a whole case, measured in a process of its own.

The slide is one small phantom mirrored to any size and read lazily, so that neither simulating nor holding it counts.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.intensity import Counts
from srh_clinic.slide import Identity, Slide, check_region

SOURCE_SIZE = 512
SOURCE_SEED = 8_900_000
"""A validation seed: what the slide shows does not matter here."""

STEPS = 1
"""Reverse steps on each tile: memory does not depend on them, time does."""

TIME_LIMIT = 1800
"""Seconds after which a measurement is given up."""


@dataclass(frozen=True)
class MirroredSlide:
    """A slide of any size, made of a smaller one and its mirror images side by side."""

    source: Slide
    shape: tuple[int, int]

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
        check_region(self.shape, y, x, height, width)
        rows = _mirrored(y, height, self.source.shape[0])
        columns = _mirrored(x, width, self.source.shape[1])
        top, left = int(rows.min()), int(columns.min())
        block = self.source.read(top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
        return block[:, (rows - top)[:, None], columns - left]


def _mirrored(start: int, count: int, length: int) -> NDArray[np.int64]:
    """Indices into an axis of ``length`` that repeats with every second copy reversed."""
    place = np.arange(start, start + count) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes.

    Linux tells it of the program itself; ``getrusage`` would count what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_here(size: int, bundle: str, device: str) -> dict[str, Any]:
    """Restore, classify and save a slide of ``size`` x ``size`` px in this process, and say what it took."""
    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.simulation import simulate_case
    from srh_clinic.slide import ArraySlide

    case = simulate_case("tumor", 0.3, SOURCE_SIZE, SOURCE_SEED)
    slide = MirroredSlide(ArraySlide(case.counts, case.um_per_px, Identity(source="mirrored phantom")), (size, size))
    del case
    pipeline = RestoreThenClassify.from_bundle(bundle, device=device, fixed_steps=STEPS)
    loaded = peak_memory()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = pipeline(slide)
        result.save(folder)
    return {
        "size": size,
        "tiles": result.tiles.total,
        "seconds": time.perf_counter() - began,
        "loaded_bytes": loaded,
        "peak_bytes": peak_memory(),
    }


def measure(size: int, bundle: str, device: str, time_limit: float = TIME_LIMIT) -> dict[str, Any]:
    """:func:`measure_here` in a fresh process.

    Raises
    ------
    RuntimeError
        When the process fails; the message is its last line.

    Returns
    -------
    ``size``, ``tiles``, ``seconds``, ``loaded_bytes`` (before the case was begun) and ``peak_bytes``; only ``size`` when it
    took longer than ``time_limit`` seconds.
    """
    # -P: without it a folder srh_clinic/ in the working directory would be found before the package.
    command = [sys.executable, "-P", "-m", "srh_clinic.validation.benchmarks.memory", str(size), bundle, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=time_limit)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return {"size": size}
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(measure_here(int(sys.argv[1]), sys.argv[2], sys.argv[3])))
