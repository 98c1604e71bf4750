"""The colours of SRH, virtual H&E, and the three-channel recipes."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.display import (
    RECIPES,
    ColourWindow,
    class_colours,
    colour_window,
    greyscale,
    overlay,
    srh_colours,
    three_channel,
    virtual_he,
)
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts

UNIT_WINDOW = ColourWindow(low=(0, 0, 0), high=(10_000, 10_000, 10_000))


def pixels(*pairs: tuple[int, int]) -> Counts:
    """Counts (2, 1, N) from pairs (CH2, CH3)."""
    return np.array(pairs, dtype=np.uint16).T[:, None, :]


@pytest.fixture
def texture() -> Counts:
    rng = np.random.default_rng(0)
    return rng.integers(2_000, 30_000, (2, 64, 48)).astype(np.uint16)


def test_srh_colours_are_difference_ch2_ch3() -> None:
    rgb = srh_colours(pixels((5_000, 10_000), (10_000, 10_000), (10_000, 0)), UNIT_WINDOW)
    assert rgb[0].tolist() == [[128, 128, 255], [0, 255, 255], [0, 255, 0]]


def test_virtual_he_is_white_glass_pink_lipid_and_blue_nuclei() -> None:
    glass, lipid, nucleus = virtual_he(pixels((0, 0), (10_000, 10_000), (0, 10_000)), UNIT_WINDOW)[0].astype(int)
    assert glass.tolist() == [255, 255, 255]
    assert lipid[0] > lipid[2] > lipid[1] > 100
    assert nucleus[2] > nucleus[0] > nucleus[1]
    assert nucleus.sum() < lipid.sum()


def test_dyes_absorb_independently() -> None:
    # Beer and Lambert: transmittances multiply. Half a grey level of rounding per factor is all that may differ.
    both = virtual_he(pixels((5_000, 10_000)), UNIT_WINDOW)[0, 0] / 255
    eosin = virtual_he(pixels((5_000, 5_000)), UNIT_WINDOW)[0, 0] / 255
    hematoxylin = virtual_he(pixels((0, 5_000)), UNIT_WINDOW)[0, 0] / 255
    np.testing.assert_allclose(both, eosin * hematoxylin, atol=1.5 / 255)


def test_window_saturates_the_stated_share_of_the_pixels(texture: Counts) -> None:
    window = colour_window(texture, saturated=5)
    assert (texture[0] < window.low[1]).mean() == pytest.approx(0.05, abs=0.01)
    assert (texture[1] > window.high[2]).mean() == pytest.approx(0.05, abs=0.01)


def test_shared_window_shows_equal_counts_in_equal_colours(texture: Counts) -> None:
    brighter = np.minimum(texture.astype(np.int64) * 2, 65_535).astype(np.uint16)
    brighter[:, :8, :8] = texture[:, :8, :8]
    window = colour_window(texture, brighter)
    np.testing.assert_array_equal(srh_colours(texture, window)[:8, :8], srh_colours(brighter, window)[:8, :8])
    assert window == colour_window(brighter, texture)


def test_nuclei_stay_visible_where_ch2_prevails_throughout() -> None:
    counts = np.full((2, 20, 20), 20_000, dtype=np.uint16)
    counts[1] = 10_000
    counts[1, 8:12, 8:12] = 18_000
    red = srh_colours(counts)[..., 0]
    assert red[10, 10] == 255
    assert red[0, 0] == 0


def test_a_flat_image_is_shown_without_a_division_by_zero() -> None:
    flat = np.full((2, 16, 16), 700, dtype=np.uint16)
    for picture in (srh_colours(flat), virtual_he(flat), greyscale(flat)):
        assert picture.shape == (16, 16, 3)
        assert picture.dtype == np.uint8


def test_opensrh_recipe_is_offset_difference_ch2_ch3() -> None:
    expected = np.array([[9_000, 0, 65_536], [20_000, 30_000, 0], [24_000, 10_000, 65_535]]) / 65_536
    np.testing.assert_allclose(
        three_channel(pixels((20_000, 24_000), (30_000, 10_000), (0, 65_535)), "opensrh")[:, 0], expected, atol=1e-7
    )


def test_hollon_recipe_ignores_gain_and_offset(texture: Counts) -> None:
    # Percentiles of integers move by at most one count under an exact gain of two.
    changed = (texture * np.uint16(2) + np.uint16(500)).astype(np.uint16)
    np.testing.assert_allclose(three_channel(changed, "hollon2020"), three_channel(texture, "hollon2020"), atol=2e-4)


def test_rscd_recipe_flattens_each_channel(texture: Counts) -> None:
    _, ch2, ch3 = three_channel(texture, "rscd")
    uniform = np.linspace(0, 1, 11)
    # 3,072 pixels: the empirical quantiles of an equalised channel are uniform to a few pixels' worth.
    np.testing.assert_allclose(np.quantile(ch2, uniform), uniform, atol=2e-3)
    np.testing.assert_allclose(np.quantile(ch3, uniform), uniform, atol=2e-3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_float32_within_unit_also_for_flat_patches(recipe: str, texture: Counts) -> None:
    for counts in (texture, np.zeros((2, 8, 8), np.uint16), np.full((2, 8, 8), 65_535, np.uint16)):
        view = three_channel(counts, recipe)  # type: ignore[arg-type]
        assert view.dtype == np.float32
        assert view.shape == (3, *counts.shape[1:])
        assert 0 <= view.min() <= view.max() <= 1


def test_an_unknown_recipe_names_the_known_ones(texture: Counts) -> None:
    with pytest.raises(InputError, match="opensrh, hollon2020, rscd"):
        three_channel(texture, "rgb")  # type: ignore[arg-type]


def test_class_colours_mix_by_probability() -> None:
    pure = class_colours(np.eye(3))
    assert len({tuple(colour) for colour in pure.tolist()}) == 3
    half = class_colours(np.array([0.5, 0.5, 0.0])).astype(float)
    np.testing.assert_allclose(half, pure[:2].mean(axis=0), atol=0.5)


def test_overlay_runs_from_ground_to_colours() -> None:
    ground, colours = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    opacity = np.array([[0.0, 0.5], [1.0, 0.25]])
    assert overlay(ground, colours, opacity)[..., 0].tolist() == [[0, 100], [200, 50]]
