"""The seam ratio on noise and steps whose ratio is known."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.metrics import seam_ratio
from srh_clinic.tiling import TileGrid


def test_white_noise_has_no_seams() -> None:
    grid = TileGrid((300, 400), tile=64, overlap=8)
    counts = np.random.default_rng(0).integers(0, 65536, (2, 300, 400), dtype=np.uint16)
    ratio = seam_ratio(counts, grid)
    # Each line is a mean of 300 or more squares: 12 lines of two channels know the ratio to about 1.5 %.
    assert ratio.value == pytest.approx(1, abs=0.04)
    assert 1 < ratio.shifted < 1.04


def test_a_step_at_every_tile_shows() -> None:
    """Against noise of variance v, a step s on each border adds s^2 to the expected 2 v of a squared difference."""
    grid = TileGrid((256, 256), tile=64, overlap=0)
    rng = np.random.default_rng(0)
    noise, step = 500.0, 1000.0
    checkers = (np.add.outer(np.arange(256) // 64, np.arange(256) // 64) % 2) * step
    image = 20_000 + checkers + rng.normal(0, noise, (2, 256, 256))
    ratio = seam_ratio(np.rint(image).astype(np.uint16), grid)
    expected = (step**2 + 2 * noise**2) / (2 * noise**2)
    assert ratio.rows == pytest.approx(expected, rel=0.1)
    assert ratio.columns == pytest.approx(expected, rel=0.1)
    assert ratio.value > ratio.shifted


def test_the_first_pixel_of_a_tile_is_its_border() -> None:
    grid = TileGrid((8, 128), tile=64, overlap=0)
    image = np.random.default_rng(0).integers(0, 3, (2, 8, 128)).astype(np.uint16)
    seam, beside = image.copy(), image.copy()
    seam[:, :, 64:] += 1000
    beside[:, :, 65:] += 1000
    assert seam_ratio(seam, grid).columns > 1000
    assert seam_ratio(beside, grid).columns < 1
    assert np.isnan(seam_ratio(seam, grid).rows)


def test_a_single_tile_has_no_seams_to_measure() -> None:
    with pytest.raises(ValueError, match="found no tile border"):
        seam_ratio(np.zeros((2, 64, 64), np.uint16), TileGrid((64, 64), tile=64, overlap=0))
