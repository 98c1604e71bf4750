"""Radial spectra of noise, of power laws and of blurred images, whose answers are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.metrics import radial_power, radial_spectrum, spectral_distance, spectrum_distance
from srh_clinic.simulation.fields import power_law_field


def test_white_noise_has_its_variance_in_every_band() -> None:
    noise = np.random.default_rng(0).normal(5, 0.3, (200, 64, 64))
    # The lowest band holds few frequencies, and some power is lost with the mean.
    assert radial_power(noise).mean(axis=0)[1:] == pytest.approx(np.full(15, 0.09), rel=0.05)


@pytest.mark.parametrize("shape", [(64, 64), (65, 48), (50, 67)])
def test_rings_average_the_full_plane(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape)
    window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    plane = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    edges = np.linspace(0, 0.5, 17)
    expected = [plane[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)]
    np.testing.assert_allclose(radial_power(image), expected)


def test_the_spectrum_of_a_power_law_field_is_a_power_law() -> None:
    """Amplitude f**-1.3 is power f**-2.6: over bands 3 to 14 the slope is -2.6 within 0.1 (one field of finite size)."""
    spectrum = radial_spectrum(power_law_field(np.random.default_rng(0), (256, 256), 1.3))
    frequency = (np.arange(16) + 0.5) / 32
    assert np.polyfit(np.log10(frequency[3:14]), spectrum[3:14], 1)[0] == pytest.approx(-2.6, abs=0.1)


def test_images_are_as_far_apart_as_their_gain() -> None:
    images = np.random.default_rng(0).random((3, 2, 64, 64))
    assert spectral_distance(images, images[::-1]) == pytest.approx(0)
    assert spectral_distance(10 * images, images) == pytest.approx(20)


def test_a_blur_that_psnr_hardly_sees_is_far() -> None:
    """A Gaussian of 0.5 px leaves exp(-(pi f)^2) of the power at frequency f: 8.7 dB less at 0.45 cycles per px."""
    images = np.random.default_rng(0).normal(0.5, 0.1, (20, 2, 64, 64))
    blurred = np.fft.ifft2([[ndi.fourier_gaussian(np.fft.fft2(channel), 0.5) for channel in one] for one in images]).real
    frequency = (np.arange(16) + 0.5) / 32
    expected = np.sqrt(np.mean((10 * np.log10(np.exp(-((np.pi * frequency) ** 2)))) ** 2))
    # The blur varies within a band.
    assert spectral_distance(blurred, images) == pytest.approx(expected, rel=0.02)


def test_an_even_image_is_far_but_not_infinitely_far() -> None:
    images = np.random.default_rng(0).random((2, 2, 64, 64))
    assert 50 < spectral_distance(np.full_like(images, 0.5), images) < 150


def test_wrong_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 px a side"):
        radial_power(np.zeros((2, 31, 64)))
    with pytest.raises(InputError, match="channels, bands"):
        spectrum_distance(np.ones((3, 2, 16)), np.ones((3, 2, 8)))
