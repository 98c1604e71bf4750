"""The guard of patterns that repeat after 2, 4 or 8 pixels, on patterns of known amplitude."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.guards import GridPattern, Residual, examine, grid_pattern
from srh_clinic.restorers import create_restorer
from srh_clinic.simulation import simulate_patch

UNSHUFFLED = Path(__file__).parents[2] / "weights" / "phantom-linear"
"""Its denoiser works behind a pixel unshuffle."""

UM_PER_PX = 0.47
LIMIT = 2.0
SIZE = 192

Image = NDArray[np.float32]

ROWS, COLUMNS = np.indices((SIZE, SIZE))
PATTERNS = {
    "checkerboard": (-1.0) ** (ROWS + COLUMNS),
    "rows": (-1.0) ** ROWS,
    "columns": (-1.0) ** COLUMNS,
    "period 4": np.cos(np.pi / 2 * ROWS) * np.cos(np.pi / 2 * COLUMNS) * 2,
    "columns of period 4": np.cos(np.pi / 2 * COLUMNS) * np.sqrt(2),
    "lines every 8": np.where(ROWS % 8 == 0, 7.0, -1.0) / np.sqrt(7),
}
"""Each of a standard deviation of 1."""

SHARE = {name: 0.01 if name in ("checkerboard", "rows", "columns") else 0.06 for name in PATTERNS}
"""Of the contrast: texture itself has little of period 2, and more of the longer ones."""


def tissue(seed: int = 0) -> Image:
    """Texture of 1.5 pixels, unit intensity, with a standard deviation of 0.057 and its channels half alike."""
    texture = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal((3, SIZE, SIZE)), (0, 1.5, 1.5))
    return (0.25 + 0.3 * np.stack([texture[0] + texture[2], texture[1] + texture[2]]) / np.sqrt(2)).astype(np.float32)


def noise(sigma: float = 0.03, seed: int = 1) -> Image:
    return (sigma * np.random.default_rng(seed).standard_normal((2, SIZE, SIZE))).astype(np.float32)


def heard(scanned: Image, restored: Image) -> GridPattern:
    found = grid_pattern(Residual(scanned, restored, UM_PER_PX), control=True)
    assert found is not None
    return found


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_a_faint_pattern_is_heard_under_any_noise(name: str, sigma: float) -> None:
    clean = tissue()
    restored = clean + (SHARE[name] * clean.std() * PATTERNS[name]).astype(np.float32)
    found = heard(clean + noise(sigma), restored)
    assert found.strength > LIMIT > heard(clean + noise(sigma), clean).strength
    # Beside the frequencies of a grid nothing is heard of it.
    assert found.without < LIMIT


@pytest.mark.parametrize("name", PATTERNS)
def test_texture_of_the_same_period_that_stands_in_the_input_is_no_fault(name: str) -> None:
    clean = tissue() + (0.02 * PATTERNS[name]).astype(np.float32)
    assert heard(clean + noise(), clean).strength < LIMIT
    assert heard(clean, clean).strength < LIMIT
    # But the restoration made it three times as strong.
    assert heard(clean + noise(), clean + (0.04 * PATTERNS[name]).astype(np.float32)).strength > LIMIT


def test_noise_that_is_left_is_no_pattern_whatever_its_colour() -> None:
    for seed in range(5):
        clean = tissue(seed)
        rows = 0.02 * np.random.default_rng(seed).standard_normal((2, SIZE, 1)).astype(np.float32)  # lines of their own gain
        smooth = ndi.gaussian_filter(noise(0.1, seed), (0, 0, 1))
        for left in (noise(0.03, seed), rows, smooth):
            assert heard(clean + 2 * left, clean + left).strength < LIMIT


def test_the_place_of_a_pattern_is_told_to_the_square() -> None:
    clean = tissue()
    restored = clean.copy()
    restored[:, 96:, 96:] += (0.02 * clean.std() * PATTERNS["checkerboard"]).astype(np.float32)[96:, 96:]
    found = heard(clean + noise(), restored)
    assert (found.squares[..., 2:] - found.squares[..., :2] == 128).all()
    assert found.amplitude.argmax() == found.amplitude.size - 1  # the lower right square holds most of it
    extent = found.extent(found.strength)
    assert extent == (64, 64, 192, 192)
    assert found.extent(found.strength * 1.01) is None


def test_the_amplitude_is_that_over_the_surroundings() -> None:
    """In white noise of s a wave of amplitude a has, under Hann windows, (a 64^2 / 4)^2 over s^2 64^2 (3 / 8)^2 of power."""
    sigma, amplitude = 0.02, 0.01
    flat = np.full((2, SIZE, SIZE), 0.25, dtype=np.float32)
    restored = flat + noise(sigma) + (amplitude * PATTERNS["checkerboard"]).astype(np.float32)
    expected = np.sqrt(1 + (amplitude * 64 / 4 / (sigma * 3 / 8)) ** 2)
    # Surroundings are the largest of three means, and 18 half-overlapping spectra know a power to about a tenth.
    assert heard(flat, restored).strength == pytest.approx(expected, rel=0.25)


def test_a_pattern_that_nobody_sees_counts_for_nothing_in_an_even_image() -> None:
    flat = np.full((2, SIZE, SIZE), 0.25, dtype=np.float32)
    count = 1 / 65_536
    assert heard(flat, flat).strength == 0
    assert heard(flat, (flat + count * PATTERNS["checkerboard"]).astype(np.float32)).strength < 0.5
    assert heard(flat, (flat + 20 * count * PATTERNS["checkerboard"]).astype(np.float32)).strength > LIMIT


def test_fields_need_not_be_tiles_and_too_small_ones_are_not_heard() -> None:
    image = tissue()
    for height, width in ((64, 64), (100, 150), (65, 192)):
        found = heard(image[:, :height, :width], image[:, :height, :width])
        assert found.squares[0, 0, :2].tolist() == [0, 0]
        assert found.squares[-1, -1, 2:].tolist() == [height, width]
        assert found.amplitude.shape == found.squares.shape[:2]
    small = image[:, :63]
    assert grid_pattern(Residual(small, small, UM_PER_PX)) is None
    assert "lattice" not in examine(small, small, UM_PER_PX).scores
    assert examine(image, image, UM_PER_PX).scores["lattice"] == heard(image, image).strength
    with pytest.raises(ValueError, match="no control"):
        grid_pattern(Residual(image, image, UM_PER_PX)).without  # type: ignore[union-attr]  # noqa: B018


@pytest.mark.parametrize(
    ("name", "settings", "loud"),
    [
        ("nlm", {}, False),
        ("wavelet", {}, False),
        ("rscd", {}, False),
        ("rscd", {"bundle": str(UNSHUFFLED), "fixed_steps": 30, "evaluations": 1}, True),
    ],
)
def test_filters_and_overlapping_layers_leave_no_pattern_and_a_network_behind_a_pixel_unshuffle_does(
    name: str, settings: dict[str, Any], loud: bool
) -> None:
    phantom = simulate_patch("glioma", 0.5, 11, 256)
    restored = create_restorer(name, **settings).restore(phantom.counts[None]).counts[0]
    found = heard(*((image / np.float32(65_536)).astype(np.float32) for image in (phantom.counts, restored)))
    assert (found.strength >= LIMIT) == loud, name
