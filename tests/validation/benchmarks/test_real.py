"""Real patches under simulated noise: how they are read, spoilt and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srh_clinic.errors import InputError
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.images import read_patches
from srh_clinic.validation.benchmarks.real import conditions, halved, real_restoration


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    folder = tmp_path / "patches"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_patches_become_counts(patches: Path) -> None:
    colours = np.asarray(Image.open(patches / "a.png"))
    counts = read_patches(patches)["a.png"]
    assert counts[0, 5, 6] == round(colours[5, 6, 1] / 255 * 0.55 * 65536)
    assert counts[1, 5, 6] == round(colours[5, 6, 2] / 255 * 0.60 * 65536)
    with pytest.raises(InputError, match="found no PNG image"):
        read_patches(patches.parent)


def test_gaussian_noise_is_that_strong() -> None:
    clean = np.full((2, 200, 200), 30_000, np.float32)
    spoilt = conditions_of_default()["Gaussian 0.05"](np.random.default_rng(0), clean)
    # The standard deviation of 80,000 draws is known to 0.25 %.
    assert (spoilt.counts.astype(float) - clean).std() == pytest.approx(0.05 * 65536, rel=0.01)


def conditions_of_default() -> dict[str, Any]:
    from srh_clinic.validation.bench.protocol import load_protocol

    return dict(conditions(load_protocol()))


def test_real_patches_are_compared_one_by_one(bench: Bench, patches: Path) -> None:
    report = real_restoration(bench, patches)
    names = list(conditions(bench.protocol))
    assert len(names) == 7
    by_condition = {table.title: table for table in report.tables if table.title in names}
    assert list(by_condition) == names
    assert {row["n"] for table in by_condition.values() for row in table.rows} == {2}
    by_patch = {row["patch"]: row for row in report.tables[1].rows}
    assert list(by_patch) == ["a.png", "b.png", "a.png, halved", "b.png, halved"]
    for name, row in zip(names, report.tables[0].rows[: len(names)], strict=True):
        smallest = min(by_patch[patch][name] for patch in ("a.png", "b.png"))
        assert f"smallest margin PSNR {smallest:+.3f}" in row["measured"]
    # White noise as an image is nothing that an untrained network restores better than leaving it alone.
    assert not any(row["met"] for row in report.tables[0].rows)
    again = real_restoration(bench, patches)
    assert again.tables == report.tables


def test_a_halved_patch_has_the_means_of_four_pixels() -> None:
    counts = np.arange(32, dtype=np.uint16).reshape(2, 4, 4) * 4
    assert halved(counts)[0].tolist() == [[10, 18], [42, 50]]
