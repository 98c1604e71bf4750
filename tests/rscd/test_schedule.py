"""Facts about the noise schedules, and their agreement with the released tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from srh_clinic.errors import InputError
from srh_clinic.rscd.schedule import create_schedule

OFFICIAL = Path(__file__).resolve().parent.parent / "data" / "official_sampler.safetensors"


def test_the_clip_touches_the_first_13_steps_of_the_cosine_schedule() -> None:
    assert np.flatnonzero(create_schedule("cosine").beta == 1e-4).tolist() == list(range(13))


def test_sigma_of_the_cosine_schedule() -> None:
    sigma = create_schedule("cosine").sigma
    assert sigma[0] == pytest.approx(0.0100, abs=5e-5)
    assert sigma[50] == pytest.approx(0.093, abs=5e-4)
    assert round(float(sigma[34]) * 32768) == 2249


def test_linear_steps_do_not_compare_with_cosine_steps() -> None:
    assert create_schedule("linear").sigma[50] == pytest.approx(0.173, abs=5e-4)


def test_tables_are_float64_and_cannot_be_overwritten() -> None:
    schedule = create_schedule("cosine")
    assert schedule.beta.dtype == schedule.alpha_bar.dtype == schedule.posterior_variance.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        schedule.beta[0] = 0


def test_the_last_step_has_no_posterior_variance() -> None:
    assert create_schedule("cosine").posterior_variance[0] == 0


def test_the_released_tables_are_ours_in_float32() -> None:
    official, schedule = load_file(OFFICIAL), create_schedule("cosine")
    # 1 - alpha_bar[i + 1] / alpha_bar[i] cancels: float32 leaves 9e-4 of a small beta, and hardly anything of alpha_bar.
    np.testing.assert_allclose(official["betas"], schedule.beta, rtol=1e-3)
    np.testing.assert_allclose(official["posterior_variance"], schedule.posterior_variance, rtol=1e-3)
    np.testing.assert_allclose(official["alphas_cumprod"][:500], schedule.alpha_bar[:500], rtol=1e-6)


def test_index_of_sigma_is_the_nearest_noise_at_gain_1() -> None:
    schedule = create_schedule("cosine")
    sigma = np.concatenate([[0.0, 1e4], np.geomspace(1e-3, 10, 500)])
    nearest = np.abs(schedule.noise_to_signal[None] - sigma[:, None]).argmin(axis=1)
    np.testing.assert_array_equal(schedule.index_of_sigma(sigma), nearest)


def test_the_clean_image_has_index_minus_one() -> None:
    schedule = create_schedule("cosine")
    np.testing.assert_array_equal(schedule.alpha_bar_at(np.array([-1, 0, 999])), [1.0, *schedule.alpha_bar[[0, 999]]])


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(InputError, match="cosine"):
        create_schedule("quadratic")  # type: ignore[arg-type]
