"""Algorithm 1 against the exact oracle, and what must not change its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gaussian_field import GaussianField, Moments, graded_tiles
from hypothesis import given
from hypothesis import strategies as st

from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_model, model_to_counts
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import LARGEST_EXPOSURE, RSCD, Denoiser, exposure_gain, plan_round
from srh_clinic.rscd.sampler import quadratic
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.rscd.tile import RestoredTile, Tile

SCHEDULE = create_schedule()
GREY = 8554
"""Counts of a plain tile."""


def script(*predictions: float) -> Callable[[torch.Tensor], np.ndarray]:
    """A calibrator that says the same of every image, one prediction a call."""
    remaining = iter(predictions)
    return lambda images: np.full(len(images), next(remaining))


def plain(size: int = 16, counts: int = GREY) -> np.ndarray:
    return np.full((2, size, size), counts, dtype=np.uint16)


def no_noise_seen(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


class Trace:
    """What a run's callback saw, by tile: the steps taken, and the last state at a gain of 1."""

    def __init__(self) -> None:
        self.steps: dict[int, list[tuple[int, int, int]]] = {}
        self.image: dict[int, np.ndarray] = {}

    def __call__(self, state: dict[str, Any]) -> None:
        for i, key in enumerate(state["keys"]):
            step = (int(state["rounds"][i]), int(state["t"][i]), int(state["t_next"][i]))
            self.steps.setdefault(key, []).append(step)
            self.image[key] = state["x_next"][i].numpy() / state["gain"][i]


def restore_one(settings: RSCDSettings, *predictions: float, denoiser: Denoiser = no_noise_seen) -> RestoredTile:
    (restored,) = RSCD(denoiser, script(*predictions), SCHEDULE, settings).stream([Tile(0, plain())])
    return restored


# The recursion of the Gaussian field

PREDICTIONS = (34, 21, 4, -1)
ABLATIONS = ({"recalibrate": False}, {"fixed_steps": 12}, {"max_rounds": 2})


@pytest.mark.parametrize("prescale", [True, False])
@pytest.mark.parametrize(
    ("sampler", "variance"),
    [("ancestral", "posterior"), ("ancestral", "beta"), ("ddim", "posterior"), ("mean", "posterior")],
)
@pytest.mark.parametrize(
    "setting", [{"profile": name} for name in ("paper-text", "paper-algorithm1", "official")] + list(ABLATIONS), ids=str
)
def test_mean_and_variance_follow_the_exact_recursion(
    setting: dict[str, Any], sampler: Any, variance: Any, prescale: bool
) -> None:
    """The whole of Algorithm 1 is affine under the oracle, so impulses measure mean and variance without sampling error.

    One tile gets no noise, one an impulse in the input, and one each an impulse in one of the draws; the differences are the
    responses, whose squares add up to the variance at each frequency.
    """
    prior = GaussianField()
    settings = RSCDSettings(**setting, sampler=sampler, variance=variance, prescale=prescale, batch_size=64, exposure=None)
    probe = Trace()
    quiet = RSCD(prior.denoiser, script(*PREDICTIONS), SCHEDULE, settings, dtype=torch.float64, noise=impulse_noise([]))
    list(quiet.stream([Tile(0, plain())], callback=probe))
    steps = probe.steps[0]

    draws = [(round, t) for round, t, _ in steps] if sampler == "ancestral" else []
    struck = plain()
    struck[:, 0, 0] += 20000
    tiles = [Tile(i, plain(), y=i) for i in range(len(draws))]
    tiles += [Tile(-1, plain(), y=len(draws)), Tile(-2, struck, y=len(draws))]
    trace = Trace()
    rscd = RSCD(prior.denoiser, script(*PREDICTIONS), SCHEDULE, settings, dtype=torch.float64, noise=impulse_noise(draws))
    restored = list(rscd.stream(tiles, callback=trace))
    assert all(trace.steps[tile.key] == steps for tile in tiles)
    undisturbed = trace.image[-1]

    def power(key: int, height: float = 1.0) -> np.ndarray:
        return np.abs(np.fft.fft2((trace.image[key] - undisturbed) / height)) ** 2

    input_noise = 0.07**2
    variance_measured = power(-2, 20000 / 32768) * (prior.spectrum + input_noise) + sum(power(i) for i in range(len(draws)))
    expected = Moments(float(counts_to_model(np.array(GREY))), prior.spectrum + input_noise)
    follow(expected, prior, settings, steps)
    # float64 throughout: what is left is rounding, about 30 steps of 2e-16 magnified by divisions through sigma(0) = 0.01.
    np.testing.assert_allclose(undisturbed, expected.mean, rtol=0, atol=1e-11)
    np.testing.assert_allclose(variance_measured, np.stack([expected.variance] * 2), rtol=1e-9)
    # The counts handed on are that image, rounded.
    (counts,) = (tile.counts for tile in restored if tile.key == -1)
    np.testing.assert_array_equal(counts, model_to_counts(undisturbed))


def impulse_noise(draws: Sequence[tuple[int, int]]) -> Callable[..., np.ndarray]:
    """Noise that is an impulse for the tile whose y is the draw's place in ``draws``, and nothing else."""

    def noise(seed: int, y: int, x: int, height: int, width: int, *, round: int, step: int) -> np.ndarray:
        planes = np.zeros((2, height, width))
        planes[:, 0, 0] = y < len(draws) and draws[y] == (round, step)
        return planes

    return noise


def follow(moments: Moments, prior: GaussianField, settings: RSCDSettings, steps: list[tuple[int, int, int]]) -> None:
    """Carry moments through the steps a run took, with the gain that ``prescale`` asks for."""
    gain, before = 1.0, -1
    for round, t, t_next in steps:
        if settings.prescale and round != before:
            moments.scale(np.sqrt(SCHEDULE.alpha_bar[t]) / gain)
        moments.step(prior, settings.sampler, settings.variance, t, t_next)
        before = round
        if settings.prescale:
            gain = np.sqrt(SCHEDULE.alpha_bar[t_next]) if t_next >= 0 else 1.0
    moments.scale(1 / gain)


def test_restored_fields_have_the_recursions_power_with_the_real_noise() -> None:
    prior = GaussianField(size=64, mean=0.0)
    clean = prior.sample(np.random.default_rng(0), 24)
    noisy = clean + 0.07 * np.random.default_rng(1).standard_normal(clean.shape)
    settings = RSCDSettings(sampler="ancestral", recalibrate=False)
    trace = Trace()
    tiles = [Tile(i, model_to_counts(tile), y=64 * i) for i, tile in enumerate(noisy)]
    rscd = RSCD(prior.denoiser, lambda images: np.full(len(images), 35), SCHEDULE, settings, dtype=torch.float64)
    list(rscd.stream(tiles, seed=5, callback=trace))
    expected = Moments(0.0, prior.spectrum + 0.07**2)
    follow(expected, prior, settings, trace.steps[0])
    power = np.abs(np.fft.fft2(np.stack([trace.image[i] for i in range(24)]))) ** 2 / 64**2
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    for low, high in ((0.05, 0.15), (0.15, 0.3), (0.3, 0.71)):
        band = (frequency >= low) & (frequency < high)
        ratio = (power / expected.variance)[..., band]
        # Every pair of conjugate frequencies is one exponential variate; four standard errors of their mean.
        assert abs(ratio.mean() - 1) < 4 / np.sqrt(ratio.size / 2)


@pytest.mark.parametrize(("t", "published"), [(34, -66), (100, -354), (190, -1336)])
def test_without_prescale_the_mean_drifts_and_with_it_it_does_not(t: int, published: float) -> None:
    grey = 6554
    prior = GaussianField(size=128, mean=float(counts_to_model(np.array(grey))))

    def drift(prescale: bool) -> float:
        settings = RSCDSettings(sampler="ancestral", prescale=prescale, recalibrate=False, exposure=None)
        trace = Trace()
        rscd = RSCD(prior.denoiser, script(t), SCHEDULE, settings, dtype=torch.float64, noise=impulse_noise([]))
        list(rscd.stream([Tile(0, plain(128, grey))], callback=trace))
        return float((trace.image[0].mean() - prior.mean) * 32768)

    assert abs(drift(prescale=True)) < 1e-6
    # The published values are means over eight random fields of 128 x 128 px: their input noise and the sampler's own, each of
    # about sigma(t), leave an error whose threefold is allowed. Ours is exact.
    standard_error = np.sqrt(2 / (8 * 128**2)) * SCHEDULE.sigma[t] * 32768
    assert drift(prescale=False) == pytest.approx(published, abs=3 * standard_error)


# Rounds, profiles and reasons to stop


@pytest.mark.parametrize(
    ("profile", "index", "rounds", "expected"),
    [
        ("paper-text", 34, 0, (34, 10, None)),
        ("paper-text", 9, 0, (9, 10, None)),
        ("paper-text", 8, 0, (8, 9, "completed")),
        ("paper-text", -1, 3, (-1, 0, "clean")),
        ("paper-text", 34, 14, (34, 35, "round-limit")),
        ("paper-algorithm1", 34, 0, (34, 10, None)),
        ("paper-algorithm1", 4, 0, (4, 5, None)),
        ("paper-algorithm1", -1, 1, (-1, 0, "clean")),
        ("paper-algorithm1", 4, 14, (4, 5, "round-limit")),
        ("official", 34, 0, (34, 10, None)),
        ("official", 10, 0, (10, 10, None)),
        ("official", 9, 0, (11, 12, "completed")),
        ("official", -1, 0, (1, 2, "completed")),
        ("official", -3, 0, (-1, 0, "clean")),
        ("official", 34, 14, (36, 37, "round-limit")),
    ],
)
def test_each_profile_plans_its_rounds(profile: Any, index: int, rounds: int, expected: tuple[int, int, str | None]) -> None:
    plan = plan_round(index, rounds, RSCDSettings(sampler="ddim", profile=profile))
    assert (plan.t, plan.steps, plan.stop_reason) == expected


@pytest.mark.parametrize(
    ("settings", "predictions", "steps", "rounds", "reason"),
    [
        ({}, (34, 21, 4), 25, 3, "completed"),
        ({"profile": "paper-algorithm1"}, (34, 21, 4, -1), 25, 3, "clean"),
        ({"profile": "official"}, (34, 21, 4), 27, 3, "completed"),
        ({"profile": "official"}, (14, 14, 14, 4), 37, 4, "completed"),
        ({"recalibration_interval": 20, "max_extra_steps": None}, (34, 15), 36, 2, "completed"),
        ({"recalibration_interval": 20}, (34, 15), 35, 2, "completed"),
        ({"max_rounds": 2}, (34, 21), 32, 2, "round-limit"),
        ({"recalibrate": False}, (34,), 35, 1, "single-round"),
        ({"fixed_steps": 50}, (), 50, 1, "single-round"),
        ({"max_extra_steps": 0}, (34, 40, 40, 40), 35, 4, "completed"),
        ({"max_extra_steps": 10}, (34, 40, 40, 40, 40), 45, 5, "completed"),
        ({"max_extra_steps": 0, "profile": "paper-algorithm1"}, (34, 40, 40, 40, 40), 35, 4, "step-limit"),
        ({"max_extra_steps": 0}, (34, 21, 4), 25, 3, "completed"),
        ({"max_extra_steps": 0}, (-1,), 0, 0, "clean"),
        ({}, (-1,), 0, 0, "clean"),
        ({}, (33.6, -0.6), 10, 1, "clean"),
    ],
)
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "mean"])
def test_a_tile_takes_index_plus_one_steps_and_says_why_it_stopped(
    settings: dict[str, Any], predictions: tuple[float, ...], steps: int, rounds: int, reason: str, sampler: Any
) -> None:
    restored = restore_one(RSCDSettings(**settings, sampler=sampler), *predictions)
    assert (restored.steps, restored.rounds, restored.stop_reason) == (steps, rounds, reason)
    assert restored.t_pred == (round(predictions[0]) if predictions else 49)
    if sampler != "ddim":
        assert restored.evaluations == steps


def test_ddim_evaluates_once_in_so_many_steps() -> None:
    restored = restore_one(RSCDSettings(sampler="ddim", ddim_stride=4), 34, 21, 4)
    assert restored.evaluations == 3 + 3 + 2
    assert restore_one(RSCDSettings(sampler="ddim", ddim_stride=200, recalibrate=False), 190).evaluations == 1


@pytest.mark.parametrize(("index", "evaluations", "run"), [(34, 3, 3), (34, 1, 1), (1, 3, 2), (0, 3, 1), (3, 3, 3)])
def test_the_direct_sampler_takes_all_steps_in_so_many_evaluations_or_as_many_as_there_are_steps(
    index: int, evaluations: int, run: int
) -> None:
    restored = restore_one(RSCDSettings(evaluations=evaluations, understate=False, prescale=False), index)
    assert (restored.evaluations, restored.steps, restored.rounds, restored.stop_reason) == (run, index + 1, 1, "single-round")


def test_the_direct_sampler_is_ddim_in_one_round() -> None:
    prior = GaussianField()
    for evaluations, stride in ((1, 200), (35, 1)):
        direct = RSCDSettings(
            evaluations=evaluations, understate=False, keep_difference=False, turn_last=False, prescale=False
        )
        rounds = RSCDSettings(sampler="ddim", ddim_stride=stride, recalibrate=False, prescale=False)
        one, other = (restore_one(settings, 34, denoiser=prior.denoiser) for settings in (direct, rounds))
        assert (one.evaluations, one.steps) == (other.evaluations, other.steps)
        np.testing.assert_array_equal(one.counts, other.counts)


@pytest.mark.parametrize(("steps", "run"), [(1, 1), (5, 4), (8, 7), (20, 20), (60, 59), (191, 187)])
def test_the_direct_sampler_begins_a_little_below_what_the_calibrator_reads(steps: int, run: int) -> None:
    """The index it read stays on record; steps that somebody fixed are run in full, and other samplers run what is asked."""

    def restored(**settings: Any) -> RestoredTile:
        return restore_one(RSCDSettings(prescale=False, **settings), steps - 1)

    assert (restored().t_pred, restored().steps) == (steps - 1, run)
    for settings in ({"understate": False}, {"fixed_steps": steps}, {"sampler": "mean", "recalibrate": False}):
        assert restored(**settings).steps == steps


def test_its_evaluations_are_nearer_to_each_other_towards_the_end() -> None:
    states = []

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        states.extend(int(one) for one in t)
        return torch.zeros_like(x)

    restore_one(RSCDSettings(understate=False, prescale=False), 99, denoiser=denoiser)
    restore_one(RSCDSettings(understate=False, prescale=False, evaluations=3), 99, denoiser=denoiser)
    assert states == [99, 24, 99, 43, 10]


@given(st.integers(-1, 190), st.integers(1, 191), st.integers(1, 30))
def test_a_quadratic_descent_goes_down_at_every_evaluation(end: int, steps: int, evaluations: int) -> None:
    path = quadratic(end + steps, steps, evaluations)
    assert (path[0], path[-1], len(path)) == (end + steps, end, min(evaluations, steps) + 1)
    assert (np.diff(path) < 0).all()
    assert (np.diff(path, 2) >= -1).all()


def test_the_last_of_several_evaluations_sees_the_image_transposed() -> None:
    """Tiles of one batch may be at different evaluations; what ends in one evaluation is never turned."""
    seen: list[tuple[int, tuple[int, ...]]] = []

    def rows(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.extend((int(one), tuple(x.shape[-2:])) for one in t)
        return 3 * (x - x.mean(dim=-1, keepdim=True))

    def restored(width: int = 24, **settings: Any) -> list[np.ndarray]:
        counts = np.random.default_rng(0).integers(20_000, 40_000, (2, 16, width)).astype(np.uint16)
        tiles = [Tile(key, counts) for key in range(2)]
        chosen = RSCDSettings(
            exposure=None, prescale=False, understate=settings.get("sampler", "direct") != "direct", **settings
        )
        rscd = RSCD(rows, lambda x: torch.tensor([30.0, 1.0])[: len(x)], SCHEDULE, chosen)
        return [one.counts for one in sorted(rscd.stream(tiles), key=lambda one: one.key)]

    turned = restored()
    assert sorted(seen) == [(0, (24, 16)), (1, (16, 24)), (7, (24, 16)), (30, (16, 24))]
    seen.clear()
    upright = restored(turn_last=False)
    assert {shape for _, shape in seen} == {(16, 24)}
    assert np.abs(turned[0].astype(int) - upright[0]).max() > 100
    np.testing.assert_array_equal(restored(evaluations=1), restored(evaluations=1, turn_last=False))
    for sampler in ("ddim", "ancestral", "mean"):
        seen.clear()
        restored(sampler=sampler)
        assert {shape for _, shape in seen} == {(16, 24)}
    # Squares go through the network in one batch.
    assert np.abs(restored(16)[0].astype(int) - restored(16, turn_last=False)[0]).max() > 100


@pytest.mark.parametrize("prescale", [True, False])
def test_the_difference_of_the_channels_is_the_first_evaluations(prescale: bool) -> None:
    """And their mean the last one's; counts are rounded, so by a count each."""

    def unlike(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor([0.3, 0.1])[:, None, None] * (1 + t[:, None, None, None] / 100)

    def restored(**settings: Any) -> np.ndarray:
        chosen = RSCDSettings(prescale=prescale, exposure=None, **settings)
        return restore_one(chosen, 120, denoiser=unlike).counts.astype(float)

    kept, last, first = restored(), restored(keep_difference=False), restored(evaluations=1)
    if prescale:  # without, one evaluation ends at another gain
        assert np.abs((kept[1] - kept[0]) - (first[1] - first[0])).max() <= 2
    assert np.abs(kept.mean(axis=0) - last.mean(axis=0)).max() <= 1
    assert np.abs(kept - last).max() > 50


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"recalibrate": False},
            "recalibrate, which .* sampler direct; needed a sampler that goes by rounds",
        ),
        ({"ddim_stride": 10}, "ddim_stride, which has no effect with the sampler direct"),
        ({"sampler": "direct", "profile": "official"}, "profile, which has no effect with the sampler direct"),
        (
            {"sampler": "ddim", "evaluations": 3},
            "evaluations, which .* the sampler ddim; needed the sampler direct",
        ),
        ({"variance": "beta"}, "variance, which .* the sampler direct; needed the sampler ancestral"),
        ({"sampler": "mean", "variance": "beta"}, "variance, which .* the sampler mean; needed the sampler ancestral"),
        ({"sampler": "ancestral", "ddim_stride": 8}, "ddim_stride, which .* the sampler ancestral; needed the sampler ddim"),
        ({"fixed_steps": 10, "skip_below": 50}, "skip_below, which has no effect with fixed_steps; needed no fixed_steps"),
        ({"fixed_steps": 10, "understate": False}, "understate, which has no effect with fixed_steps"),
    ],
)
def test_a_setting_without_effect_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RSCDSettings(**settings)


def test_a_profile_goes_by_rounds() -> None:
    assert RSCDSettings().sampler == "direct"
    assert RSCDSettings(profile="official").sampler == RSCDSettings(profile="paper-algorithm1").sampler == "ddim"
    for settings in (RSCDSettings(), RSCDSettings(profile="official")):
        assert RSCDSettings(**settings.model_dump()) == settings


def test_a_prediction_above_the_cap_is_capped_and_flagged() -> None:
    restored = restore_one(RSCDSettings(sampler="ddim", cap=50, prescale=False, recalibrate=False), 400)
    assert (restored.t_pred, restored.steps, restored.flags) == (400, 51, ("capped",))
    assert restore_one(RSCDSettings(sampler="ddim", cap=50, recalibrate=False), 50).flags == ()


def test_a_tile_below_the_threshold_is_skipped_flagged_and_unchanged() -> None:
    restored = restore_one(RSCDSettings(sampler="ddim", skip_below=20), 19)
    assert (restored.stop_reason, restored.flags, restored.steps, restored.t_pred) == ("skipped", ("skipped",), 0, 19)
    np.testing.assert_array_equal(restored.counts, plain())
    assert restore_one(RSCDSettings(sampler="ddim", skip_below=20), 34, 5).stop_reason == "completed"


def test_where_the_nonparametric_estimator_has_no_answer_a_tile_stays_as_it_is_and_is_flagged() -> None:
    """At the first look, or at a later one: there ``nan`` follows 34 at a state that is the input still."""
    for predictions, steps, rounds, first in (((np.nan,), 0, 0, -1), ((34, np.nan), 10, 1, 34)):
        restored = restore_one(RSCDSettings(sampler="ddim", estimator="nonparametric"), *predictions)
        assert (restored.stop_reason, restored.flags) == ("no-estimate", ("no-estimate",))
        assert (restored.steps, restored.rounds, restored.t_pred) == (steps, rounds, first)
        np.testing.assert_array_equal(restored.counts, plain())


def test_with_the_nonparametric_estimator_every_look_measures_the_image_at_a_gain_of_1() -> None:
    """The prior's own spectrum is drowned in noise: what is measured is the noise of the image, whatever the state's gain."""
    prior, seen = GaussianField(size=128, mean=0.0, deviation=0.01), []
    noise = SCHEDULE.sigma[100] * np.random.default_rng(0).standard_normal((2, 128, 128))

    def estimator(images: torch.Tensor) -> np.ndarray:
        seen.append((images.numpy().std(), index_of_noise(images, SCHEDULE)[0]))
        return np.array([seen[-1][1]])

    settings = RSCDSettings(sampler="ddim", estimator="nonparametric")
    (restored,) = RSCD(prior.denoiser, estimator, SCHEDULE, settings).stream([Tile(0, model_to_counts(noise))])
    assert restored.rounds == len(seen) > 5
    for deviation, index in seen[:5]:
        # 1,681 patches of 128 pixels: the estimate is up to 7 % low, see noise_level.
        assert SCHEDULE.sigma[int(index)] == pytest.approx(deviation, rel=0.08)


def test_with_prescale_the_state_has_the_images_noise_once_its_gain_is_divided_out() -> None:
    """Noise of sigma(190) in an image at gain 1 is that of the state at 181, whose signal is 0.95 as strong."""
    assert restore_one(RSCDSettings(sampler="ddim", recalibrate=False), 190).steps == 182
    assert restore_one(RSCDSettings(sampler="ddim", recalibrate=False, prescale=False), 190).steps == 191


@pytest.mark.parametrize("profile", ["paper-text", "paper-algorithm1", "official"])
@pytest.mark.parametrize("sampler", ["ddim", "mean"])
def test_where_no_noise_is_seen_the_image_keeps_its_brightness(profile: Any, sampler: Any) -> None:
    """Also when it stops early, and in every image that the calibrator sees."""
    seen: list[torch.Tensor] = []
    predictions = script(120, 60, -1)

    def calibrator(images: torch.Tensor) -> np.ndarray:
        seen.append(images)
        return predictions(images)

    rounds = 2 if profile == "official" else 15
    settings = RSCDSettings(profile=profile, sampler=sampler, max_rounds=rounds, exposure=None)
    (restored,) = RSCD(no_noise_seen, calibrator, SCHEDULE, settings).stream([Tile(0, plain())])
    np.testing.assert_array_equal(restored.counts, plain())
    for images in seen:
        # float32: some hundred roundings of 6e-8.
        np.testing.assert_allclose(images, counts_to_model(plain())[None], atol=1e-5)


# What must not change a result


def spectral_calibrator(images: torch.Tensor) -> np.ndarray:
    """Index of the power at the highest frequencies; it judges each image by itself."""
    deviation = np.array([np.diff(np.diff(image.numpy(), axis=1), axis=2).std() / 2 for image in images])
    return np.searchsorted(SCHEDULE.sigma, deviation * 0.97) - 1


def run(tiles: Sequence[Tile], batch_size: int, denoiser: Denoiser, sampler: Any = "ancestral") -> dict[int, RestoredTile]:
    settings = RSCDSettings(sampler=sampler, batch_size=batch_size, max_rounds=5)
    return {tile.key: tile for tile in RSCD(denoiser, spectral_calibrator, SCHEDULE, settings).stream(tiles, seed=9)}


def test_batch_size_and_order_change_nothing() -> None:
    """Tiles are retired and refilled at different steps; the oracle has no batched convolutions to round otherwise."""
    tiles, prior = graded_tiles(17), GaussianField(size=32, mean=0.0)
    reference = run(tiles, 1, prior.denoiser)
    assert len({tile.steps for tile in reference.values()}) > 6
    assert len({tile.rounds for tile in reference.values()}) > 3
    shuffled = [tiles[i] for i in np.random.default_rng(0).permutation(len(tiles))]
    for order, batch_size in ((tiles, 5), (shuffled, 5), (shuffled, 16)):
        result = run(order, batch_size, prior.denoiser)
        assert sorted(result) == sorted(reference)
        for key, expected in reference.items():
            np.testing.assert_array_equal(result[key].counts, expected.counts)
            assert (result[key].steps, result[key].rounds) == (expected.steps, expected.rounds)
            assert (result[key].stop_reason, result[key].evaluations) == (expected.stop_reason, expected.evaluations)


def test_batched_convolutions_change_a_result_by_rounding_alone() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 16, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(16, 2, 3, padding=1))

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return network(x)

    tiles = graded_tiles(9)
    reference = run(tiles, 1, denoiser)
    for batch_size in (5, 16):
        for key, result in run(tiles[::-1], batch_size, denoiser).items():
            difference = np.abs(result.counts.astype(int) - reference[key].counts)
            # A float32 unit in the last place is 0.002 counts; hundreds of steps may turn one rounding to counts.
            assert difference.max() <= 1


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    prior, tile = GaussianField(size=32, mean=0.0), graded_tiles(12)[-1:]
    settings = RSCDSettings(sampler="ancestral")
    rscd = RSCD(prior.denoiser, spectral_calibrator, SCHEDULE, settings)
    first, again, other = (next(rscd.stream(tile, seed=seed)).counts for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9


def test_networks_see_full_batches_and_few_tiles_are_held() -> None:
    batches: dict[str, list[int]] = {"denoiser": [], "calibrator": []}
    taken = finished = 0
    held = []

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        batches["denoiser"].append(len(x))
        return torch.zeros_like(x)

    def calibrator(images: torch.Tensor) -> np.ndarray:
        batches["calibrator"].append(len(images))
        return np.random.default_rng(len(batches["calibrator"])).integers(-1, 60, len(images))

    def source() -> Iterator[Tile]:
        nonlocal taken
        for i in range(60):
            taken += 1
            held.append(taken - finished)
            yield Tile(i, plain())

    for _ in RSCD(denoiser, calibrator, SCHEDULE, RSCDSettings(batch_size=4)).stream(source()):
        finished += 1
    assert finished == 60
    assert max(held) <= 8
    while_refilled = {name: sizes[: int(0.8 * len(sizes))] for name, sizes in batches.items()}
    assert set(while_refilled["calibrator"]) == {4}
    assert np.mean(while_refilled["denoiser"]) > 3.9


def test_noise_is_made_only_where_it_is_added() -> None:
    drawn: list[int] = []

    def noise(*place: int, round: int, step: int) -> np.ndarray:
        drawn.append(step)
        return block_noise(*place, round=round, step=step)

    for sampler, variance, steps in (("ddim", "posterior", []), ("mean", "posterior", []), ("ancestral", "posterior", [2, 1])):
        drawn.clear()
        settings = RSCDSettings(sampler=sampler, variance=variance, fixed_steps=3)
        list(RSCD(no_noise_seen, script(), SCHEDULE, settings, noise=noise).stream([Tile(0, plain())]))
        assert drawn == steps


# Input that cannot be served


def knows_bright_tissue(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A denoiser that takes fine structure for noise, the more so the darker it is."""
    fine = x - torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return torch.clip(-x, 0, 1) * fine


def textured(level: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.rint(level * (1 + 0.2 * rng.standard_normal((2, 32, 32)))).clip(0, 65_535).astype(np.uint16)


def restored_at(counts: np.ndarray, exposure: float | None, **settings: Any) -> RestoredTile:
    chosen = RSCDSettings(sampler="ddim", exposure=exposure, **settings)
    (restored,) = RSCD(knows_bright_tissue, script(*[20.0, -1.0] * 9), SCHEDULE, chosen).stream([Tile(0, counts)])
    return restored


def test_a_dark_tile_is_restored_as_a_bright_one_at_a_smaller_scale() -> None:
    dark = textured(8_000)
    gain = exposure_gain(dark, 20_000)
    assert gain == pytest.approx(20_000 / 8_000, rel=0.05)
    bright = np.rint(dark * gain).astype(np.uint16)
    expected = restored_at(bright, None).counts / gain
    # Half a count of the bright tile's rounding, and half of the dark one's.
    assert np.abs(restored_at(dark, 20_000).counts - expected).max() <= 1
    assert np.abs(restored_at(dark, None).counts - expected).max() > 20


def test_a_tile_that_is_bright_enough_is_left_as_bright_as_it_is() -> None:
    tile = textured(24_000)
    assert exposure_gain(tile, 20_000) == 1
    assert np.array_equal(restored_at(tile, 20_000).counts, restored_at(tile, None).counts)


def test_empty_glass_is_brightened_no_further_than_three_times() -> None:
    assert exposure_gain(textured(300), 20_000) == LARGEST_EXPOSURE
    assert exposure_gain(np.zeros((2, 16, 16), dtype=np.uint16), 20_000) == LARGEST_EXPOSURE


def test_a_tile_that_is_left_alone_keeps_every_count_at_any_exposure() -> None:
    tile = np.arange(65_536, dtype=np.uint16).reshape(2, 128, 256) // 7
    restored = restored_at(tile, 33_333, skip_below=30)
    assert restored.stop_reason == "skipped"
    assert np.array_equal(restored.counts, tile)


def test_tiles_of_different_sizes_are_refused() -> None:
    rscd = RSCD(no_noise_seen, script(10), SCHEDULE)
    with pytest.raises(InputError, match="one size"):
        list(rscd.stream([Tile(0, plain(16)), Tile(1, plain(8))]))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="calibrator"):
        restore_one(RSCDSettings(), np.nan)
    with pytest.raises(InputError, match="denoiser"):
        restore_one(RSCDSettings(sampler="ddim", recalibrate=False), 5, denoiser=lambda x, t: x / 0)


@pytest.mark.parametrize("wrong", [{"profile": "fast"}, {"cap": 1000}, {"fixed_steps": 0}, {"batch_size": 0}, {"stride": 4}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RSCDSettings(**wrong)
