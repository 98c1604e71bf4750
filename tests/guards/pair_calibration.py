"""How often the check of a pair of channels is right and wrong: ``python tests/guards/pair_calibration.py``.

On phantoms of every tissue at four severities, and on the real images in ``$SRH_REAL_DATA`` (or ``../shared/data``) where they
are: as they are, and with each fault that the check looks for. Prints the table of docs/reading.md.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from srh_clinic.guards import channel_flags, look_at_channels
from srh_clinic.simulation.phantom import simulate_patch
from srh_clinic.simulation.tissue import PAINTERS
from srh_clinic.slide import ArraySlide

DATA = Path(os.environ.get("SRH_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SEVERITIES = (0.1, 0.4, 0.7, 0.9)


def images() -> Iterator[tuple[str, np.ndarray, float]]:
    """Group, counts ``(2, H, W)`` and pixel size."""
    for kind in PAINTERS:
        group = "phantoms without signal" if kind in ("empty", "out_of_focus") else "phantoms of tissue"
        for severity in SEVERITIES:
            for seed in (0, 1):
                yield group, simulate_patch(kind, severity, seed, size=512).counts, 0.47
    for path in sorted((DATA / "srs_gastric").glob("*.tif")):
        yield "gastric tissue", (tifffile.imread(path) * 16).astype(np.uint16), 0.345
    for path in sorted((DATA / "srs_brain_zstack").glob("*.tif")):
        yield "brain, contrast-adjusted", tifffile.imread(path).astype(np.uint16) * 257, 0.35
    for path in sorted((DATA / "nio_srh_rgb").glob("*.png")):
        channels = np.asarray(Image.open(path))[..., [1, 2]].transpose(2, 0, 1)
        yield "NIO, percentile-stretched", channels.astype(np.uint16) * 257, 0.47


def faults(counts: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """What can be wrong with a pair, and the pair."""
    ch2, ch3 = counts
    noisy = np.clip(ch2 * 1.05 + rng.normal(0, 800, ch2.shape), 0, 65535).astype(np.uint16)
    yield "none", counts
    yield "swapped", counts[::-1]
    yield "one channel twice", np.stack([ch2, noisy])
    if other.shape == counts.shape:
        yield "two fields", np.stack([ch2, other[1]])
    for down in (2, 6, 40):
        yield f"shifted by {down} px", np.stack([ch2, np.roll(ch3, (down, down // 2), (0, 1))])
    yield "CH3 noise", np.stack([ch2, rng.poisson(3000, ch2.shape).astype(np.uint16)])
    yield "CH3 16 times too dark", np.stack([ch2, ch3 // 16])
    yield "CH2 dark", np.stack([rng.poisson(60, ch2.shape).astype(np.uint16), ch3])


def main() -> None:
    """Print, for each group and fault, how many images carry which flag."""
    rng = np.random.default_rng(0)
    everything = list(images())
    flags: dict[tuple[str, str], Counter[str]] = {}
    numbers: Counter[tuple[str, str]] = Counter()
    for number, (group, counts, um_per_px) in enumerate(everything):
        other = everything[(number + 9) % len(everything)][1]
        for fault, pair in faults(counts, other, rng):
            check = look_at_channels(ArraySlide(np.ascontiguousarray(pair), um_per_px))
            assert check is not None
            numbers[fault, group] += 1
            said = flags.setdefault((fault, group), Counter())
            said.update(flag.partition(":")[0] for flag in channel_flags(check))
    print("| fault | images | flags |\n|---|---|---|")
    for (fault, group), said in flags.items():
        told = ", ".join(f"`{flag}` {times}" for flag, times in said.most_common()) or "none"
        print(f"| {fault} | {numbers[fault, group]} {group} | {told} |")


if __name__ == "__main__":
    main()
