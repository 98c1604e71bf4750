"""Trainings on images: streamed, resumed exactly, stopped early, in two stages, in two processes, and judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.integration.opensrh import read_tree
from srh_clinic.integration.opensrh_writer import write_opensrh
from srh_clinic.judging.gain import Gain, measure_gain
from srh_clinic.training import train
from srh_clinic.training.selection import CHOICE, SHEET
from srh_clinic.training.stages import train_in_stages

DENOISER: dict[str, Any] = {
    "network": {"architecture": "overlap-unet", "channels": [8, 16], "down": [1, 1], "up": [1]},
    "batch_size": 4,
    "crop_sizes": [16],
    "holdout": 2,
    "validation_size": 64,
    "steps": 6,
    "warmup_steps": 2,
    "log_every": 2,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_opensrh(tmp_path_factory.mktemp("srh") / "tree", patients=8, patches=2)


def lines(out: Path, run: str = "denoiser") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training" / run / "log.jsonl").read_text().splitlines()]


def losses(out: Path, run: str = "denoiser") -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in lines(out, run) if "loss" in line]


def test_a_denoiser_is_trained_on_a_tree_and_goes_on_exactly(tree: Path, tmp_path: Path) -> None:
    train("denoiser", str(tree), None, tmp_path / "whole", device="cpu", **DENOISER)
    train("denoiser", str(tree), None, tmp_path / "cut", device="cpu", seconds=0.0, **DENOISER)
    for _ in range(50):
        if train("denoiser", str(tree), None, tmp_path / "cut", device="cpu", seconds=0.05, **DENOISER) == 6:
            break
    whole, cut = (load_bundle(tmp_path / name).load_tensors("denoiser") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert all(0 <= line["data_share"] <= 1 for line in lines(tmp_path / "whole") if "loss" in line)
    (picture,) = (tmp_path / "whole" / "training" / "denoiser" / "validation").iterdir()
    assert Image.open(picture).size == (2 * 64, 3 * 64)


def test_a_classifier_is_trained_on_what_the_metadata_say(tree: Path, tmp_path: Path) -> None:
    settings = {"backbone": "test_resnet", "options": {}, "batch_size": 4, "steps": 3, "warmup_steps": 1, "log_every": 1}
    train("classifier", str(tree), None, tmp_path / "out", device="cpu", **settings)
    assert load_bundle(tmp_path / "out").config("classifier")["patch"] == 256
    held = lines(tmp_path / "out", "classifier")[-1]["validation"]
    assert {"accuracy", "recall_tumor", "recall_normal"} <= set(held)


def test_a_classifier_asks_what_images_show(tmp_path: Path) -> None:
    tree = write_opensrh(tmp_path / "tree", patients=2, patches=1)
    files = [patch.file for patch in read_tree(tree).patches]
    manifest = tmp_path / "m.csv"
    manifest.write_text("case,patient\n" + "".join(f"{file},{at}\n" for at, file in enumerate(files)))
    reading = {"um_per_px": 0.47, "full_scale": 65536}
    with pytest.raises(InputError, match="of which nobody says what it shows; needed a manifest with the column truth"):
        train("classifier", str(manifest), None, tmp_path / "out", device="cpu", steps=1, reading=reading)


def test_a_run_without_progress_stops_early_and_keeps_the_best(tree: Path, tmp_path: Path) -> None:
    network = {"architecture": "compact-unet", "channels": [8, 16], "norm_num_groups": 4}  # it bears the rate that goes astray
    settings = {**DENOISER, "network": network, "steps": 200, "learning_rate": 0.5, "validate_seconds": 1e-6, "patience": 3}
    steps = train("denoiser", str(tree), None, tmp_path / "out", device="cpu", **settings)
    assert steps < 200
    validations = [line["validation"] for line in lines(tmp_path / "out") if "validation" in line]
    scores = [np.mean([value for name, value in one.items() if name.startswith("psnr_t")]) for one in validations]
    assert int(np.argmax(scores)) == len(scores) - 1 - 3


def test_a_few_picks_choose_what_the_second_stage_sees(tree: Path, tmp_path: Path) -> None:
    picks = tmp_path / "picks"
    picks.mkdir()
    best = read_tree(tree).patches[0].file
    (picks / "one.tif").write_bytes(best.read_bytes())
    settings = {**DENOISER, "reading": {"um_per_px": 0.47, "full_scale": 65536}}
    done = train_in_stages("denoiser", str(tree), None, tmp_path / "out", picks=picks, keep=0.25, device="cpu", **settings)
    assert done == {"denoiser": 6, "denoiser-best": 2}
    folder = tmp_path / "out" / "training" / "denoiser-best"
    rows = [line.split(",") for line in (folder / CHOICE).read_text().splitlines()[1:]]
    kept = [row for row in rows if row[-1] == "1"]
    assert len(kept) == max(round(0.25 * len(rows)), 1)
    assert min(float(row[-2]) for row in kept) >= max(float(row[-2]) for row in rows if row[-1] == "0")
    if any(row[0] == best.name for row in rows):
        assert best.name in {row[0] for row in kept}
    assert Image.open(folder / SHEET).size == (8 * 128, 4 * 128)


TWO = """
import json, os, socket, sys
from pathlib import Path

import accelerate
from srh_clinic.training import denoiser, train

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
started = []
for rank in range(2):
    started.append(os.fork())
    if not started[-1]:
        said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in said.items()})
        train("denoiser", sys.argv[1], None, Path(sys.argv[2]), device="cpu", **json.loads(sys.argv[3]))
        sys.exit()
sys.exit(any([os.waitpid(process, 0)[1] for process in started]))
"""
"""What ``torchrun --nproc-per-node 2`` does, from one process that has imported everything."""


def test_two_processes_learn_what_one_does(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is an extra: pip install 'srh-clinic[train]'")
    train("denoiser", str(tree), None, tmp_path / "one", device="cpu", **DENOISER)
    call = [sys.executable, "-c", TWO, str(tree), str(tmp_path / "two"), json.dumps(DENOISER)]
    done = subprocess.run(
        call, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [step for step, _ in one] == [step for step, _ in two]
    np.testing.assert_allclose([loss for _, loss in one], [loss for _, loss in two], rtol=1e-5)
    first, second = (load_bundle(tmp_path / name).load_tensors("denoiser") for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-4, atol=1e-6)


def test_tensorboard_gets_every_line(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is an extra: pip install 'srh-clinic[train]'")
    train("denoiser", str(tree), None, tmp_path / "out", device="cpu", tensorboard=True, **DENOISER)
    assert list((tmp_path / "out" / "training" / "denoiser" / "tensorboard").glob("events.out.tfevents.*"))


def test_a_bundle_that_is_judged_against_itself_has_not_helped(tree: Path, tiny_bundle: Path) -> None:
    gain = measure_gain("denoiser", str(tree), None, tiny_bundle, tiny_bundle, device="cpu", **DENOISER)
    assert gain.before == gain.after
    assert len(gain.before) >= 1


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [((20.0, 21.0, 22.0), (21.0, 22.1, 23.2), "It helped"), ((20.0, 21.0, 22.0), (19.0, 19.9, 20.8), "It did harm"),
     ((20.0, 21.0, 22.0), (21.0, 20.0, 22.1), "not shown to help"), ((), (), "cannot be told")],
)  # fmt: skip
def test_a_gain_says_whether_it_helped(before: tuple[float, ...], after: tuple[float, ...], says: str) -> None:
    from srh_clinic.estimates import Undefined, mean_with_interval

    difference = mean_with_interval(np.array(after) - np.array(before)) if before else Undefined("none")
    assert says in str(Gain(before, after, difference))
