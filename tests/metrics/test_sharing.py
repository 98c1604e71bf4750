"""What channels share of a residual, against residuals whose sharing is known."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.estimates import Interval, Undefined
from srh_clinic.metrics import residual_sharing

RNG = np.random.default_rng(0)
TISSUE = RNG.normal(size=(4, 1, 128, 128))
"""White, so that every band has its power."""
ALONE = 0.5 * RNG.normal(size=(4, 2, 128, 128))
NOISE = 0.5 * RNG.normal(size=(4, 2, 128, 128))
SCANNED = np.concatenate([TISSUE, TISSUE], axis=1) + ALONE + NOISE


def sharing(restored: np.ndarray) -> list[Interval]:
    found = residual_sharing(SCANNED, restored)
    assert all(isinstance(one, Interval) for one in found)
    return found


def test_noise_that_is_taken_away_is_not_shared() -> None:
    for one in sharing(SCANNED - NOISE):
        assert one.low < 0 < one.high
        assert abs(one.value) < 0.1
        assert one.n == 16


def test_tissue_that_is_taken_away_is() -> None:
    # A restoration that takes 0.4 of everything takes 0.16 of the shared power.
    for one in sharing(0.6 * SCANNED):
        assert one.value == pytest.approx(0.16, abs=1e-12)
        assert one.low == pytest.approx(one.high)


def test_channels_made_alike_share_with_the_other_sign() -> None:
    alike = np.repeat(SCANNED.mean(axis=1, keepdims=True), 2, axis=1)
    # What told them apart has a variance of 2 (0.25 + 0.25); half of the difference has a quarter of it.
    for one in sharing(alike):
        assert one.high < 0
        assert one.value == pytest.approx(-0.25, abs=0.08)


def test_the_best_linear_estimate_makes_a_likeness_that_is_known() -> None:
    rng = np.random.default_rng(1)
    tissue = rng.normal(size=(8, 1, 128, 128)) * np.ones((1, 2, 1, 1)) + 0.5 * rng.normal(size=(8, 2, 128, 128))
    scanned = tissue + rng.normal(size=tissue.shape)
    spectra = np.array([[1.25, 1.0], [1.0, 1.25]])  # of the tissue; the noise has a variance of 1
    best = spectra @ np.linalg.inv(spectra + np.eye(2))
    restored = np.einsum("ij,njhw->nihw", best, scanned)
    expected = -1 / np.linalg.det(spectra + np.eye(2))
    for one in residual_sharing(scanned, restored):
        assert one.low < expected < one.high
        assert one.value == pytest.approx(expected, abs=0.05)


def test_few_blocks_and_channels_without_likeness_have_no_answer() -> None:
    assert residual_sharing(SCANNED[:1], SCANNED[:1])[0] == Undefined("4 blocks, fewer than 8")
    strangers = RNG.normal(size=(4, 2, 128, 128))
    assert Undefined("the channels of the input share nothing there") in residual_sharing(strangers, 0.5 * strangers)


def test_images_smaller_than_a_block_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 px"):
        residual_sharing(SCANNED[..., :32], SCANNED[..., :32])
