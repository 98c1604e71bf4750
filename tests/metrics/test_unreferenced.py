"""Noise and errors without a reference, against images whose noise-free truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from srh_clinic.estimates import Interval, Undefined
from srh_clinic.metrics import fit_noise, gain_over, measured, upsnr
from srh_clinic.metrics.unreferenced import ADDED, Measured, NoiseModel, without_spikes

SIZE = 256
CONSTANT, SLOPE = np.array([2e-4, 4e-4]), np.array([4e-3, 2e-3])


def truth(seed: int = 0, n: int = 4) -> NDArray[np.float64]:
    """Tissue with edges, whose channels share most of their structure, unit intensity."""
    random = np.random.default_rng(seed)
    patches = ndi.gaussian_filter(random.standard_normal((n, SIZE, SIZE)), (0, 4, 4)) > 0.03
    cells = ndi.gaussian_filter(patches.astype(float), (0, 0.7, 0.7))
    texture = ndi.gaussian_filter(random.standard_normal((n, SIZE, SIZE)), (0, 1.2, 1.2))
    shared = 0.3 + 0.25 * cells + 0.1 * texture
    return np.clip(np.stack([shared, 0.8 * shared + 0.05 * ndi.gaussian_filter(texture, (0, 3, 3))], axis=1), 0.02, None)


def noisy(clean: NDArray[np.float64], seed: int = 1, lag: float = 0.3) -> NDArray[np.float64]:
    """With noise that grows with the signal and is smeared along the rows."""
    white = np.random.default_rng(seed).standard_normal(clean.shape)
    smeared = (white + lag * np.roll(white, 1, axis=3)) / np.sqrt(1 + lag**2)
    return clean + np.sqrt(CONSTANT[:, None, None] + SLOPE[:, None, None] * clean) * smeared


def filtered(by: Measured, sigma: float) -> list[NDArray[np.float64]]:
    """The images as they were, with noise added and with noise taken away, behind a filter."""
    return [ndi.gaussian_filter(by.images + share * by.added, (0, 0, sigma, sigma)) for share in (0, ADDED, -ADDED)]


def test_noise_is_told_from_tissue_with_its_dependence_and_its_colour() -> None:
    clean = truth()
    images = noisy(clean)
    found = fit_noise(images)
    expected = (CONSTANT[:, None, None] + SLOPE[:, None, None] * clean).mean(axis=(0, 2, 3))
    # A hundred thousand pixels of each channel know a variance to 0.5 %; what tissue leaves is the rest.
    np.testing.assert_allclose(found.variance(images).mean(axis=(0, 2, 3)), expected, rtol=0.04)
    assert found.slope == pytest.approx(SLOPE, rel=0.35)
    # Smearing by 0.3 raises low frequencies along the row by (1.3 / 0.7)^2 over the highest.
    low, high = found.along_rows[:, 1:20].mean(axis=1), found.along_rows[:, 110:146].mean(axis=1)
    assert low / high == pytest.approx(np.full(2, (1.3 / 0.7) ** 2), rel=0.2)
    assert found.whiteness == pytest.approx([1, 1], abs=0.15)
    drawn = found.draw(images, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.var(axis=(0, 2, 3)), expected, rtol=0.05)


def test_rows_that_are_smeared_together_are_seen() -> None:
    images = ndi.gaussian_filter(noisy(truth()), (0, 0, 0.8, 0))
    assert (fit_noise(images).whiteness > 1.33).all()


@pytest.mark.parametrize("sigma", [0.0, 0.6, 1.0, 2.0])
def test_the_error_of_a_filter_is_known_without_the_truth(sigma: float) -> None:
    clean = truth()
    by, _, _ = measured(noisy(clean))
    made = filtered(by, sigma)
    errors = by.errors(*made)
    left = made[0] - clean
    for column, change in enumerate((left, np.diff(left, axis=1))):
        found = upsnr(errors[:, column])
        assert isinstance(found, Interval)
        assert found.value == pytest.approx(-10 * np.log10((change**2).mean()), abs=0.3)
        assert found.low < found.value < found.high


def curved(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """A restorer that is far from linear: bright pixels are left, dark ones lowered."""
    return np.asarray(images**2 / (np.abs(images) + 0.2))


def test_the_error_under_photon_noise_is_known_where_a_restorer_bends() -> None:
    clean, gain, dark = truth(n=12) / 2, 0.05, 1e-4
    random = np.random.default_rng(3)
    images = gain * random.poisson(clean / gain) + dark**0.5 * random.standard_normal(clean.shape)
    white = NoiseModel(np.full(2, dark), np.full(2, gain), np.ones((2, SIZE)), np.ones(2))
    by = Measured(images, white.draw(images, np.random.default_rng(4)), dark + gain * clean, white.skewness(clean))
    made = [curved(images + share * by.added) for share in (0, ADDED, -ADDED)]
    noise = images - clean
    true = ((made[0] - clean) ** 2).mean()
    skewed = by.errors(*made)[:, 0].mean()
    symmetric = replace(by, skewness=np.zeros_like(clean)).errors(*made)[:, 0].mean()
    assert (noise**3).mean() / (noise**2).mean() ** 1.5 == pytest.approx(by.skewness.mean(), rel=0.15)
    assert abs(skewed / true - 1) < 0.5 * abs(symmetric / true - 1)
    assert skewed == pytest.approx(true, rel=0.02)


def test_the_error_of_one_that_works_harder_on_more_noise_is_known() -> None:
    clean = truth()
    by, noise, _ = measured(noisy(clean))

    def harder(images: NDArray[np.float64]) -> NDArray[np.float64]:
        level = float(np.sqrt(fit_noise(images).variance(images).mean()) / np.sqrt(noise.variance(images).mean()))
        return np.asarray(ndi.gaussian_filter(images, (0, 0, level**2, level**2)))

    made = [harder(by.images + share * by.added) for share in (0, ADDED, -ADDED)]
    found = upsnr(by.errors(*made)[:, 0])
    assert isinstance(found, Interval)
    assert found.value == pytest.approx(-10 * np.log10(((made[0] - clean) ** 2).mean()), abs=0.15)


def test_which_of_two_is_nearer_is_told_by_the_same_blocks() -> None:
    clean = truth()
    by, _, _ = measured(noisy(clean))

    def errors(sigma: float) -> NDArray[np.float64]:
        return by.errors(*filtered(by, sigma))[:, 0]

    ahead = gain_over(errors(0.6), errors(2.0))
    assert isinstance(ahead, Interval)
    assert ahead.low > 0
    same = gain_over(errors(0.6), errors(0.6))
    assert isinstance(same, Interval)
    assert same.low == same.value == same.high == 0
    assert isinstance(upsnr(np.full(4, 1e-3)), Undefined)
    assert isinstance(upsnr(np.random.default_rng(0).standard_normal(64)), Undefined)  # nothing but noise


def test_spikes_are_no_noise_and_tissue_is_no_spike() -> None:
    images = noisy(truth())
    spiked = images.copy()
    spiked[0, 0, 50, 60] += 0.9
    spiked[2, 1, 80, 90] += 0.9
    clean, share = without_spikes(spiked)
    changed = np.argwhere(clean != spiked).tolist()
    assert [0, 0, 50, 60] in changed
    assert [2, 1, 80, 90] in changed
    assert share == pytest.approx(2 / images.size, abs=3 / images.size)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 px"):
        fit_noise(np.zeros((1, 2, 63, 100)))
