"""The reverse steps against the released code's own states, and the path they take."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from srh_clinic.rscd.sampler import ancestral, ddim, denoised, descent, mean_only
from srh_clinic.rscd.schedule import create_schedule

OFFICIAL = Path(__file__).resolve().parent.parent / "data" / "official_sampler.safetensors"
SCHEDULE = create_schedule()


@pytest.mark.parametrize(("name", "first", "last"), [("begin35_limit10", 34, 25), ("begin11_full", 10, 0)])
def test_our_step_explains_the_released_codes_states(name: str, first: int, last: int) -> None:
    """The released states hold the network's ``eps`` implicitly, and it is the same function at neighbouring steps.

    Our step is solved for ``eps`` with the noise that was drawn. If formula, index and variance are right what is left is a
    network's answer: unrelated to the noise and nearly the same from step to step. One index off leaves a correlation of
    0.2 (and 0.5 at the last steps) and three times the change.
    """
    golden = load_file(OFFICIAL)
    states, draws = golden[f"{name}.states"].double(), golden[f"{name}.noise"].double()
    assert len(states) - 1 == first - last + 1
    previous = None
    for i, index in enumerate(range(first, last - 1, -1)):
        x, wanted, t = states[i : i + 1], states[i + 1 : i + 2], np.array([index])
        noise = draws[i : i + 1] if i < len(draws) else torch.zeros_like(x)
        without = ancestral(x, torch.zeros_like(x), t, t - 1, SCHEDULE, noise)
        slope = ancestral(x, torch.ones_like(x), t, t - 1, SCHEDULE, noise) - without
        eps = (wanted - without) / slope
        torch.testing.assert_close(ancestral(x, eps, t, t - 1, SCHEDULE, noise), wanted)
        # 8,192 values: unrelated ones correlate by 0.011.
        assert abs(float((eps * noise).mean() / eps.std())) < 0.055
        if previous is not None:
            assert float((eps - previous).std() / eps.std()) < 0.15
        previous = eps
    assert len(draws) == (10 if last else first)  # the last step draws none


def state(seed: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, eps, noise = torch.randn(3, count, 2, 8, 8, generator=generator, dtype=torch.float64)
    return x, eps, noise


def test_every_sample_takes_its_own_step() -> None:
    x, eps, noise = state(0)
    t = np.array([3, 150, 34])
    for sampler in (ancestral, ddim, mean_only):
        together = sampler(x, eps, t, t - 1, SCHEDULE, noise)
        alone = [
            sampler(x[i : i + 1], eps[i : i + 1], t[i : i + 1], t[i : i + 1] - 1, SCHEDULE, noise[i : i + 1]) for i in range(3)
        ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)


def test_all_samplers_end_at_the_denoised_image() -> None:
    x, eps, noise = state(1, count=1)
    t = np.array([0])
    for sampler in (ancestral, ddim, mean_only):
        torch.testing.assert_close(sampler(x, eps, t, t - 1, SCHEDULE, noise), denoised(x, eps, t, SCHEDULE))


def test_ddim_leaps_to_the_clean_image_from_anywhere() -> None:
    x, eps, _ = state(2)
    t = np.array([5, 50, 500])
    torch.testing.assert_close(ddim(x, eps, t, np.full(3, -1), SCHEDULE), denoised(x, eps, t, SCHEDULE))


def test_beta_variance_adds_noise_at_the_last_step_too() -> None:
    x, eps, noise = state(3, count=1)
    t = np.array([0])
    added = ancestral(x, eps, t, t - 1, SCHEDULE, noise, variance="beta") - mean_only(x, eps, t, t - 1, SCHEDULE)
    torch.testing.assert_close(added, 0.01 * noise)


def test_ancestral_without_noise_or_with_leaps_is_refused() -> None:
    x, eps, noise = state(4, count=1)
    with pytest.raises(ValueError, match="no noise"):
        ancestral(x, eps, np.array([5]), np.array([4]), SCHEDULE)
    with pytest.raises(ValueError, match="DDIM alone"):
        ancestral(x, eps, np.array([5]), np.array([3]), SCHEDULE, noise)


@pytest.mark.parametrize(("steps", "stride", "evaluations"), [(10, 1, 10), (10, 4, 3), (8, 4, 2), (3, 4, 1), (1, 100, 1)])
def test_a_descent_has_one_evaluation_per_stride_and_at_least_one(steps: int, stride: int, evaluations: int) -> None:
    path = descent(34, steps, stride)
    assert len(path) - 1 == evaluations
    assert (path[0], path[-1]) == (34, 34 - steps)
    assert all(1 <= before - after <= stride for before, after in pairwise(path))
