"""Degradation: each source does what it is named for, and the noise is what the method has to face."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from srh_clinic.simulation import Sources, degrade, draw_sources, simulate_patch

FLAT = np.full((2, 256, 256), 12_000, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise_of(sources: Sources, clean: np.ndarray = FLAT, seed: int = 0) -> np.ndarray:
    degraded = degrade(rng(seed), clean, sources)
    return degraded.counts - degraded.expected


def test_scattering_and_absorption_take_signal_away_unevenly() -> None:
    for sources in (Sources(scattering=1.0), Sources(absorption=1.0)):
        expected = degrade(rng(), FLAT, sources).expected
        assert expected.mean() < 0.95 * FLAT.mean()
        assert expected.std() > 0.02 * FLAT.mean()


def test_scattering_takes_contrast_away() -> None:
    clean = simulate_patch("glioma", 0.1, 0).clean.astype(np.float32)
    expected = degrade(rng(), clean, Sources(scattering=1.0)).expected

    def fine(image: np.ndarray) -> float:
        return float((np.diff(image, axis=-1) / image.mean()).std())

    assert fine(expected) < 0.8 * fine(clean)


def test_autofluorescence_adds_background_with_shot_noise_of_its_own() -> None:
    dark, glowing = degrade(rng(), FLAT, Sources()), degrade(rng(), FLAT, Sources(autofluorescence=1.0))
    assert glowing.expected.mean() > 1.1 * dark.expected.mean()
    assert (glowing.counts - glowing.expected).std() > 1.02 * (dark.counts - dark.expected).std()


def test_shot_noise_grows_with_the_signal() -> None:
    """Poisson: the variance is affine in the expected counts, so brighter columns are noisier."""
    ramp = np.broadcast_to(np.linspace(2_000, 30_000, 256, dtype=np.float32), (2, 256, 256))
    variance = noise_of(Sources(instrument=0.5), ramp).var(axis=(0, 1))
    slope = stats.linregress(ramp[0, 0], variance)
    assert slope.slope > 0
    assert slope.pvalue < 1e-6


def test_noise_is_correlated_along_the_rows_and_not_across_them() -> None:
    noise = np.stack([noise_of(Sources(instrument=0.8), seed=seed) for seed in range(8)])
    spread = noise.var()
    along = (noise[..., 1:] * noise[..., :-1]).mean() / spread
    across = (noise[..., 1:, :] * noise[..., :-1, :]).mean() / spread
    assert along > 0.1
    assert abs(across) < 0.03


def test_detectors_spike() -> None:
    """Far more pixels beyond 5 standard deviations than a Gaussian has (6e-7)."""
    noise = noise_of(Sources(instrument=0.3))
    z = (noise - np.median(noise)) / (1.4826 * np.median(np.abs(noise - np.median(noise))))
    assert (z > 5).mean() > 1e-5


def test_strips_have_gains_of_their_own() -> None:
    wide = np.full((2, 64, 2_500), 12_000, np.float32)
    expected = degrade(rng(1), wide, Sources(instrument=1.0)).expected
    steps = np.abs(np.diff(expected[0].mean(axis=0)))
    assert set(np.argsort(steps)[-2:]) == {999, 1999}


def test_the_severity_map_is_the_noise_over_the_signal_left() -> None:
    """Against the noise measured over 150 draws of one field; 15 % covers spikes, which the map does not count."""
    draws, predicted = [], []
    sources = Sources(scattering=0.6, instrument=0.4)
    for seed in range(150):
        degraded = degrade(rng(seed), FLAT[:, :32, :32], sources)
        draws.append((degraded.counts - degraded.expected)[:, 16, 16])
        predicted.append(degraded.severity[16, 16] * degraded.expected[:, 16, 16].mean() / 12_000)
    measured = np.std(draws) * 2 / 65_536
    assert measured == pytest.approx(np.mean(predicted), rel=0.15)


def test_sources_keep_to_the_severity() -> None:
    for seed in range(200):
        sources = draw_sources(rng(seed), 0.8)
        values = [sources.scattering, sources.absorption, sources.autofluorescence, sources.instrument]
        assert max(values) == pytest.approx(0.8)
        assert min(values) >= 0
        assert sources.instrument >= 0.7 * 0.8 - 1e-9
