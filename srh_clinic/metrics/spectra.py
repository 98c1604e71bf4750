"""Power by spatial frequency: what a restoration smooths away or invents, seen without any network."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import rfft2

from srh_clinic.errors import InputError
from srh_clinic.intensity import FULL_SCALE

BANDS = 16
"""Rings of equal width from 0 to the Nyquist frequency."""

ROUNDING = 1 / (12 * FULL_SCALE**2)
"""Power in every band of the error that rounding to counts makes: less than this is nothing."""

Spectra = NDArray[np.float64]


def radial_power(images: ArrayLike, bands: int = BANDS) -> Spectra:
    """Mean power in each ring up to the Nyquist frequency, float64 ``(..., bands)``.

    Each image less its mean, under a Hann window, divided by the window's own power: white noise of variance v has power v in
    every band. The mean of these spectra over images is what :func:`spectrum_distance` compares, so they are all that a
    bootstrap needs.

    Parameters
    ----------
    images
        ``(..., H, W)`` in any unit, H and W at least ``2 * bands``.

    Raises
    ------
    InputError
        When the images are smaller.
    """
    every = np.asarray(images, dtype=np.float64)
    if every.ndim < 2 or min(every.shape[-2:]) < 2 * bands:
        raise InputError(f"images of shape {every.shape}", f"(..., H, W) of at least {2 * bands} px a side for {bands} bands")
    window, rings = _window_and_rings(every.shape[-2:], bands)
    planes = every.reshape(-1, *every.shape[-2:])
    power = np.stack([np.abs(rfft2((plane - plane.mean()) * window)).ravel() ** 2 @ rings for plane in planes])
    return (power / (window**2).sum()).reshape(*every.shape[:-2], bands)


def radial_spectrum(channel: ArrayLike, bands: int = BANDS) -> Spectra:
    """log10 of :func:`radial_power` relative to the sum of its lowest three bands, float64 ``(..., bands)``."""
    power = radial_power(channel, bands)
    return np.log10(power / power[..., :3].sum(axis=-1, keepdims=True))


def spectrum_distance(power: ArrayLike, reference: ArrayLike) -> float:
    """Root mean square difference in dB, over channels and bands, of the mean spectra of two sets.

    Parameters
    ----------
    power, reference
        :func:`radial_power` of images in unit intensity, ``(N, 2, bands)`` and ``(M, 2, bands)``. Power below that of rounding
        to counts is raised to it, so that an even image is far away but not infinitely far.

    Raises
    ------
    InputError
        When the shapes do not fit.
    """
    x, y = spectra_of(power, reference)
    return float(decibels_apart(x.mean(axis=0), y.mean(axis=0)))


def spectral_distance(images: ArrayLike, reference: ArrayLike, bands: int = BANDS) -> float:
    """:func:`spectrum_distance` of images, unit intensity ``(N, 2, H, W)`` and ``(M, 2, H, W)``."""
    return spectrum_distance(radial_power(images, bands), radial_power(reference, bands))


def spectra_of(power: ArrayLike, reference: ArrayLike) -> tuple[Spectra, Spectra]:
    """The two arrays that :func:`spectrum_distance` is given, checked."""
    x, y = np.asarray(power, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 3 or y.ndim != 3 or x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise InputError(f"spectra of shape {x.shape} and {y.shape}", "(N, channels, bands) and (M, channels, bands)")
    return x, y


def decibels_apart(power: Spectra, reference: Spectra) -> Spectra:
    """Root mean square difference in dB over the last two axes, ``(..., channels, bands)``, of mean spectra."""
    ours, theirs = (10 * np.log10(np.maximum(one, ROUNDING)) for one in (power, reference))
    return np.asarray(np.sqrt(((ours - theirs) ** 2).mean(axis=(-2, -1))))


@lru_cache(maxsize=4)
def _window_and_rings(shape: tuple[int, int], bands: int) -> tuple[Spectra, Spectra]:
    """The Hann window, and the matrix that averages a half plane of power over rings."""
    height, width = shape
    window = np.outer(np.hanning(height), np.hanning(width))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    ring = np.digitize(radius, np.linspace(0, 0.5, bands + 1)) - 1
    # A real image's other half plane is the mirror of this one, but for the columns that mirror themselves.
    twice = np.full(radius.shape, 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    rings = np.stack([twice * (ring == band) for band in range(bands)], axis=-1).reshape(-1, bands)
    return window, rings / rings.sum(axis=0)
