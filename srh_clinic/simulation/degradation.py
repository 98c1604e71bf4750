"""What spoils an SRH image: the four sources that Lyu et al. (2025) name, each with its own parameter.

All sources are stochastic and vary within the image. The noise is not Gaussian and partly correlated: Poisson shot noise
depends on the signal, laser noise is correlated along the rows, the lock-in amplifier smears along the fast axis, detectors
spike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from srh_clinic.intensity import rounded_counts
from srh_clinic.simulation.fields import Field, Rng, smooth_field

STRIP_WIDTH = 1000
"""Columns that the imager scans in one strip; each strip has a gain of its own."""

MODEL_UNITS_PER_COUNT = 2 / 65_536


@dataclass(frozen=True)
class Sources:
    """Strength of each source of degradation, 0 (none) to 1 (the worst that is still an image).

    scattering
        Depth in tissue: up to 36 % of the signal and 35 % of the fine contrast lost, with a little blur.
    absorption
        Vessels and pigment: shadows that lose up to half of the signal.
    autofluorescence
        Added background of up to 30 % of the mean signal, with shot noise of its own and bright granules.
    instrument
        Shot, read and row-correlated laser noise, gain per strip, detector spikes.
    """

    scattering: float = 0.0
    absorption: float = 0.0
    autofluorescence: float = 0.0
    instrument: float = 0.0


@dataclass(frozen=True)
class Degraded:
    """A degraded image and what was done to it.

    counts
        uint16 ``(2, H, W)``: what the imager would store.
    expected
        float32 ``(2, H, W)`` counts without noise: what endless averaging of the same optics would give.
    severity
        float32 ``(H, W)``: standard deviation of the noise divided by the share of signal left, in model units; it compares
        with the schedule's sigma.
    """

    counts: np.ndarray
    expected: Field
    severity: Field


def draw_sources(rng: Rng, severity: float) -> Sources:
    """Sources of a random mixture at an overall ``severity`` in [0, 1]: the leading source has that strength.

    Instrument noise always has at least 70 % of it: scattered, absorbed or fluorescent light shows through its noise.
    """
    weights = rng.dirichlet([0.8, 0.8, 0.8, 1.2])
    weights = weights / weights.max()
    weights[3] = max(weights[3], 0.7)
    scattering, absorption, autofluorescence, instrument = (float(severity * w) for w in weights)
    return Sources(scattering, absorption, autofluorescence, instrument)


def _shadows(rng: Rng, shape: tuple[int, int]) -> Field:
    """Vessel-like ridges and pigment patches, 0 to 1."""
    ridge = np.exp(-((smooth_field(rng, shape, rng.uniform(45, 90)) / rng.uniform(0.15, 0.35)) ** 2))
    patch = np.clip(smooth_field(rng, shape, rng.uniform(25, 60)) - 1.0, 0, 1)
    return np.clip(0.8 * ndi.gaussian_filter(ridge, 3) + patch, 0, 1).astype(np.float32)


def degrade(rng: Rng, clean: Field, sources: Sources, strip_width: int = STRIP_WIDTH) -> Degraded:
    """Degrade a clean image, float32 counts ``(2, H, W)``.

    Noise amplitudes are set at 12,000 counts, a usual mean: shot noise from 450 to 6,300 counts, growing exponentially with
    the instrument's strength.
    """
    height, width = clean.shape[1:]
    shape = (height, width)

    depth = np.clip(0.65 + 0.35 * smooth_field(rng, shape, rng.uniform(60, 160)), 0, 1) * np.float32(sources.scattering)
    attenuation = np.exp(-0.45 * depth)
    haze = 0.35 * depth
    soft = ndi.gaussian_filter(clean, (0, 0.9, 0.9))
    sharpness = np.clip(0.8 * depth, 0, 1)
    signal = (1 - sharpness) * clean + sharpness * soft
    signal = (1 - haze) * signal + haze * ndi.gaussian_filter(clean, (0, 9, 9))
    attenuation = attenuation * np.exp(-0.7 * sources.absorption * _shadows(rng, shape))
    signal = signal * attenuation

    mean = float(clean.mean())
    glow = np.clip(0.5 + 0.5 * smooth_field(rng, shape, rng.uniform(40, 140)), 0, 1.5)
    granules = np.zeros(shape, np.float32)
    count = rng.poisson(25 * sources.autofluorescence * height * width / 256**2)
    granules[rng.integers(0, height, count), rng.integers(0, width, count)] = rng.uniform(0.3, 1.0, count)
    granules = ndi.gaussian_filter(granules, 1.3) * 10.6
    background = mean * sources.autofluorescence * (0.3 * glow + 0.5 * granules)
    expected = signal + background[None] * np.array([0.85, 1.0], np.float32)[:, None, None]

    strips = np.arange(width) // strip_width
    gain = 1 + 0.06 * sources.instrument * rng.standard_normal(strips[-1] + 1)
    across = (np.arange(width) % strip_width) / strip_width * 2 - 1
    vignette = 1 - 0.08 * sources.instrument * across**2
    expected = expected * (gain[strips] * vignette)[None, None]

    shot = 450.0 * 14.0**sources.instrument
    direct_current = 3_000.0  # the laser's own shot noise, present without Raman signal
    counts_per_electron = shot**2 / (12_000.0 + direct_current)
    electrons = rng.poisson(np.clip(expected + direct_current, 0, None) / counts_per_electron)
    noise = electrons * counts_per_electron - direct_current - expected
    read = 0.25 * shot
    noise = noise + rng.normal(0, read, clean.shape)
    lag = rng.uniform(0.0, 0.3)  # the lock-in's time constant smears the noise along the fast axis
    noise = (noise + lag * np.roll(noise, 1, axis=2)) / np.sqrt(1 + lag**2)
    relative = 0.25 * shot / 12_000.0
    laser = ndi.gaussian_filter1d(rng.standard_normal(clean.shape), 8.0, axis=2, mode="wrap") * np.sqrt(
        2 * np.sqrt(np.pi) * 8.0
    )
    rows = rng.standard_normal((2, height, 1))
    noise = noise + expected * relative * (0.6 * laser + 0.5 * rows)

    degraded = expected + noise
    spikes = rng.poisson(2e-4 * sources.instrument * degraded.size)
    where = rng.integers(0, degraded.size, spikes)
    degraded.reshape(-1)[where] += rng.uniform(8_000, 30_000, spikes)

    variance = (
        counts_per_electron * (np.clip(expected, 0, None) + direct_current) + read**2 + 0.61 * (expected * relative) ** 2
    )
    severity = np.sqrt(variance.mean(axis=0)) / attenuation * MODEL_UNITS_PER_COUNT
    return Degraded(
        counts=rounded_counts(degraded),
        expected=expected.astype(np.float32),
        severity=severity.astype(np.float32),
    )
