"""The nonparametric noise estimator: right on white noise, blind to correlated noise, and sometimes without an answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gaussian_field import GaussianField
from scipy import ndimage

from srh_clinic.errors import InputError
from srh_clinic.rscd.noise_level import index_of_noise, noise_level, noise_variance
from srh_clinic.rscd.schedule import create_schedule

SCHEDULE = create_schedule()


def noise(sigma: float, size: int = 256, seed: int = 0) -> np.ndarray:
    return sigma * np.random.default_rng(seed).standard_normal((2, size, size))


def by_hand(image: np.ndarray) -> float:
    """Algorithm 1 of the paper, patch by patch; eigenvalues from singular values, "as many above as below" from signs."""
    channels, height, width = image.shape
    patches = [
        np.concatenate([image[c, y : y + 8, x : x + 8].ravel() for c in range(channels)])
        for y in range(0, height - 7, 3)
        for x in range(0, width - 7, 3)
    ]
    centred = np.array(patches) - np.mean(patches, axis=0)
    eigenvalues = list(np.linalg.svd(centred, compute_uv=False) ** 2 / len(patches))
    while np.sign(np.array(eigenvalues) - np.mean(eigenvalues)).sum() != 0:
        eigenvalues.remove(max(eigenvalues))
    return float(np.sqrt(np.mean(eigenvalues)))


@pytest.mark.parametrize("size", [(64, 64), (61, 90)])
def test_the_estimate_is_that_of_the_published_algorithm(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.standard_normal((2, *size)), (0, 2, 2))
    for sigma in (0.02, 0.2):
        image = field + sigma * rng.standard_normal((2, *size))
        # Two routes to the same eigenvalues, the smallest of them a thousandth of the largest.
        assert noise_level(image) == pytest.approx(by_hand(image), rel=1e-9)


@pytest.mark.parametrize("t", [10, 34, 100, 190])
def test_white_noise_is_measured_right_on_structure_and_without(t: int) -> None:
    structure = GaussianField(size=256).sample(np.random.default_rng(2), 1)[0]
    for image in (noise(SCHEDULE.sigma[t]), ndimage.gaussian_filter(structure, (0, 2, 2)) + noise(SCHEDULE.sigma[t])):
        # 6,889 patches spread 128 equal eigenvalues by 14 % either way, and dropping the largest of them costs up to 2.5 %.
        assert noise_level(image) == pytest.approx(SCHEDULE.sigma[t], rel=0.03)


def test_channels_of_unequal_noise_give_the_root_of_their_mean_variance() -> None:
    unequal = noise(1.0) * np.array([0.03, 0.04])[:, None, None]
    assert noise_level(unequal) == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2), rel=0.03)


def test_correlated_noise_is_taken_for_structure() -> None:
    correlated = ndimage.uniform_filter(noise(1.0), (0, 3, 3))
    correlated *= SCHEDULE.sigma[50] / correlated.std()
    assert noise_level(correlated) < 0.2 * SCHEDULE.sigma[50]
    index = index_of_noise(torch.from_numpy(correlated[None]), SCHEDULE)
    assert index.item() <= 2


@pytest.mark.parametrize(
    ("eigenvalues", "variance"),
    [
        ([3.0] * 5, 3.0),
        ([1.0, 2.0], np.nan),
        ([1.0, 1.0, 2.0, 2.0, 100.0], 1.5),
        ([1.0, 2.0, 3.0], 2.0),
        ([1.0, 1.0, 1.0, 5.0], 1.0),
        ([1.0, 1.0, 2.0], np.nan),
        ([10.0**i for i in range(8)], np.nan),
        ([0.0] * 128, 0.0),
    ],
)
def test_the_largest_are_dropped_until_as_many_lie_above_the_mean_as_below(eigenvalues: list[float], variance: float) -> None:
    np.testing.assert_equal(noise_variance(np.array(eigenvalues)), variance)


def test_a_plain_image_has_no_noise() -> None:
    assert noise_level(np.full((2, 64, 64), -0.3)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("size", [7, 16, 38])
def test_an_image_without_more_patches_than_pixels_in_one_has_no_answer(size: int) -> None:
    """38 px hold 11 x 11 = 121 patches of 128 pixels."""
    assert np.isnan(noise_level(noise(0.1, size)))
    assert noise_level(noise(0.1, 41)) > 0


def test_the_index_is_the_nearest_sigma_of_each_image_by_itself() -> None:
    images = np.stack([noise(SCHEDULE.sigma[t], seed=t) for t in (5, 40, 120)])
    index = index_of_noise(torch.from_numpy(images), SCHEDULE)
    for found, image in zip(index.astype(int), images, strict=True):
        distance = np.abs(SCHEDULE.sigma - noise_level(image))
        assert (distance >= distance[found]).all()
    # 3 % of sigma, and sigma grows a little slower than the index.
    np.testing.assert_allclose(index, [5, 40, 120], rtol=0.04, atol=1)
    assert np.isnan(index_of_noise(torch.zeros(2, 2, 16, 16), SCHEDULE)).all()


@pytest.mark.parametrize("image", [np.full((2, 64, 64), np.nan), np.zeros((64, 64))])
def test_what_is_no_finite_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="needed finite numbers"):
        noise_level(image)
