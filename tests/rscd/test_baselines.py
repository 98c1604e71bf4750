"""CCDF and RRD against the exact oracle, and what must not change their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gaussian_field import GaussianField, graded_tiles

from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_model, model_to_counts
from srh_clinic.rscd.baselines import CCDF, RRD, one_sided_low_pass, pull, two_sided_low_pass
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.sampler import descent
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.rscd.settings import CCDFSettings, RRDSettings
from srh_clinic.rscd.tile import RestoredTile, Tile

SCHEDULE = create_schedule()
SIZE = 48
PRIOR = GaussianField(size=SIZE, mean=-0.2)
SEED = 3


def noisy_tile(t: int) -> Tile:
    """A field with the noise of index ``t``, somewhere on a slide."""
    rng = np.random.default_rng(t)
    image = PRIOR.sample(rng, 1)[0] + SCHEDULE.sigma[t] * rng.standard_normal((2, SIZE, SIZE))
    return Tile(7, model_to_counts(image), y=40, x=100)


def reverse(
    x: np.ndarray,
    path: list[int],
    draw: Callable[[int], np.ndarray] | None,
    after: Callable[[np.ndarray, int, int], np.ndarray] = lambda x, t, t_next: x,
) -> np.ndarray:
    """The reverse steps from clean image and state (Ho et al. 2020, eq. 7; Song et al. 2021, eq. 12); samplers go from eps.

    ``draw`` gives an ancestral step's noise by its index; without, steps are DDIM's. ``after`` follows every step.
    """
    for t, t_next in pairwise(path):
        ab = SCHEDULE.alpha_bar[t]
        ab_next = SCHEDULE.alpha_bar[t_next] if t_next >= 0 else 1.0
        clean = PRIOR.mean + np.fft.ifft2(np.fft.fft2(x - np.sqrt(ab) * PRIOR.mean) * PRIOR.wiener(t)).real
        if draw is None:
            of_state = np.sqrt((1 - ab_next) / (1 - ab))
            x = of_state * x + (np.sqrt(ab_next) - of_state * np.sqrt(ab)) * clean
        else:
            beta = 1 - ab / ab_next
            mean = (np.sqrt(ab_next) * beta * clean + np.sqrt(1 - beta) * (1 - ab_next) * x) / (1 - ab)
            x = mean + np.sqrt(beta * (1 - ab_next) / (1 - ab)) * draw(t)
        x = after(x, t, t_next)
    return x


def draw_of(tile: Tile) -> Callable[[int], np.ndarray]:
    return lambda step: block_noise(SEED, tile.y, tile.x, SIZE, SIZE, round=0, step=step)


def restore(diffusion: CCDF | RRD, tile: Tile) -> RestoredTile:
    (restored,) = replace(diffusion, dtype=torch.float64).stream([tile], SEED)
    return restored


# CCDF


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("t0", [1, 25, 50])
def test_ccdf_noises_the_input_and_takes_as_many_steps_back(t0: int, sampler: Any) -> None:
    tile = noisy_tile(20)
    restored = restore(CCDF(PRIOR.denoiser, SCHEDULE, CCDFSettings(t0=t0, sampler=sampler)), tile)
    path = descent(t0 - 1, t0, 4 if sampler == "ddim" else 1)
    added = block_noise(SEED, tile.y, tile.x, SIZE, SIZE, round=1, step=t0 - 1)
    alpha_bar = SCHEDULE.alpha_bar[t0 - 1]
    state = np.sqrt(alpha_bar) * counts_to_model(tile.counts) + np.sqrt(1 - alpha_bar) * added
    expected = reverse(state, path, draw_of(tile) if sampler == "ancestral" else None)
    # float64 on both sides: they would have to differ by a rounding at the very middle between two counts.
    np.testing.assert_array_equal(restored.counts, model_to_counts(expected))
    assert (restored.steps, restored.evaluations, restored.rounds) == (t0, len(path) - 1, 1)
    assert (restored.t_pred, restored.stop_reason, restored.flags) == (-1, "fixed-steps", ())


def test_overlapping_tiles_agree_under_ccdf_where_the_denoiser_sees_no_further_than_a_pixel() -> None:
    slide = np.random.default_rng(0).integers(0, 65535, (2, 100, 100)).astype(np.uint16)
    tiles = [Tile(i, slide[:, y : y + 64, x : x + 64], y=y, x=x) for i, (y, x) in enumerate([(0, 0), (20, 30)])]
    ccdf = CCDF(lambda x, t: 0.5 * x, SCHEDULE, CCDFSettings(sampler="ancestral"))
    first, second = (tile.counts for tile in ccdf.stream(tiles))
    np.testing.assert_array_equal(first[:, 20:, 30:], second[:, :44, :34])


# RRD


@pytest.mark.parametrize("prescale", [False, True])
@pytest.mark.parametrize("low_pass", ["official", "corrected"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_rrd_pulls_every_state_but_the_last_towards_the_inputs_low_frequencies(
    sampler: Any, low_pass: Any, prescale: bool
) -> None:
    tile = noisy_tile(60)
    settings = RRDSettings(sampler=sampler, low_pass=low_pass, prescale=prescale)
    restored = restore(RRD(PRIOR.denoiser, SCHEDULE, settings), tile)
    y = counts_to_model(tile.counts).astype(np.float64)
    (estimate,) = index_of_noise(torch.from_numpy(y)[None], SCHEDULE)
    t = int(estimate)
    if prescale:
        t = int(np.abs(SCHEDULE.noise_to_signal - SCHEDULE.sigma[t]).argmin())

    def gain(index: int) -> float:
        return float(np.sqrt(SCHEDULE.alpha_bar[index])) if prescale else 1.0

    def pulled(x: np.ndarray, now: int, later: int) -> np.ndarray:
        if later < 0:
            return x
        target = gain(later) * y
        left = 0.95 ** (now - later)
        if low_pass == "official":  # noqa: S105 (a filter, no password)
            alternating = (-1.0) ** np.arange(SIZE)
            nyquist = (target * alternating).mean(axis=-1, keepdims=True) * alternating
            return left * x + (1 - left) * (target + target.mean(axis=-1, keepdims=True) - nyquist) / 2
        frequency = np.abs(np.fft.fftfreq(SIZE))
        mask = (frequency[:, None] < 0.25) & (frequency < 0.25)
        return x + (1 - left) * np.fft.ifft2(np.fft.fft2(target - x) * mask).real

    path = descent(t, t + 1, 4 if sampler == "ddim" else 1)
    expected = reverse(gain(t) * y, path, draw_of(tile) if sampler == "ancestral" else None, pulled)
    np.testing.assert_array_equal(restored.counts, model_to_counts(expected))
    assert (restored.t_pred, restored.steps, restored.evaluations) == (int(estimate), t + 1, len(path) - 1)
    assert (restored.rounds, restored.stop_reason, restored.flags) == (1, "single-round", ())


@pytest.mark.parametrize("width", [32, 33])
def test_the_released_low_pass_is_half_the_image_and_half_its_rows_means(width: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 8, width)))
    alternating = torch.from_numpy((-1.0) ** np.arange(width))
    # A row of odd length has no Nyquist frequency.
    nyquist = (image * alternating).mean(-1, keepdim=True) * alternating if width % 2 == 0 else 0.0
    expected = image / 2 + image.mean(-1, keepdim=True) / 2 - nyquist / 2
    torch.testing.assert_close(one_sided_low_pass(image), expected, rtol=0, atol=1e-14)


def test_the_corrected_low_pass_keeps_slow_waves_and_drops_fast_ones() -> None:
    y, x = np.mgrid[:32, :40]
    slow, fast = np.cos(2 * np.pi * (3 * y / 32 + 7 * x / 40)), np.cos(2 * np.pi * (3 * y / 32 + 12 * x / 40))
    both = torch.from_numpy(slow + fast)
    torch.testing.assert_close(two_sided_low_pass(both), torch.from_numpy(slow), rtol=0, atol=1e-13)


def test_only_the_corrected_pull_leaves_a_state_alone_that_is_the_input() -> None:
    y = torch.from_numpy(PRIOR.sample(np.random.default_rng(0), 1))
    torch.testing.assert_close(pull(y, y, 0.05, "corrected"), y, rtol=0, atol=1e-15)
    fluctuation = y - y.mean(-1, keepdim=True)
    shrunk = pull(y, y, 0.05, "official")
    # All but the rows' means and alternating parts, which are next to nothing, lose half of the share.
    assert (shrunk - shrunk.mean(-1, keepdim=True)).std() / fluctuation.std() == pytest.approx(0.975, abs=1e-3)


def test_the_released_rrd_takes_contrast_away_and_the_corrected_does_not() -> None:
    """The strength of the fluctuations within rows, over that of RRD's input without its noise."""
    prior, rng = GaussianField(size=128, mean=-0.2), np.random.default_rng(0)
    clean = prior.sample(rng, 1)[0]
    tile = Tile(0, model_to_counts(clean + SCHEDULE.sigma[34] * rng.standard_normal(clean.shape)))

    def contrast(**settings: Any) -> float:
        restored = counts_to_model(restore(RRD(prior.denoiser, SCHEDULE, RRDSettings(**settings)), tile).counts)
        return float((restored - restored.mean(-1, keepdims=True)).std() / (clean - clean.mean(-1, keepdims=True)).std())

    # After 36 steps 0.95**36 = 0.16 is left of the state's own contrast, and half of the input's comes in place of the rest.
    assert contrast() == pytest.approx(0.16 + 0.84 / 2, abs=0.05)
    assert contrast(low_pass="corrected") == pytest.approx(1, abs=0.02)  # noqa: S106


def test_a_tile_without_an_estimate_is_left_alone_and_flagged() -> None:
    """It is too small for the estimator; the denoiser is not asked."""
    tile = Tile(0, np.full((2, 16, 16), 9000, dtype=np.uint16))
    (restored,) = RRD(lambda x, t: x / 0, SCHEDULE).stream([tile])
    np.testing.assert_array_equal(restored.counts, tile.counts)
    assert (restored.t_pred, restored.steps, restored.rounds, restored.evaluations) == (-1, 0, 0, 0)
    assert (restored.stop_reason, restored.flags) == ("no-estimate", ("no-estimate",))


def test_an_estimate_above_the_cap_is_capped_and_flagged() -> None:
    restored = restore(RRD(PRIOR.denoiser, SCHEDULE, RRDSettings(cap=30)), noisy_tile(100))
    assert restored.t_pred > 30
    assert (restored.steps, restored.flags) == (31, ("capped",))


# Both


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize(
    "diffusion", [CCDF(PRIOR.denoiser, SCHEDULE, CCDFSettings(t0=9)), RRD(PRIOR.denoiser, SCHEDULE)], ids=["ccdf", "rrd"]
)
def test_batch_size_and_order_change_nothing(diffusion: CCDF | RRD, sampler: str) -> None:
    tiles = graded_tiles(7, SIZE)

    def run(order: list[Tile], batch_size: int) -> dict[int, RestoredTile]:
        settings = diffusion.settings.model_copy(update={"sampler": sampler, "batch_size": batch_size})
        return {tile.key: tile for tile in replace(diffusion, settings=settings).stream(order, SEED)}  # type: ignore[arg-type]

    reference = run(tiles, 1)
    assert isinstance(diffusion, CCDF) or len({tile.steps for tile in reference.values()}) > 4
    for order, batch_size in ((tiles, 3), (tiles[::-1], 3), (tiles[::-1], 7)):
        result = run(order, batch_size)
        for key, expected in reference.items():
            np.testing.assert_array_equal(result[key].counts, expected.counts)
            assert (result[key].steps, result[key].evaluations) == (expected.steps, expected.evaluations)


@pytest.mark.parametrize("diffusion", [CCDF, RRD])
def test_what_cannot_be_served_is_refused(diffusion: type[CCDF] | type[RRD]) -> None:
    with pytest.raises(InputError, match="one size"):
        list(diffusion(PRIOR.denoiser, SCHEDULE).stream([Tile(0, np.zeros((2, 16, 16), np.uint16)), noisy_tile(5)]))
    with pytest.raises(InputError, match="denoiser"):
        list(diffusion(lambda x, t: x / 0, SCHEDULE).stream([noisy_tile(5)]))
