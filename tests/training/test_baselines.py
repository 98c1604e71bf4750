"""The learned baselines' trainings: they learn, resume, and stop rather than diverge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.intensity import model_to_counts
from srh_clinic.restorers import create_restorer
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.training import BASELINES, read_settings, train
from srh_clinic.training.calibrator import calibration_measures
from srh_clinic.training.cyclegan import CycleGANSettings, CycleGANTask, Health, History
from srh_clinic.training.loop import Diverged, Game, LoopSettings, Task, fit
from srh_clinic.training.pool import phantom_pairs
from srh_clinic.training.regression import Noise2NoiseTask, SyntheticNoiseTask, add_noise, draw_shot_share, hide

CPU = torch.device("cpu")
COMMON = {"holdout": 2, "validation_size": 16, "validation_phantoms": 1}
OVERLAP = {"channels": [8, 16], "down": [1, 1], "up": [1], "condition": 8}
REGRESSION = {"network": {"architecture": "regression-overlap-unet", **OVERLAP}, "batch_size": 2, "crop_sizes": [16], **COMMON}
TINY = {
    "synthetic_noise": REGRESSION,
    "noise2noise": REGRESSION,
    "noise2void": {
        "network": {"architecture": "regression-overlap-unet", "residual": False, **OVERLAP},
        "batch_size": 2,
        "crop_size": 16,
        **COMMON,
    },
    "cyclegan": {
        "network": {"architecture": "overlap-resnet-generator", "width": 4, "blocks": 1},
        "discriminator_width": 4,
        "crop_size": 32,
        "history": 3,
        **COMMON,
    },
    "conditional_diffusion": {
        "network": {"architecture": "conditional-overlap-unet", **OVERLAP},
        "batch_size": 2,
        "crop_sizes": [16],
        "validation_evaluations": 2,
        **COMMON,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten smooth tiles in ``pool``, and ten with noise in ``degraded``."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48] / 48
    for name, sigma in (("pool", 0.0), ("degraded", 0.15)):
        waves_y, waves_x = rng.uniform(-2, 2, (2, 10, 2, 1, 1))
        tiles = 0.5 * np.sin(2 * np.pi * (waves_y * y + waves_x * x)) + sigma * rng.standard_normal((10, 2, 48, 48))
        (folder / name).mkdir()
        np.save(folder / name / "pool-0.npy", model_to_counts(tiles))
    return folder


def source(task, data):
    return str({"cyclegan": data, "noise2void": data / "degraded"}.get(task, data / "pool"))


def run(task, data, out, **changes):
    settings = {"steps": 6, "warmup_steps": 2, "log_every": 2, "ema_decay": 0.9, **TINY[task], **changes}
    return train(task, source(task, data), None, out, device="cpu", **settings)


def checkpoint(out, task):
    return torch.load(out / "training" / task / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize("task", BASELINES)
def test_a_resumed_run_has_the_state_of_an_uncut_one_bit_for_bit(task, data, tmp_path):
    """Of all that outlives a step: CycleGAN's other networks, both optimisers, the history and the health."""

    def cut(line):
        if line["step"] == 4:
            raise KeyboardInterrupt

    run(task, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(task, data, tmp_path / "cut", checkpoint_seconds=1e-9, report=cut)
    assert checkpoint(tmp_path / "cut", task)["step"] == 3
    run(task, data, tmp_path / "cut")
    whole, resumed = (checkpoint(tmp_path / name, task) for name in ("whole", "cut"))
    assert whole["step"] == resumed["step"] == 6
    for kind in ("network", "companions", "average"):
        assert whole[kind].keys() == resumed[kind].keys()
        assert all(torch.equal(whole[kind][key], resumed[kind][key]) for key in whole[kind])
    first, second = ([state["optimiser"], *state["other_optimisers"]] for state in (whole, resumed))
    assert len(first) == len(second) == (2 if task == "cyclegan" else 1)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one["state"][key]["exp_avg"], other["state"][key]["exp_avg"]) for key in one["state"])


@pytest.mark.parametrize("task", BASELINES)
def test_the_bundle_restores_with_what_was_trained(task, data, tmp_path):
    run(task, data, tmp_path / "b", steps=1)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.own_parts == (task,)
    assert bundle.metadata["extends"] == "phantom-demo"
    assert {"denoiser", "calibrator", "classifier", task} == set(bundle.parts)
    counts = np.load(data / "degraded" / "pool-0.npy")[:1, :, :30, :30]
    settings = {"steps": 2} if task == "conditional_diffusion" else {}
    restored = create_restorer(task, bundle=str(tmp_path / "b"), device="cpu", **settings).restore(counts).counts
    assert (restored.shape, restored.dtype) == (counts.shape, np.uint16)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("synthetic_noise", {"batch_size": 8}),
        ("noise2void", {"batch_size": 8, "masked_share": 0.2}),  # of crops of 16 px
        ("cyclegan", {}),
        ("conditional_diffusion", {"batch_size": 8}),
    ],
)
def test_the_loss_falls(task, changes, data, tmp_path):
    losses = []
    rates = {"steps": 60, "learning_rate": 3e-3, "log_every": 20}
    run(task, data, tmp_path, **rates, **changes, report=lambda line: losses.append(line.get("loss")))
    first, *_, last = [loss for loss in losses if loss is not None]
    assert last < 0.9 * first


def test_noise2noise_learns_the_clean_image_from_noise_alone(data, tmp_path):
    """Its loss hardly falls, because the second draw's noise stays in it: what tells is the distance to the clean tiles."""
    measures = {}
    changes = {"steps": 60, "learning_rate": 3e-3, "batch_size": 8}
    run("noise2noise", data, tmp_path, **changes, report=lambda line: measures.update(line.get("validation", {})))
    task = Noise2NoiseTask(read_settings("noise2noise", **REGRESSION), source("noise2noise", data), tmp_path, CPU)
    with torch.inference_mode():
        untrained = task.validate(task.create())["psnr_t190"]
    assert measures["psnr_t190"] > untrained + 0.5


# Divergence


@pytest.mark.parametrize("task", ["synthetic_noise", "cyclegan"])
def test_a_loss_that_is_not_finite_stops_the_training_before_the_weights_are(task, data, tmp_path):
    with pytest.raises(InputError, match=rf"at step \d+ of {task}; needed a lower learning_rate, in a new folder"):
        run(task, data, tmp_path, steps=50, learning_rate=1e18, clip_norm=1e30, checkpoint_seconds=1e-9)
    assert all(bool(torch.isfinite(value).all()) for value in checkpoint(tmp_path, task)["network"].values())
    assert not (tmp_path / "configs").exists()


def test_a_gradient_that_is_not_finite_stops_the_training_too(tmp_path):
    class Steep:
        name = "steep"

        def create(self):
            return nn.Linear(1, 1)

        def loss(self, network, rng):
            return torch.sqrt(0.0 * network.weight.sum())  # 0, with a slope of 0 times infinity

        def validate(self, network):
            return {}

        def describe(self, network):
            return {}, {}

    assert isinstance(Steep(), Task)
    with pytest.raises(InputError, match="gradient of nan at step 0 of steep"):
        fit(Steep(), LoopSettings(steps=1, learning_rate=1.0), tmp_path, CPU)


@pytest.mark.parametrize(("cycle", "contrast", "words"), [(0.9, 1.0, "largest_cycle"), (0.1, 0.0, "least_contrast")])
def test_a_collapsed_generator_is_told_by_its_cycle_and_its_contrast(cycle, contrast, words):
    settings = CycleGANSettings(steps=1, learning_rate=1.0)

    def watch(steps, cycle, contrast):
        health = Health()
        for _ in range(steps):
            health.watch(torch.tensor(cycle), torch.tensor(contrast), settings)

    watch(50, cycle, contrast)  # some bad images are no collapse
    with pytest.raises(Diverged, match=words):
        watch(1000, cycle, contrast)
    watch(1000, 0.1, 0.8)


def test_a_collapse_stops_the_training_in_a_sentence(data, tmp_path):
    with pytest.raises(InputError, match=r"collapsed generator .* at step 0 of cyclegan; needed a lower"):
        run("cyclegan", data, tmp_path, largest_cycle=1e-9)


# CycleGAN's parts


def test_each_turn_moves_its_own_networks_alone(data, tmp_path):
    task = CycleGANTask(read_settings("cyclegan", **TINY["cyclegan"]), str(data), tmp_path, CPU)
    assert isinstance(task, Game)
    network, companions = task.create(), task.create_companions()
    generators, discriminators = task.turns(network, companions)
    generators.loss(np.random.default_rng(0)).backward()
    assert all(parameter.grad is not None for parameter in generators.parameters)
    assert all(parameter.grad is None for parameter in discriminators.parameters)
    for parameter in generators.parameters:
        parameter.grad = None
    discriminators.loss(np.random.default_rng(0)).backward()
    assert all(parameter.grad is None for parameter in generators.parameters)
    assert all(parameter.grad is not None for parameter in discriminators.parameters)
    owned = {id(parameter) for turn in (generators, discriminators) for parameter in turn.parameters}
    assert owned == {id(parameter) for module in (network, companions) for parameter in module.parameters()}


def test_the_history_shows_earlier_images_half_of_the_time_once_it_is_full():
    history, rng = History(10, 4), np.random.default_rng(0)
    images = [torch.full((1, 2, 4, 4), float(k)) for k in range(1000)]
    shown = [float(history.exchange(image, rng)[0, 0, 0, 0]) for image in images]
    assert shown[:10] == list(range(10))
    earlier = [k for k, value in enumerate(shown) if value < k]
    assert 400 < len(earlier) < 600  # 495 expected, four standard deviations of 16
    assert len({shown[k] for k in earlier}) == len(earlier)  # an image leaves the history when it is shown again


# Noise


def test_noise_of_every_share_has_the_variance_asked_for():
    torch.manual_seed(0)
    x0 = torch.rand(4, 2, 128, 128) * 1.6 - 0.9
    for shot in (0.0, 0.3, 1.0):
        noise = add_noise(x0, torch.full((4,), 0.2), shot) - x0
        assert float(noise.mean()) == pytest.approx(0.0, abs=0.004)  # 131,072 draws: a standard error of 0.0006
        assert float(noise.var()) == pytest.approx(0.04, rel=0.03)
    bright = x0 > 0.3
    shot_noise = add_noise(x0, torch.full((4,), 0.2), 1.0) - x0
    assert shot_noise[bright].var() > 1.5 * shot_noise[~bright].var()


def test_the_mixture_is_gaussian_half_of_the_time():
    rng = np.random.default_rng(0)
    shares = np.array([draw_shot_share("mixture", rng) for _ in range(400)])
    assert 0.4 < (shares == 0).mean() < 0.6
    assert {draw_shot_share("gaussian", rng) for _ in range(20)} == {0.0}
    assert min(draw_shot_share("poisson-gaussian", rng) for _ in range(20)) > 0


def test_noise2noise_never_sees_the_clean_image(data, tmp_path):
    settings = read_settings("noise2noise", **REGRESSION)
    x0, sigma = torch.zeros(2, 2, 64, 64), torch.tensor([0.1, 0.3])
    clean = SyntheticNoiseTask(settings, str(data / "pool"), tmp_path, CPU).target(x0, sigma, 0.0)
    assert torch.equal(clean, x0)
    noisy = Noise2NoiseTask(settings, str(data / "pool"), tmp_path, CPU).target(x0, sigma, 0.0)
    # 8,192 draws each: a standard error of 0.8 %.
    assert [float(one.std()) for one in noisy] == pytest.approx([0.1, 0.3], rel=0.04)


def test_a_hidden_pixel_shows_another_pixel_of_its_window():
    torch.manual_seed(0)
    x = torch.arange(2 * 2 * 20 * 20, dtype=torch.float32).reshape(2, 2, 20, 20)
    shown, hidden = hide(x, 0.3, 5)
    assert 0.25 < float(hidden.float().mean()) < 0.35
    assert torch.equal(shown[~hidden], x[~hidden])
    assert (shown[hidden] != x[hidden]).all()
    difference = (shown - x)[hidden].long()
    rows, columns = (difference + 10).div(20, rounding_mode="floor"), (difference + 10) % 20 - 10
    assert (rows.abs() <= 4).all()
    assert (columns.abs() <= 4).all()  # at the border the window moves in


# Configurations


@pytest.mark.parametrize("task", BASELINES)
def test_the_shipped_configurations_are_valid(task):
    assert read_settings(task).steps >= 1000


def test_a_config_of_the_package_is_found_by_its_name(tmp_path, monkeypatch):
    settings = read_settings("denoiser", "denoiser-linear")
    assert settings.schedule == "linear"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "denoiser-linear").write_text("steps: 3\nlearning_rate: 1.0\n")
    assert read_settings("denoiser", "denoiser-linear").steps == 3  # a file of that name comes first
    with pytest.raises(InputError, match=r"no-such.*calibrator-unaugmented, .*denoiser-linear"):
        read_settings("denoiser", "no-such")


@pytest.mark.parametrize(
    ("content", "told"), [("?", "no setting 'steps'"), ("1: 2", "no setting"), ("? [1]\n: 2", "unhashable")]
)
def test_a_config_whose_keys_are_no_names_is_told_on_one_line(content, told, tmp_path):
    (tmp_path / "keys.yaml").write_text(content)
    with pytest.raises(InputError, match=rf"^\S+keys\.yaml: found .*{told}.*; needed .*\.$"):
        read_settings("denoiser", tmp_path / "keys.yaml")


def test_the_ablations_change_what_they_are_named_for_and_nothing_else():
    def changed(task, config, whole=None):
        ours, theirs = read_settings(task, whole).model_dump(), read_settings(task, config).model_dump()
        return {key: theirs[key] for key in ours if ours[key] != theirs[key]}

    assert changed("calibrator", "calibrator-unaugmented") == {"uniform_share": 1.0}
    assert changed("calibrator", "calibrator-linear").keys() == {"schedule", "t_max", "t_small", "validation_steps"}
    linear = changed("denoiser", "denoiser-linear", "denoiser-structured")
    assert linear.keys() == {"schedule", "t_max", "validation_steps"}


def test_the_second_part_of_the_denoisers_training_changes_its_noise_and_its_length():
    first, second = read_settings("denoiser").model_dump(), read_settings("denoiser", "denoiser-structured").model_dump()
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"structured_share", "structured_kinds", "steps", "learning_rate"}
    assert first["structured_share"] == 0  # the paper's white noise


def test_the_linear_configurations_learn_the_noises_of_the_cosine_ones():
    cosine, linear = create_schedule("cosine").sigma, create_schedule("linear").sigma

    def nearest(index):
        return int(np.abs(linear - cosine[index]).argmin())

    denoiser, calibrator = read_settings("denoiser", "denoiser-linear"), read_settings("calibrator", "calibrator-linear")
    assert denoiser.t_max - 1 == nearest(read_settings("denoiser").t_max - 1)
    assert denoiser.validation_steps == tuple(nearest(t) for t in read_settings("denoiser").validation_steps)
    assert calibrator.t_max == nearest(read_settings("calibrator").t_max)
    assert calibrator.t_small == nearest(read_settings("calibrator").t_small)
    assert calibrator.validation_steps == tuple(nearest(t) for t in read_settings("calibrator").validation_steps)
    assert nearest(190) == 94  # the cap that the configuration's comment names


def test_a_calibrator_is_measured_at_the_steps_asked_for():
    measures = calibration_measures(lambda images: torch.zeros(len(images)), torch.zeros(2, 2, 64, 64), "linear", (3, 40))
    assert {name for name in measures if name.startswith("mae_t")} == {"mae_t3", "mae_t40"}
    assert measures["mae_t40"] == 40


# Data


def test_degraded_phantoms_are_simulated_where_there_are_no_data(data, tmp_path):
    settings = {"steps": 1, **TINY["cyclegan"], "holdout": 1, "phantoms": 2, "degraded_phantoms": 2}
    train("cyclegan", "phantom", None, tmp_path / "b", device="cpu", **settings)
    assert [path.name for path in (tmp_path / "b/training/pool").iterdir()] == ["pool-0000000.npy"]
    assert [path.name for path in (tmp_path / "b/training/degraded").iterdir()] == ["pool-4000000.npy"]


def test_phantoms_are_measured_against_their_truth():
    pairs = phantom_pairs(2, 32, CPU)
    assert pairs.degraded.shape == pairs.clean.shape == (2, 2, 32, 32)
    off = pairs.measures((pairs.clean + 0.02).clamp(-1, 1))
    assert off["psnr_phantom"] == pytest.approx(40.0, abs=0.1)  # an error of 0.01 in unit intensity
    assert off["psnr_phantom_degraded"] < 40


def test_a_training_can_extend_any_bundle_and_says_at_once_when_it_cannot(data, tmp_path):
    run("synthetic_noise", data, tmp_path / "first", steps=1)
    run("noise2noise", data, tmp_path / "second", steps=1, extends=tmp_path / "first")
    second = load_bundle(tmp_path / "second")
    assert second.metadata["extends"] == "../first"
    assert {"synthetic_noise", "noise2noise", "classifier"} <= set(second.parts)
    with pytest.raises(InputError, match="circle"):
        run("noise2noise", data, tmp_path / "first", steps=1, extends=tmp_path / "second")
    with pytest.raises(InputError, match="no bundle"):
        run("noise2noise", data, tmp_path / "third", steps=1, extends="no-such")
    assert not (tmp_path / "third").exists()


def test_the_log_names_each_turns_loss(data, tmp_path):
    run("cyclegan", data, tmp_path, steps=2)
    lines = [json.loads(line) for line in (tmp_path / "training/cyclegan/log.jsonl").read_text().splitlines()]
    assert {"loss", "discriminator_loss"} <= lines[0].keys()
    assert {"moved", "psnr_phantom", "psnr_phantom_degraded"} == lines[-1]["validation"].keys()
