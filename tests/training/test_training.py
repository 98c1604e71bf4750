import json
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from srh_clinic.bundles import load_bundle
from srh_clinic.classifiers import load_classifier
from srh_clinic.errors import InputError
from srh_clinic.metrics import channel_coherence
from srh_clinic.metrics.lattice import lattices
from srh_clinic.rscd.networks import create_denoiser
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.training import read_settings, score, train
from srh_clinic.training.augmentation import blur, grain, unlike_channels
from srh_clinic.training.calibrator import CalibratorTask, calibration_measures
from srh_clinic.training.denoiser import lattice_error, log_error
from srh_clinic.training.loop import LoopSettings, has_bf16, learning_rate
from srh_clinic.training.noise import instrument_noise, mixed_with_structure, unit_noise
from srh_clinic.training.pool import TilePool, augment
from srh_clinic.training.together import train_rscd

CPU = torch.device("cpu")
TINY = {
    "denoiser": {
        "network": {"architecture": "compact-unet", "channels": [8, 16], "norm_num_groups": 4},
        "batch_size": 2,
        "crop_sizes": [16],
        "holdout": 2,
        "validation_size": 16,
    },
    "calibrator": {
        "network": {"architecture": "step-regressor", "backbone": "test_resnet", "stage": 1, "energy_filters": 6},
        "batch_size": 4,
        "crop_sizes": [32],
        "holdout": 2,
    },
    "classifier": {"backbone": "test_resnet", "options": {"drop_rate": 0.2}, "batch_size": 4},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten tiles in two pool files, and thirty patches whose class is their brightness."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 50000, (10, 2, 48, 48)).astype(np.uint16)
    np.save(folder / "pool-0.npy", tiles[:6])
    np.save(folder / "pool-1.npy", tiles[6:])
    labels = np.arange(30) % 3
    patches = rng.integers(0, 3000, (30, 2, 48, 48)) + 15000 * labels[:, None, None, None]
    np.savez(folder / "class-0.npz", counts=patches.astype(np.uint16), labels=labels)
    return folder


def run(task, data, out, **changes):
    settings = {"steps": 8, "warmup_steps": 2, "log_every": 2, "ema_decay": 0.9, **TINY[task], **changes}
    return train(task, str(data), None, out, device="cpu", **settings)


def cut_after(step):
    """A report that ends the run, as a power cut would, when the log reaches ``step``."""

    def report(line):
        if line["step"] == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("task", ["denoiser", "calibrator", "classifier"])
def test_a_resumed_run_has_the_weights_of_an_uncut_one_bit_for_bit(task, data, tmp_path):
    run(task, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(task, data, tmp_path / "cut", checkpoint_seconds=1e-9, report=cut_after(6))
    assert torch.load(tmp_path / "cut/training" / task / "checkpoint.pt", weights_only=True)["step"] == 5
    run(task, data, tmp_path / "cut")
    whole, resumed = (
        torch.load(tmp_path / name / "training" / task / "checkpoint.pt", weights_only=True) for name in ("whole", "cut")
    )
    assert whole["step"] == resumed["step"] == 8
    for kind in ("network", "average"):
        assert whole[kind].keys() == resumed[kind].keys()
        assert all(torch.equal(whole[kind][key], resumed[kind][key]) for key in whole[kind])
    assert load_bundle(tmp_path / "whole").weights_sha256 == load_bundle(tmp_path / "cut").weights_sha256
    steps = [json.loads(line) for line in (tmp_path / "cut/training" / task / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [2, 4, 6, 8]
    assert math.isfinite(next(line for line in steps if "loss" in line)["loss"])


EVERYTHING = {
    "network": {
        "architecture": "overlap-unet",
        "channels": [4, 8],
        "down": [1, 1],
        "up": [1],
        "condition": 4,
    },
    "loss": "psnr",
    "lattice_weight": 0.01,
    "log_sigma_share": 0.5,
    "step_error": 0.1,
    "instrument_share": 0.5,
    "clipped_share": 0.5,
    "unlike_share": 0.5,
    "grain_share": 0.5,
    "shrunk_share": 0.5,
    "crop_sizes": [16, 20],
    "even_batches": True,
    "bf16": True,
}
"""All that the denoiser's training can do beside the paper's."""


def test_a_run_with_everything_resumes_bit_for_bit_too(data, tmp_path):
    run("denoiser", data, tmp_path / "whole", **EVERYTHING)
    run("denoiser", data, tmp_path / "cut", **EVERYTHING, seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        run("denoiser", data, tmp_path / "cut", **EVERYTHING, checkpoint_seconds=1e-9, report=cut_after(4))
    assert run("denoiser", data, tmp_path / "cut", **EVERYTHING) == 8
    assert load_bundle(tmp_path / "whole").weights_sha256 == load_bundle(tmp_path / "cut").weights_sha256


def test_bf16_is_for_cards_and_for_processors_that_have_it(monkeypatch):
    assert has_bf16(torch.device("cuda"))
    assert not has_bf16(torch.device("meta"))
    for capabilities, faster in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert has_bf16(CPU) is faster
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16(CPU)


def test_instrument_noise_has_unit_variance_and_runs_along_the_rows():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x0 = 2 * torch.rand(16, 2, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3) - 1
    batches = torch.cat([instrument_noise(x0, rng) for _ in range(8)])
    # Normalised image by image, but for the spikes that a third of the batches get.
    assert batches.square().mean().item() == pytest.approx(1, abs=0.05)
    assert batches.mean().item() == pytest.approx(0, abs=0.02)
    along = (batches[..., 1:] * batches[..., :-1]).mean().item()
    across = (batches[..., 1:, :] * batches[..., :-1, :]).mean().item()
    assert along > 0.1
    assert abs(across) < 0.02
    bright = x0 > 0.5
    assert batches.view(8, *x0.shape)[:, bright].var() > 1.3 * batches.view(8, *x0.shape)[:, x0 < -0.5].var()


def test_unlike_channels_take_their_likeness_and_leave_ch2():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    one = blur(torch.rand(64, 1, 32, 32), 0.7)
    alike = torch.cat([one, 0.8 * one + 0.1], dim=1)
    assert torch.equal(unlike_channels(alike, rng, 0.0), alike)
    unlike = unlike_channels(alike, rng, 1.0)
    coherence = np.array([channel_coherence(image, 0.1) for image in unlike.numpy()])
    assert np.median(coherence) < 0.9
    assert coherence.min() < 0.4
    kept = [
        torch.equal(image[0], before[0]) or torch.equal(image[1], before[0])
        for image, before in zip(unlike, alike, strict=True)
    ]
    assert all(kept)  # swapped with CH3 in half of the images
    assert ((unlike >= 0) & (unlike <= 1)).all()


def test_grain_is_as_strong_as_it_says_and_in_its_share_of_the_images():
    torch.manual_seed(0)
    even = torch.full((400, 2, 32, 32), 0.5)
    strengths = grain(even, np.random.default_rng(0), 0.5).std(dim=(1, 2, 3))
    assert (strengths > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert 0.0008 < strengths[strengths > 0].min() < 0.002
    assert 0.01 < strengths.max() < 0.02


def test_the_log_error_weighs_images_alike_whatever_their_noise():
    torch.manual_seed(0)
    error = torch.randn(64, 2, 16, 16)
    assert log_error(error).item() == pytest.approx(math.log(1.004), abs=0.02)  # of independent channels the difference too
    tenth = torch.cat([error[:32], 0.1 * error[32:]])
    assert log_error(tenth).item() == pytest.approx((math.log(1.004) + math.log(0.014)) / 2, abs=0.02)


def test_the_lattice_error_is_six_of_white_errors_and_hears_what_they_share():
    torch.manual_seed(0)
    white = torch.stack([lattice_error(torch.randn(16, 2, 32, 32)) for _ in range(200)])
    assert white.mean().item() == pytest.approx(6, abs=0.6)  # three patterns in two channels, each a chi-squared of one degree
    pattern = 0.05 * torch.from_numpy(lattices(32, 32)[0]).float()
    assert lattice_error(torch.randn(16, 2, 32, 32) + pattern).item() > 60


@pytest.mark.parametrize(
    ("task", "files"),
    [
        ("denoiser", ["pool-0000000.npy"]),
        ("classifier", ["class-0000000.npz", "class-8000000.npz"]),  # what it is validated on has seeds of its own
    ],
)
def test_phantoms_are_simulated_where_there_are_no_data(task, files, tmp_path):
    changes = {"holdout": 1} if task == "denoiser" else {"batch_size": 2}
    assert run(task, "phantom", tmp_path / "b", steps=1, phantoms=3, **changes) == 1
    assert sorted(path.name for path in (tmp_path / "b/training/pool").iterdir()) == files


def test_three_trainings_fill_one_bundle(data, tmp_path):
    for task in ("denoiser", "calibrator", "classifier"):
        run(task, data, tmp_path / "b", steps=2)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.parts == ("denoiser", "calibrator", "classifier")
    create_denoiser(bundle.config("denoiser")).load_state_dict(bundle.load_tensors("denoiser"))
    assert bundle.metadata["patch"] == 48
    assert load_classifier(bundle).predict_proba(np.zeros((1, 2, 48, 48), np.uint16)).sum() == pytest.approx(1.0)


def test_a_run_out_of_time_leaves_a_bundle_and_a_checkpoint(data, tmp_path):
    assert run("denoiser", data, tmp_path / "b", seconds=0.0) == 0
    assert (tmp_path / "b/training/denoiser/loss.png").read_bytes().startswith(b"\x89PNG")
    assert load_bundle(tmp_path / "b").parts == ("denoiser",)
    assert run("denoiser", data, tmp_path / "b") == 8


def test_a_run_that_is_killed_leaves_the_best_weights_so_far(data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run("denoiser", data, tmp_path / "b", validate_seconds=1e-9, report=cut_after(6))
    left = load_bundle(tmp_path / "b").weights_sha256
    lines = [json.loads(line) for line in (tmp_path / "b/training/denoiser/log.jsonl").read_text().splitlines()]
    scores = [score("denoiser", line["validation"]) for line in lines if "validation" in line]
    assert len(scores) == 5
    assert run("denoiser", data, tmp_path / "b") == 8
    assert load_bundle(tmp_path / "b").weights_sha256 != left
    assert score("calibrator", {"mae": 2.0}) > score("calibrator", {"mae": 3.0})


def test_one_command_trains_both_networks_in_the_time_it_is_given(data, tmp_path):
    changes = {
        "denoiser": TINY["denoiser"] | EVERYTHING | {"channels_last": False},
        "calibrator": TINY["calibrator"] | {"steps": 3},  # those of the second call, where the first has no time for it
    }
    said: list[str] = []

    def note(line):
        said.append(line.get("note", ""))

    done = train_rscd(str(data), tmp_path / "b", seconds=1.5, device="cpu", report=note, **changes)
    assert set(load_bundle(tmp_path / "b").parts) == set(done) >= {"denoiser"}  # a busy machine may leave no time for more
    for task, steps in done.items():
        planned = json.loads((tmp_path / "b/training" / task / "plan.json").read_text())["steps"]
        assert 0 <= steps <= planned  # a busy machine may do none after the trial
        assert any(one.startswith(f"{task}: {planned} steps are planned, as many as fit into ") for one in said)
    # The same command goes on with the same plan, and without a time to its end.
    said.clear()
    again = train_rscd(str(data), tmp_path / "b", device="cpu", report=note, **changes)
    assert all(again[task] == json.loads((tmp_path / "b/training" / task / "plan.json").read_text())["steps"] for task in done)
    assert load_bundle(tmp_path / "b").parts == ("denoiser", "calibrator")
    assert any(
        one.startswith(f"denoiser: an earlier call in this folder has planned {again['denoiser']} steps;") for one in said
    )


@pytest.mark.parametrize("whole", [False, True])
def test_one_command_without_time_left_plans_nothing_for_ever(whole, data, tmp_path, monkeypatch):
    """As where the simulation takes all of it: a plan of one step would be kept to by every later call."""
    monkeypatch.setattr("srh_clinic.simulation.training_pool", lambda out, count, seconds: time.sleep(0.02) or whole)
    said: list[str] = []
    changes = {task: TINY[task] for task in ("denoiser", "calibrator")}

    def report(line):
        said.append(line["note"])

    assert train_rscd("phantom", tmp_path / "b", seconds=0.01, device="cpu", report=report, **changes) == {}
    assert not (tmp_path / "b").exists()
    assert said[-1] == (
        "denoiser: no time is left for it; the same call goes on"
        if whole
        else "time is up before all 4000 phantoms are simulated; the same call goes on"
    )


def test_one_command_without_a_time_runs_the_configurations(data, tmp_path):
    changes = {task: TINY[task] | {"steps": 3, "warmup_steps": 1} for task in ("denoiser", "calibrator")}
    changes["denoiser"] |= EVERYTHING
    assert train_rscd(str(data), tmp_path / "b", device="cpu", **changes) == {"denoiser": 3, "calibrator": 3}


def test_a_run_can_begin_from_a_bundle(data, tmp_path):
    """At a vanishing learning rate the weights stay those of the bundle."""
    run("denoiser", data, tmp_path / "first")
    run("denoiser", data, tmp_path / "second", start_from=tmp_path / "first", learning_rate=1e-30, weight_decay=0.0, steps=2)
    first, second = (load_bundle(tmp_path / name).load_tensors("denoiser") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_weights_of_another_network_are_refused_in_a_sentence(data, tmp_path):
    with pytest.raises(InputError, match="weights to begin from that do not fit the denoiser of this configuration") as caught:
        run("denoiser", data, tmp_path / "second", start_from="phantom-demo")
    assert "\n" not in str(caught.value)


def test_a_bundle_to_begin_from_that_is_not_there_is_told_before_anything_is_simulated(tmp_path):
    with pytest.raises(InputError, match="no bundle"):
        run("denoiser", "phantom", tmp_path / "b", start_from=tmp_path / "nowhere", phantoms=3, holdout=1)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_settings_is_refused(data, tmp_path):
    run("denoiser", data, tmp_path / "b", steps=2)
    with pytest.raises(InputError, match="learning_rate"):
        run("denoiser", data, tmp_path / "b", steps=2, learning_rate=0.5)
    run("denoiser", data, tmp_path / "b", steps=2, log_every=1)  # the pace of logging may change


def test_the_classifier_learns_what_brightness_tells(data, tmp_path):
    run("classifier", data, tmp_path / "b", steps=60, learning_rate=3e-3, blur=0.0, log_gain=0.0, options={})
    with np.load(data / "class-0.npz") as content:
        predicted = load_classifier(load_bundle(tmp_path / "b")).predict_proba(content["counts"]).argmax(axis=1)
        assert (predicted == content["labels"]).mean() > 0.9


def test_the_learning_rate_rises_then_falls_as_a_function_of_the_step_alone():
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup_steps=10, final_rate=0.1)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert learning_rate(settings, 100) == pytest.approx(0.1)
    linear = settings.model_copy(update={"decay": "linear"})
    assert learning_rate(linear, 55) == pytest.approx(0.55)
    cooldown = settings.model_copy(update={"decay": "cooldown", "cooldown_share": 0.2})
    assert {learning_rate(cooldown, step) for step in range(10, 81)} == {1.0}
    assert learning_rate(cooldown, 90) == pytest.approx(0.55)
    assert learning_rate(cooldown, 100) == pytest.approx(0.1)


def test_crops_are_the_tiles_of_all_files_and_the_last_are_held_out(data):
    pool = TilePool(data, CPU, holdout=3)
    tiles = np.concatenate([np.load(data / f"pool-{k}.npy") for k in range(2)]) / np.float32(65536)
    crops = pool.crops(np.array([0, 6, 9]), [1, 2, 3], [4, 5, 6], 8)
    expected = np.stack([tiles[0, :, 1:9, 4:12], tiles[6, :, 2:10, 5:13], tiles[9, :, 3:11, 6:14]])
    assert np.array_equal(crops.numpy(), expected)
    assert np.array_equal(pool.held_out(48).numpy(), tiles[7:])
    seen = pool.random_crops(np.random.default_rng(0), 200, 48).numpy()
    assert not any(np.array_equal(crop, tile) for crop in seen for tile in tiles[7:])


def test_a_pool_on_a_device_gives_the_crops_of_the_mapped_one(data):
    mapped, resident = TilePool(data, CPU, holdout=1), TilePool(data, CPU, holdout=1)
    arrays = [torch.from_numpy(np.load(data / f"pool-{k}.npy").view(np.int16)) for k in range(2)]
    resident._resident = torch.cat(arrays)
    where = (np.array([5, 6, 2]), np.array([0, 3, 40]), np.array([7, 0, 40]))
    assert torch.equal(mapped.crops(*where, 8), resident.crops(*where, 8))


def test_augmented_images_stay_within_unit_intensity():
    torch.manual_seed(0)
    unit = torch.rand(64, 2, 16, 16)
    changed = augment(unit)
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6  # one float32 rounding of the gain
    assert not torch.allclose(changed, unit)


@pytest.mark.parametrize("kind", ["white", "row", "smooth", "shot"])
def test_noise_of_every_kind_has_unit_variance_on_average(kind):
    x0 = torch.rand(8, 2, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = unit_noise(kind, x0, torch.Generator().manual_seed(2))
    assert noise.shape == x0.shape
    # Rows share their noise, so 2,048 draws of it carry half of the variance: a standard error of 1.6 %.
    assert float(noise.var()) == pytest.approx(1.0, abs=0.06)


def test_a_perfect_calibrator_measures_as_perfect():
    # An oracle that knows the image to be empty: the root mean square of the eight noisiest 16-pixel blocks.
    x0 = torch.zeros(4, 2, 256, 256)
    sigma = torch.from_numpy(create_schedule().sigma)

    def oracle(images):
        blocks = images.unfold(2, 16, 16).unfold(3, 16, 16).double()
        level = blocks.pow(2).mean(dim=(1, 4, 5)).sqrt().flatten(1)
        top = level.sort(dim=1).values[:, -8:].mean(dim=1)
        return (sigma - top[:, None]).abs().argmin(dim=1).double()

    measures = calibration_measures(oracle, x0)
    assert measures["two_region"] == 1.0
    assert measures["mae_state"] < 25  # the mean of the eight highest of 256 estimates lies some percent too high


def calibrator_task(data, tmp_path, **changes):
    return CalibratorTask(read_settings("calibrator", **{**TINY["calibrator"], **changes}), str(data), tmp_path, CPU)


def test_a_share_of_the_calibrators_batches_has_a_microscopes_noise(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "srh_clinic.training.calibrator.instrument_noise", lambda x0, rng: seen.append(1) or torch.randn_like(x0)
    )
    for share, least, most in ((0.0, 0, 0), (0.5, 3, 17), (1.0, 20, 20)):
        seen.clear()
        task = calibrator_task(data, tmp_path, structured_share=0.0, instrument_share=share)
        network = task.create()
        for step in range(20):
            task.loss(network, np.random.default_rng(step))
        assert least <= len(seen) <= most


def test_each_place_is_taught_the_noise_of_its_own_region(data, tmp_path, monkeypatch):
    """A network whose places know the map and whose election takes the noisiest of them has no loss."""
    task = calibrator_task(data, tmp_path, local_weight=1.0, structured_share=0.0, uniform_share=0.0, crop_sizes=[48])
    network = task.create()
    regions = {}

    def remember(x0, t, t_small, mask, noise, schedule, gain):
        regions.setdefault("maps", []).append(torch.where(mask, t[:, None, None], t_small[:, None, None]))
        return x0

    def votes(features):
        value = network.to_latent(torch.cat(regions["maps"]).float())
        return value, 1e4 * value

    monkeypatch.setattr("srh_clinic.training.calibrator.two_region", remember)
    monkeypatch.setattr(network.head, "votes", votes)
    assert float(task.loss(network, np.random.default_rng(0))) == pytest.approx(0.0, abs=1e-10)
    monkeypatch.setattr(network.head, "votes", lambda features: (votes(features)[0] + 0.1, votes(features)[1]))
    # Both losses are the square of 0.1; the second is weighed by 1. The float32 of a score of 1e4 leaves a rounding of 1e-7.
    regions.clear()
    assert float(task.loss(network, np.random.default_rng(0))) == pytest.approx(0.02, rel=1e-3)


def test_a_head_without_places_cannot_be_taught_by_place(data, tmp_path):
    task = calibrator_task(data, tmp_path, network={**TINY["calibrator"]["network"], "head": "mlp"}, local_weight=0.5)
    with pytest.raises(InputError, match="local_weight"):
        task.loss(task.create(), np.random.default_rng(0))


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, o: train("tokenizer", str(d), None, o), "tokenizer"),
        (lambda d, o: train("denoiser", str(o), None, o), "pool-"),
        (lambda d, o: train("classifier", str(o), None, o), "class-"),
        (lambda d, o: train("denoiser", str(d), None, o, device="tpu9"), "tpu9"),
        (lambda d, o: read_settings("denoiser", o / "nowhere.yaml"), "nowhere"),
        (lambda d, o: read_settings("denoiser", learning_rat=1), "learning_rat"),
        (lambda d, o: read_settings("calibrator", steps=0), "steps"),
        (lambda d, o: read_settings("denoiser", _yaml(o, "? \n")), "steps"),
        (lambda d, o: TilePool(d, CPU, holdout=10), "held out"),
    ],
)
def test_wrong_calls_are_refused_in_a_sentence(data, tmp_path, call, words):
    with pytest.raises(InputError, match=words):
        call(data, tmp_path)


def test_a_refused_setting_is_told_with_the_file_that_it_stands_in(tmp_path):
    with pytest.raises(InputError, match="learning_rate = -1") as refused:
        read_settings("classifier", learning_rate=-1)
    assert refused.value.path is None
    with pytest.raises(InputError, match="learning_rate = -1") as refused:
        read_settings("classifier", _yaml(tmp_path, "learning_rate: -1"), steps=10)
    assert refused.value.path.parent == tmp_path


@pytest.mark.parametrize("task", ["denoiser", "calibrator", "classifier"])
def test_the_shipped_configurations_are_valid(task):
    assert read_settings(task).steps >= 1000


def test_noise_with_structure_keeps_its_variance():
    x0 = 2 * torch.rand(64, 2, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    torch.manual_seed(1)
    for seed in range(6):
        mixed = mixed_with_structure(torch.randn_like(x0), x0, np.random.default_rng(seed))
        # Row noise has the fewest independent draws, 32 x 64 x 2 rows: its variance has a standard deviation of 2 %.
        assert float(mixed.square().mean()) == pytest.approx(1, abs=0.1)


def test_the_denoiser_sees_structure_only_when_asked(data, tmp_path, monkeypatch):
    seen = []

    def mixed(noise, x0, rng, kinds):
        seen.append(kinds)
        return noise

    monkeypatch.setattr("srh_clinic.training.denoiser.mixed_with_structure", mixed)
    run("denoiser", data, tmp_path / "plain", steps=2)
    assert not seen
    run("denoiser", data, tmp_path / "asked", steps=2, structured_share=1.0, structured_kinds=("row",))
    assert seen == [("row",), ("row",)]
