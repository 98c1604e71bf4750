"""The metrics against independent implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srh_clinic.metrics import channel_coherence, mean_with_interval, paired_difference, proportion, psnr, seam_ratio, ssim
from srh_clinic.tiling import TileGrid


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :72] / 64
    reference = np.stack([0.5 + 0.3 * np.sin(9 * x * y), 0.4 + 0.2 * np.cos(11 * x)])
    return reference + rng.normal(0, 0.05, reference.shape), reference


def test_psnr_is_that_of_scikit_image(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    assert psnr(image, reference) == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=1), abs=1e-9)
    assert psnr(reference + 0.1, reference) == pytest.approx(20)
    assert psnr(reference, reference) == float("inf")


def test_ssim_is_that_of_scikit_image(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    expected = structural_similarity(
        reference, image, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    # MONAI computes in float32, where variances are differences of squares near 1.
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-5)
    assert ssim(reference, reference) == pytest.approx(1)


def test_ssim_reads_each_channel_by_itself(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = images
    one_spoilt = np.stack([reference[0], image[1]])
    both = ssim(image, reference), ssim(image[::-1], reference[::-1])
    assert both[0] == pytest.approx(both[1])
    assert ssim(image, reference) < ssim(one_spoilt, reference) < 1


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_of_unequal_shape_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match=r"needed two of one shape \(2, H, W\)"):
        metric(np.zeros((2, 16, 16)), np.zeros((2, 16, 17)))  # type: ignore[operator]


def test_the_bootstrap_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=60)
    ours = mean_with_interval(values, resamples=20_000, seed=1)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    # Two Monte Carlo runs: a quantile of 20,000 resampled means has a standard error of about 0.3 % of their spread.
    spread = values.std() / np.sqrt(len(values))
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.1 * spread)
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)


def test_pairing_removes_what_makes_a_phantom_hard() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 10, 50)
    difference = paired_difference(hardness + 1 + rng.normal(0, 0.1, 50), hardness)
    assert difference.n == 50
    assert difference.low < 1 < difference.high
    # 50 differences with a standard deviation of 0.1 have a mean known to 2 x 1.96 x 0.1 / sqrt(50) = 0.055.
    assert difference.high - difference.low == pytest.approx(0.055, rel=0.4)


@pytest.mark.parametrize(("count", "n"), [(0, 30), (3, 40), (29, 30), (30, 30)])
def test_proportion_intervals_invert_the_binomial_test(count: int, n: int) -> None:
    ours = proportion(count, n)
    exact = stats.binomtest(count, n).proportion_ci(method="exact")
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((count / n, exact.low, exact.high, n))


def test_impossible_proportions_are_refused() -> None:
    with pytest.raises(ValueError, match="found 5 of 4"):
        proportion(5, 4)


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


def test_channels_agree_as_far_as_they_share_their_noise() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal((256, 256)), rng.standard_normal((2, 256, 256))
    assert channel_coherence(np.stack([shared, -3 * shared]), 0.4) == pytest.approx(1.0)
    # About 15,000 independent frequencies: chance leaves 0.008.
    assert channel_coherence(own, 0.4) < 0.03
    assert channel_coherence(shared + own, 0.4) == pytest.approx(0.5, abs=0.03)
    assert channel_coherence(np.ones((2, 8, 8)), 0.4) == 0.0


def test_an_image_of_one_channel_has_no_coherence() -> None:
    with pytest.raises(ValueError, match=r"found an image of shape \(1, 8, 8\)"):
        channel_coherence(np.ones((1, 8, 8)), 0.4)
