"""Speed of region reads beside wsidicom on one slide: ``python tests/integration/reading_speed.py [EDGE]``.

150 random regions of 256 px, both channels, of a JPEG-LS slide of both optical paths in one file; each reader in turn, cold (a
fresh reader for every round) and warm (the second pass of the same regions). Prints seconds and ratios; needs wsidicom.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.simulation.phantom import simulate_patch
from srh_clinic.slide import ArraySlide

REGIONS, EDGE, ROUNDS = 150, 256, 3

Read = Callable[[int, int], np.ndarray]


def ours(path: Path) -> Read:
    """Both channels of a region by srh-clinic."""
    slide = read_slide(path)
    return lambda y, x: slide.read(y, x, EDGE, EDGE)


def theirs(path: Path) -> Read:
    """Both channels of a region by wsidicom."""
    from wsidicom import WsiDicom

    slide = WsiDicom.open(path)
    names = ("SRS2845", "SRS2930")
    return lambda y, x: np.stack([np.asarray(slide.read_region((x, y), 0, (EDGE, EDGE), path=name)) for name in names])


def main(edge: int) -> None:
    """Write the slide, read it by both, and print how long it took."""
    patch = simulate_patch("glioma", 0.4, seed=1, size=1024).counts
    repeats = -(-edge // patch.shape[1])
    counts = np.tile(patch, (1, repeats, repeats))[:, :edge, :edge]
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "slide.dcm"
        write_wsi(ArraySlide(np.ascontiguousarray(counts), 0.47), path)
        places = np.random.default_rng(0).integers(0, edge - EDGE, (REGIONS, 2)).tolist()
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):
            for name, open_ in (("ours", ours), ("wsidicom", theirs)):
                began = time.perf_counter()
                read = open_(path)
                seconds.setdefault((name, "open"), []).append(time.perf_counter() - began)
                for state in ("cold", "warm"):
                    began = time.perf_counter()
                    regions = [read(y, x) for y, x in places]
                    seconds.setdefault((name, state), []).append(time.perf_counter() - began)
                for (y, x), region in zip(places[:5], regions[:5], strict=True):
                    assert (region == counts[:, y : y + EDGE, x : x + EDGE]).all(), name
    for state in ("open", "cold", "warm"):
        one, two = (min(seconds[name, state]) for name in ("ours", "wsidicom"))
        print(f"{state}: ours {one:.4f} s, wsidicom {two:.4f} s, {two / one:.2f} times as fast")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
