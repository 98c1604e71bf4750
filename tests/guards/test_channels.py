"""A pair of channels that cannot be what it says is told so, with a number; a good pair is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from srh_clinic.guards import channel_flags, check_channels, look_at_channels
from srh_clinic.simulation.phantom import simulate_patch
from srh_clinic.slide import ArraySlide

UM = 0.47
KINDS = ("white_matter", "grey_matter", "glioma", "metastasis_discohesive")


@pytest.fixture(scope="module", params=KINDS)
def counts(request):
    return simulate_patch(request.param, 0.5, seed=5, size=384).counts


def codes(counts):
    return [flag.partition(":")[0] for flag in channel_flags(check_channels([counts], UM))]


def test_a_good_pair_carries_no_flag(counts):
    check = check_channels([counts], UM)
    assert channel_flags(check) == ()
    assert np.hypot(*check.shift_px) < 0.3


def test_a_swapped_pair_is_told(counts):
    assert codes(counts[::-1].copy()) == ["channels-swapped"]


@pytest.mark.parametrize(("down", "right", "code"), [(2, -1, "channels-shifted"), (-12, 40, "channels-far-shifted")])
def test_a_shift_is_measured_to_a_third_of_a_pixel(counts, down, right, code):
    shifted = np.stack([counts[0], np.roll(counts[1], (down, right), (0, 1))])
    assert check_channels([shifted], UM).shift_px == pytest.approx((down, right), abs=0.34)
    assert code in codes(shifted)


def test_a_channel_of_12_bits_beside_one_of_16(counts):
    """A sixteenth of its brightness is no tissue, and not a swapped pair either."""
    assert codes(np.stack([counts[0], counts[1] // 16])) == ["channels-unequal"]
    assert codes(np.stack([counts[0] // 16, counts[1]])) == ["channels-unequal"]


def test_one_channel_scanned_twice(counts):
    noise = np.random.default_rng(1).normal(0, 500, counts[0].shape)
    again = np.clip(counts[0] + noise, 0, 65535).astype(np.uint16)
    assert codes(np.stack([counts[0], again])) == ["channels-same"]


def test_two_fields(counts):
    other = simulate_patch("glioma", 0.5, seed=77, size=384).counts
    assert "channels-of-two-fields" in codes(np.stack([counts[0], other[1]]))


@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_of_noise_and_a_dark_one(counts, channel):
    rng = np.random.default_rng(2)
    for level, code in ((3000, "channel-noise"), (50, "channel-dark")):
        pair = counts.copy()
        pair[channel] = rng.poisson(level, counts[0].shape)
        assert codes(pair) == [code]


def test_nothing_is_said_of_nothing():
    assert codes(np.zeros((2, 64, 64), np.uint16)) == []
    assert look_at_channels(ArraySlide(np.zeros((2, 20, 400), np.uint16), UM)) is None


def test_windows_lie_within_a_slide_of_any_size(counts):
    for height, width in ((33, 384), (384, 40), (100, 100)):
        check = look_at_channels(ArraySlide(np.ascontiguousarray(counts[:, :height, :width]), UM))
        assert check is not None
        assert check.windows >= 1


def test_real_tissue_has_no_false_alarm_but_a_shift_that_is_there(real_data):
    """The brain's second channel lies 3 px below its first in every slice; the gastric ones are in register."""
    for path in sorted((real_data / "srs_gastric").glob("*.tif")):
        slide = ArraySlide((tifffile.imread(path) * 16).astype(np.uint16), 0.345)
        assert channel_flags(look_at_channels(slide)) == ()
    for path in sorted((real_data / "srs_brain_zstack").glob("*.tif")):
        slide = ArraySlide(tifffile.imread(path).astype(np.uint16) * 257, 0.35)
        check = look_at_channels(slide)
        assert {flag.partition(":")[0] for flag in channel_flags(check)} <= {"channels-shifted"}
        assert 2 < np.hypot(*check.shift_px) < 4.2
