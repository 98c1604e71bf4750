"""Slides at another pixel size, and thumbnails."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.resampling import ResampledSlide, block_mean, blocks, thumbnail
from srh_clinic.slide import ArraySlide, Slide, check_region


@pytest.fixture
def noise() -> ArraySlide:
    return ArraySlide(np.random.default_rng(0).integers(0, 65_536, (2, 90, 130)).astype(np.uint16), 0.35)


def ramp(height: int, width: int) -> Counts:
    y, x = np.mgrid[:height, :width]
    return np.stack([1_000 + 200 * y + 30 * x, 2_000 + 10 * y + 300 * x]).astype(np.uint16)


def test_resampling_keeps_the_field_of_view(noise: ArraySlide) -> None:
    resampled = ResampledSlide(noise, 0.47)
    assert isinstance(resampled, Slide)
    assert resampled.shape == (67, 97)
    for new, old in zip(resampled.shape, noise.shape, strict=True):
        assert abs(new * 0.47 - old * 0.35) <= 0.47 / 2


@pytest.mark.parametrize("um_per_px", [0.47, 1.0, 0.2])
def test_resampling_shifts_nothing(um_per_px: float) -> None:
    # A plane of 300 counts a pixel comes back as itself. Enlarging is exact but for the rounding of counts;
    # shrinking, the widened kernel sampled at whole pixels leaves three hundredths of a pixel.
    tolerance = 0.5 + 1e-6 if um_per_px < 0.35 else 0.03 * 300
    source = ArraySlide(ramp(80, 100), 0.35)
    resampled = ResampledSlide(source, um_per_px)
    height, width = resampled.shape
    scale = um_per_px / 0.35
    y, x = (np.mgrid[:height, :width] + 0.5) * scale - 0.5
    inner = (slice(12, -12), slice(12, -12)) if um_per_px < 1 else (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(
        resampled.read(0, 0, height, width)[1][inner], (2_000 + 10 * y + 300 * x)[inner], atol=tolerance
    )


@pytest.mark.parametrize("um_per_px", [0.47, 0.9, 0.2])
def test_regions_of_a_resampled_slide_fit_together(noise: ArraySlide, um_per_px: float) -> None:
    resampled = ResampledSlide(noise, um_per_px)
    whole = resampled.read(0, 0, *resampled.shape)
    for y, x, height, width in blocks(resampled.shape, 17):
        # The sums run over the same numbers in the same order: equal to the last count.
        np.testing.assert_array_equal(resampled.read(y, x, height, width), whole[:, y : y + height, x : x + width])


def test_the_same_pixel_size_changes_nothing(noise: ArraySlide) -> None:
    np.testing.assert_array_equal(ResampledSlide(noise, 0.35).read(3, 5, 40, 50), noise.read(3, 5, 40, 50))


def test_a_pixel_larger_than_the_slide_is_refused(noise: ArraySlide) -> None:
    with pytest.raises(InputError, match="at least one pixel"):
        ResampledSlide(noise, 100.0)


@pytest.mark.parametrize("factor", [1, 2, 3, 64, 300])
def test_block_means_are_exact_of_the_largest_counts_in_any_shape(factor) -> None:
    counts = np.full((2, 310, 641), 65_535, dtype=np.uint16)
    counts[1] = np.random.default_rng(3).integers(0, 2**16, counts.shape[1:])
    means = block_mean(counts, factor)
    assert means.dtype == np.float64
    assert means.flags.c_contiguous
    assert (means[0] == 65_535).all()
    for y, x in ((0, 0), (means.shape[1] - 1, means.shape[2] - 1)):
        square = counts[1, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert means[1, y, x] == int(square.sum(dtype=np.int64)) / square.size


def test_block_means_average_what_is_there() -> None:
    counts = np.arange(2 * 5 * 4, dtype=np.uint16).reshape(2, 5, 4)
    means = block_mean(counts, 3)
    assert means.shape == (2, 2, 2)
    assert means[0, 0, 0] == counts[0, :3, :3].mean()
    assert means[1, 1, 1] == counts[1, 3:, 3:].mean()


class Reads(ArraySlide):
    """Remembers the largest region that was read."""

    largest = 0

    def read(self, y: int, x: int, height: int, width: int) -> Counts:
        check_region(self.shape, y, x, height, width)
        type(self).largest = max(type(self).largest, height * width)
        return super().read(y, x, height, width)


def test_a_thumbnail_is_bounded_and_read_in_blocks() -> None:
    slide = Reads(np.random.default_rng(0).integers(0, 65_536, (2, 2_500, 5_000)).astype(np.uint16), 0.47)
    small, factor = thumbnail(slide, longest=1_000)
    assert factor == 5
    assert small.shape == (2, 500, 1_000)
    assert Reads.largest <= 2048**2
    np.testing.assert_array_equal(small, np.rint(block_mean(slide.counts, 5)))


def test_a_small_slide_is_its_own_thumbnail(noise: ArraySlide) -> None:
    small, factor = thumbnail(noise)
    assert factor == 1
    np.testing.assert_array_equal(small, noise.counts)
