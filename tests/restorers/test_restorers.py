"""Restorers by name: what they do to arrays of tiles, and how they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from srh_clinic.bundles import load_bundle, save_bundle
from srh_clinic.errors import InputError
from srh_clinic.inference import choose_device
from srh_clinic.intensity import counts_to_model, model_to_counts
from srh_clinic.restorers import Restorer, Tile, create_restorer
from srh_clinic.restorers.classical import estimate_sigma
from srh_clinic.restorers.diffusion import DiffusionRestorer, _of_bundle
from srh_clinic.restorers.registry import KINDS
from srh_clinic.rscd.baselines import CCDF, RRD
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import RSCD
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.rscd.settings import CCDFSettings, RRDSettings, RSCDSettings

FILTERS = ("none", "median", "gaussian", "nlm", "wavelet")


def noisy_tiles(count: int = 3, size: int = 64, sigma: float = 0.06) -> tuple[np.ndarray, np.ndarray]:
    """Smooth clean tiles and the same with white noise, counts ``(count, 2, size, size)``."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((count, 2, size, size)), (0, 0, 5, 5), mode="wrap")
    clean = 0.2 * smooth / smooth.std()
    return model_to_counts(clean), model_to_counts(clean + sigma * rng.standard_normal(clean.shape))


# Filters


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_answers_as_a_restorer(name: str) -> None:
    _, noisy = noisy_tiles()
    given = noisy.copy()
    restorer = create_restorer(name)
    assert isinstance(restorer, Restorer)
    assert restorer.name == name
    result = restorer.restore(noisy)
    assert (result.counts.shape, result.counts.dtype) == (noisy.shape, np.uint16)
    assert result.stop_reason == ("filtered",) * 3
    assert result.flags == ((),) * 3
    assert result.t_pred.tolist() == [-1] * 3
    assert result.steps.tolist() == result.rounds.tolist() == result.evaluations.tolist() == [0] * 3
    np.testing.assert_array_equal(noisy, given)
    streamed = list(restorer.stream(Tile(i, tile) for i, tile in enumerate(noisy)))
    np.testing.assert_array_equal(np.stack([tile.counts for tile in streamed]), result.counts)


def test_none_leaves_tiles_alone() -> None:
    _, noisy = noisy_tiles()
    np.testing.assert_array_equal(create_restorer("none").restore(noisy).counts, noisy)


@pytest.mark.parametrize("size", [3, 5])
def test_median_takes_the_middle_of_its_window_in_each_channel(size: int) -> None:
    _, noisy = noisy_tiles(1)
    restored = create_restorer("median", size=size).restore(noisy).counts[0]
    window, half = noisy[0, 1, 20 : 20 + size, 30 : 30 + size], size // 2
    assert restored[1, 20 + half, 30 + half] == np.median(window)


def test_gaussian_spreads_a_point_over_its_own_channel_alone() -> None:
    point = np.zeros((1, 2, 33, 33), dtype=np.uint16)
    point[0, 0, 16, 16] = 60000
    restored = create_restorer("gaussian", sigma=2.0).restore(point).counts[0]
    # The continuous Gaussian's density at its centre; sampling at sigma 2 changes it by far less than a percent.
    assert restored[0, 16, 16] == pytest.approx(60000 / (2 * np.pi * 4), rel=0.01)
    assert restored[1].max() == 0


@pytest.mark.parametrize("name", ["nlm", "wavelet"])
def test_filters_that_measure_the_noise_remove_most_of_it(name: str) -> None:
    clean, noisy = noisy_tiles()
    errors = [np.abs(tiles.astype(float) - clean).mean() for tiles in (noisy, create_restorer(name).restore(noisy).counts)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("name", ["nlm", "wavelet"])
def test_filters_that_measure_the_noise_leave_a_constant_tile_alone(name: str) -> None:
    flat = np.full((1, 2, 32, 32), 7001, dtype=np.uint16)
    np.testing.assert_array_equal(create_restorer(name).restore(flat).counts, flat)


def test_the_wavelet_filter_measures_each_channel_by_itself() -> None:
    _, noisy = noisy_tiles(1)
    silent = noisy.copy()
    silent[0, 1] = 7001
    restored = create_restorer("wavelet").restore(silent).counts[0]
    np.testing.assert_array_equal(restored[1], silent[0, 1])
    np.testing.assert_array_equal(restored[0], create_restorer("wavelet").restore(noisy).counts[0, 0])


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_the_noise_estimate_is_right_on_white_noise(sigma: float) -> None:
    noise = sigma * np.random.default_rng(0).standard_normal((256, 256))
    # The median of 16,384 absolute details has a relative standard error of 0.9 %.
    assert estimate_sigma(noise) == pytest.approx(sigma, rel=0.03)
    half_glass = np.where(np.arange(256) < 128, noise, 0.0)
    assert estimate_sigma(half_glass) == pytest.approx(sigma, rel=0.05)
    assert estimate_sigma(np.ones((64, 64))) == 0


# RSCD with a bundle


def test_rscd_runs_from_a_bundle(tiny_bundle: Path) -> None:
    _, noisy = noisy_tiles(2, size=64)
    restorer = create_restorer("rscd", bundle=str(tiny_bundle), device="cpu", sampler="ancestral", precision="float32")
    assert isinstance(restorer, Restorer)
    assert restorer.settings == RSCDSettings(sampler="ancestral", precision="float32").model_dump()
    positions = [[0, 0], [0, 32]]
    result = restorer.restore(noisy, positions, seed=3)
    assert (result.counts.shape, result.counts.dtype) == (noisy.shape, np.uint16)
    assert result.stop_reason == ("completed",) * 2
    assert result.steps.tolist() == result.evaluations.tolist() == (result.t_pred + 1).tolist()
    again = restorer.restore(noisy, np.array(positions), seed=3)
    np.testing.assert_array_equal(result.counts, again.counts)


def test_with_the_nonparametric_estimator_a_bundle_needs_no_calibrator(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    save_bundle(tmp_path / "lone", {"denoiser": (bundle.config("denoiser"), bundle.load_tensors("denoiser"))})
    settings = {"bundle": str(tmp_path / "lone"), "device": "cpu"}
    _, noisy = noisy_tiles(2)
    restored = create_restorer("rscd", estimator="nonparametric", **settings).restore(noisy)
    images = torch.from_numpy(counts_to_model(noisy))
    assert restored.t_pred.tolist() == index_of_noise(images, create_schedule()).tolist()
    assert (restored.steps > 0).all()
    with pytest.raises(InputError, match="no calibrator"):
        create_restorer("rscd", **settings)


@pytest.mark.parametrize(("name", "diffusion"), [("ccdf", CCDF), ("rrd", RRD)])
def test_reverse_diffusions_run_from_a_bundles_denoiser_alone(
    name: str, diffusion: type, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    save_bundle(tmp_path / "lone", {"denoiser": (bundle.config("denoiser"), bundle.load_tensors("denoiser"))})
    _, noisy = noisy_tiles(3, size=48)
    few = {"t0": 4} if name == "ccdf" else {"cap": 4}
    restorer = create_restorer(name, bundle=str(tmp_path / "lone"), device="cpu", sampler="ancestral", batch_size=2, **few)
    assert isinstance(restorer, DiffusionRestorer)
    assert isinstance(restorer, Restorer)
    assert isinstance(restorer.diffusion, diffusion)
    assert restorer.settings["sampler"] == "ancestral"
    result = restorer.restore(noisy, seed=3)
    assert (result.counts.shape, result.counts.dtype) == (noisy.shape, np.uint16)
    assert result.steps.tolist() == result.evaluations.tolist()
    # Another batch changes float32 sums in the last place, which a few steps can carry over the middle between two counts.
    backwards = restorer.restore(noisy[::-1], seed=3).counts[::-1]
    assert np.abs(result.counts.astype(int) - backwards).max() <= 1
    assert (result.counts != restorer.restore(noisy, seed=4).counts).mean() > 0.5


def test_reverse_diffusions_serve_any_tile_size() -> None:
    """The denoiser takes multiples of 8 and sees no noise, so that the one step RRD takes here only scales the image."""
    _, noisy = noisy_tiles(2, size=61)
    settings = RRDSettings(low_pass="corrected", cap=0)  # noqa: S106
    rrd = DiffusionRestorer("rrd", RRD(constant_restorer().diffusion.denoiser, create_schedule(), settings), size_multiple=8)
    result = rrd.restore(noisy[:, :, :, :-1])
    gain = np.sqrt(create_schedule().alpha[0])
    expected = model_to_counts(counts_to_model(noisy[:, :, :, :-1]) / gain)
    assert np.abs(result.counts.astype(int) - expected).max() <= 1
    ccdf = CCDF(constant_restorer().diffusion.denoiser, create_schedule(), CCDFSettings(t0=3))
    assert DiffusionRestorer("ccdf", ccdf, size_multiple=8).restore(noisy).counts.shape == noisy.shape


def test_a_setting_against_what_a_bundle_states_is_no_damage_of_the_bundle() -> None:
    """As of an imported official bundle, which states how the released code runs."""
    metadata = {"rscd": {"profile": "official", "sampler": "ancestral"}}
    bundle: Any = SimpleNamespace(
        parts=("denoiser",), name="released", path=Path("released"), holder=lambda part: SimpleNamespace(metadata=metadata)
    )
    assert _of_bundle(bundle, RSCDSettings(batch_size=3)).sampler == "ancestral"
    with pytest.raises(InputError, match=r"evaluations, which has no effect .* for rscd as released states it"):
        _of_bundle(bundle, RSCDSettings(evaluations=3))
    metadata["rscd"]["sampler"] = "euler"
    with pytest.raises(InputError, match="an undamaged bundle"):
        _of_bundle(bundle, RSCDSettings())


def test_weights_that_do_not_fit_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    parts = {part: (bundle.config(part), bundle.load_tensors(part)) for part in ("denoiser", "calibrator")}
    parts["denoiser"] = (parts["denoiser"][0] | {"channels": [8, 8]}, parts["denoiser"][1])
    save_bundle(tmp_path / "wrong", parts)
    with pytest.raises(InputError, match="do not fit the denoiser"):
        create_restorer("rscd", bundle=str(tmp_path / "wrong"), device="cpu")


def constant_restorer(**settings: Any) -> DiffusionRestorer:
    """RSCD that sees no noise, so that it returns what it was given; its networks take multiples of 8."""

    def denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert x.shape[2] % 8 == 0
        assert x.shape[3] % 8 == 0
        return torch.zeros_like(x)

    rscd = RSCD(denoiser, lambda images: np.full(len(images), 34), create_schedule(), RSCDSettings(**settings))
    return DiffusionRestorer("rscd", rscd, size_multiple=8)


@pytest.mark.parametrize("size", [64, 61])
def test_any_tile_size_is_served(size: int) -> None:
    _, noisy = noisy_tiles(3, size=size)
    result = constant_restorer().restore(noisy[:, :, :, :-1])
    np.testing.assert_array_equal(result.counts, noisy[:, :, :, :-1])


def test_an_array_comes_back_in_its_own_order() -> None:
    """Also when tiles finish in another: here those of one batch that are predicted clean leave first."""
    _, noisy = noisy_tiles(9, size=16)
    restorer = constant_restorer(batch_size=2)
    brightness = noisy.mean(axis=(1, 2, 3))
    predicted = np.where(brightness > np.median(brightness), -1, 40)

    def calibrator(images: torch.Tensor) -> np.ndarray:
        means = (images.numpy().mean(axis=(1, 2, 3)) + 1) * 32768
        return predicted[np.abs(means[:, None] - brightness[None]).argmin(axis=1)]

    rscd = RSCD(restorer.diffusion.denoiser, calibrator, create_schedule(), restorer.diffusion.settings)
    result = DiffusionRestorer("rscd", rscd).restore(noisy)
    np.testing.assert_array_equal(result.counts, noisy)
    assert result.t_pred.tolist() == predicted.tolist()
    assert [reason == "clean" for reason in result.stop_reason] == (predicted == -1).tolist()


def test_an_empty_array_gives_an_empty_restoration() -> None:
    empty = np.empty((0, 2, 16, 16), dtype=np.uint16)
    for restorer in (create_restorer("median"), create_restorer("deep_image_prior"), constant_restorer()):
        assert restorer.restore(empty).counts.shape == empty.shape


# What is refused


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        (np.zeros((2, 8, 8), dtype=np.uint16), r"\(2, 8, 8\)"),
        (np.zeros((1, 3, 8, 8), dtype=np.uint16), r"\(1, 3, 8, 8\)"),
        (np.zeros((1, 2, 8, 8), dtype=np.float32), "float32"),
    ],
)
def test_arrays_that_are_not_tiles_of_counts_are_refused(counts: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match=found):
        create_restorer("none").restore(counts)


@pytest.mark.parametrize("positions", [[[0, 0]], [[0, 0], [-1, 0]], [[0.5, 0.0], [0.0, 0.0]]])
def test_positions_must_be_a_corner_for_each_tile(positions: list[list[float]]) -> None:
    with pytest.raises(InputError, match="positions"):
        create_restorer("none").restore(np.zeros((2, 2, 8, 8), dtype=np.uint16), positions)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sharpen", {}, "'sharpen'.* one of rscd, none, median, gaussian, nlm, wavelet, deep_image_prior, ccdf, rrd"),
        ("none", {"size": 3}, "'size' .*none at all"),
        ("median", {"width": 3}, "'width' .*one of its settings: size"),
        ("median", {"size": 4}, "size = 4 .*3 or 5"),
        ("gaussian", {"sigma": -1}, "sigma = -1 .*greater than 0"),
        ("wavelet", {"wavelet": "db3"}, "wavelet = 'db3' .*'db1', 'db2', 'db4', 'sym4' or 'sym8'"),
        ("ccdf", {"t0": 0}, "t0 = 0 .*greater than or equal to 1"),
        ("ccdf", {"sampler": "mean"}, "sampler = 'mean' .*'ancestral' or 'ddim'"),
        ("rrd", {"low_pass": "none"}, "low_pass = 'none' .*'official' or 'corrected'"),
        ("deep_image_prior", {"steps": 5}, "'steps' .*one of its settings: iterations, learning_rate"),
        ("deep_image_prior", {"device": "tpu9"}, "tpu9"),
        ("rscd", {"estimator": "wavelet"}, "'calibrator' or 'nonparametric'"),
        (
            "rscd",
            {"ddim_stride": 8},
            "ddim_stride, which has no effect with the sampler direct for the restorer",
        ),
        ("rscd", {"sampler": "euler"}, "sampler = 'euler' .*'direct', 'ddim', 'ancestral' or 'mean'"),
        ("rscd", {"profile": "fast"}, "'paper-text', 'paper-algorithm1' or 'official'"),
        ("rscd", {"stride": 3}, "'stride' .*one of its settings: profile, estimator, sampler, .*batch_size"),
        ("rscd", {"bundle": "no-such-bundle"}, "no-such-bundle"),
        ("rscd", {"seed": 3}, "'seed'"),
    ],
)
def test_unknown_names_and_settings_are_refused_with_what_there_is(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_restorer(name, **settings)


@pytest.mark.parametrize("name", KINDS)
def test_only_what_takes_networks_from_a_bundle_asks_for_one(name: str) -> None:
    if KINDS[name].parts:
        with pytest.raises(InputError, match="no-such-bundle"):
            create_restorer(name, bundle="no-such-bundle", device="cpu")
    else:
        assert create_restorer(name, bundle="no-such-bundle", device="cpu").name == name


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for missing in ("tpu9", "cuda:99"):
        with pytest.raises(InputError, match=missing):
            choose_device(missing)
