"""Training of the networks that a bundle holds: calibrator, denoiser, classifier, and the baselines of the restoration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from srh_clinic.bundles import BASELINES, bundle_exists, load_bundle, parent_reference, update_bundle
from srh_clinic.errors import InputError, on_one_line, refused_setting
from srh_clinic.files import whole_file
from srh_clinic.inference import choose_device, made_apart
from srh_clinic.training.board import Board
from srh_clinic.training.curves import draw_log
from srh_clinic.training.denoiser import DenoiserTask
from srh_clinic.training.loop import Game, LoopSettings, Task, fit
from srh_clinic.training.processes import processes

__all__ = ["BASELINES", "TASKS", "create_task", "latest_best", "read_settings", "score", "train"]

TASKS = {
    "denoiser": ("srh_clinic.training.denoiser", "DenoiserSettings", "DenoiserTask"),
    "calibrator": ("srh_clinic.training.calibrator", "CalibratorSettings", "CalibratorTask"),
    "classifier": ("srh_clinic.training.classifier", "ClassifierSettings", "ClassifierTask"),
    "synthetic_noise": ("srh_clinic.training.regression", "SyntheticNoiseSettings", "SyntheticNoiseTask"),
    "noise2noise": ("srh_clinic.training.regression", "SyntheticNoiseSettings", "Noise2NoiseTask"),
    "noise2void": ("srh_clinic.training.regression", "Noise2VoidSettings", "Noise2VoidTask"),
    "cyclegan": ("srh_clinic.training.cyclegan", "CycleGANSettings", "CycleGANTask"),
    "conditional_diffusion": (
        "srh_clinic.training.conditional_diffusion",
        "ConditionalDiffusionSettings",
        "ConditionalDiffusionTask",
    ),
}
"""What can be trained: the module, its settings and its task."""

DESCRIPTION_OF_BASELINES = "Learned restorers that restorative step-calibrated diffusion is compared with"

CONFIGS = Path(__file__).parent / "configs"


def read_settings(task: str, config: str | Path | None = None, **changes: Any) -> LoopSettings:
    """The settings of a task, with ``changes`` on top.

    ``config`` is a YAML file or the name of one that the package ships, such as ``"denoiser-linear"``; None is the task's own.

    Raises
    ------
    InputError
        When the task is unknown, or the file is not such a configuration; the file is named unless a change was refused.
    """
    module, settings, _ = _task_names(task)
    path = Path(task if config is None else config)
    shipped = {file.stem: file for file in sorted(CONFIGS.glob("*.yaml"))}
    if config is None or not path.is_file():
        path = shipped.get(str(path), path)
    if not path.is_file():
        raise InputError("no such file", f"a YAML file or one of the package's: {', '.join(shipped)}", path)
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"a file that is not readable YAML ({on_one_line(error)})", f"a configuration of the {task}'s training", path
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"a {type(values).__name__}", f"a table of the {task}'s settings", path)
    try:
        return getattr(import_module(module), settings).model_validate({**values, **changes})
    except ValidationError as error:
        known = getattr(import_module(module), settings).model_fields
        changed = not changes.keys().isdisjoint(error.errors()[0]["loc"][:1])
        raise refused_setting(error, f"the {task}'s training", known, None if changed else path) from error


def train(
    task: str,
    data: str,
    config: str | Path | None,
    out: Path,
    *,
    seconds: float | None = None,
    device: str = "auto",
    start_from: str | Path | None = None,
    extends: str | Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    run: str | None = None,
    beyond: float = -math.inf,
    tensorboard: bool = False,
    backbone_from: str | Path | None = None,
    **changes: Any,
) -> int:
    """Train a network and put it into a bundle, resuming where an earlier call with the same ``out`` was cut.

    Checkpoint, log and its curves are kept in ``out/training/<task>``. The bundle gets the moving average of the weights,
    also when ``seconds`` end the run early; with ``seconds=0`` it gets that of the checkpoint, untrained any further. Of a
    denoiser and a calibrator it gets the best so far at each validation, so that a run that is killed leaves it behind; with
    ``patience`` among the settings it gets nothing but the best. After each validation of a denoiser the folder's
    ``validation`` gets a picture of what it makes of held-out images.

    Parameters
    ----------
    task
        A name in :data:`TASKS`.
    data
        A folder of training data, ``"phantom"`` to simulate it, or images: see
        :func:`~srh_clinic.training.images.find_images`.
    config
        YAML file or the name of one in the package; see :func:`read_settings`.
    out
        Folder of the bundle that gets the network.
    seconds
        Stop after so long, with a checkpoint to resume from.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    start_from
        Name or folder of a bundle whose network of this task the run begins from; None begins from random weights.
    extends
        Name or folder of the bundle that a bundle begun here takes the networks from which it lacks; None is ``phantom-demo``
        for :data:`BASELINES`, and no other bundle for the rest. A bundle that is there already changes to what is given.
    report
        Called with each line of the log.
    run
        Name of the folder of checkpoint and log (default: the task's).
    beyond
        :func:`score` that weights have to exceed to get into the bundle, where an earlier stage's are.
    tensorboard
        Write the log for TensorBoard too.
    backbone_from
        A checkpoint whose backbone a classifier begins from; see :mod:`srh_clinic.classifiers.pretrained`.
    changes
        Settings that replace those of the file.

    Returns
    -------
    The number of steps done in all.
    """
    settings = read_settings(task, config, **changes)
    begun = _first_metadata(task, out, extends)
    initial = None if start_from is None else load_bundle(start_from).load_tensors(task)
    where = choose_device(device)
    folder = out / "training" / (run or task)
    together = processes()
    if not together.is_first:
        together.wait()  # the first simulates and chooses
    work = create_task(task, settings, data, folder, where)
    if together.is_first:
        together.wait()
        for line in _split_of(work):
            report(line)
    if backbone_from is not None:
        initial = _with_backbone(task, work, Path(backbone_from))
    earlier = [score(task, measures) for measures in _validations(folder / "log.jsonl")]
    best = max([beyond, *earlier])
    since = len(earlier) - 1 - int(np.argmax(earlier)) if earlier else 0
    board = Board(folder / "tensorboard") if tensorboard and together.is_first else None

    def tell(line: dict[str, Any]) -> None:
        report(line)
        if board is not None:
            board(line)

    def put(average: dict[str, Tensor]) -> None:
        network = work.create()
        network.load_state_dict(average)
        description, metadata = work.describe(network.to(where).eval())
        update_bundle(out, {task: (description, average)}, begun | metadata)

    def publish(average: dict[str, Tensor], measures: dict[str, float]) -> bool:
        nonlocal best, since
        since += 1
        if score(task, measures) > best:
            best, since = score(task, measures), 0
            put(average)
        if isinstance(work, DenoiserTask):
            _picture(work, average, folder / "validation" / f"{len(_validations(folder / 'log.jsonl')):04d}.png")
        return 0 < settings.patience <= since

    average, step = fit(work, settings, folder, where, seconds=seconds, initial=initial, report=tell, publish=publish)
    if not together.is_first:
        return step
    if best == -math.inf or (not settings.patience and beyond == -math.inf):
        put(average)
    draw_log(folder / "log.jsonl", folder / "loss.png")
    return step


def _with_backbone(task: str, work: Task | Game, path: Path) -> dict[str, Tensor]:
    """The weights that a classifier begins from, its backbone's from a checkpoint."""
    if task != "classifier":
        raise InputError(f"a backbone for a {task}", "the task classifier")
    from srh_clinic.classifiers.pretrained import with_backbone

    with made_apart():
        return with_backbone(work.create(), path)


def _split_of(work: Task | Game) -> Iterator[dict[str, Any]]:
    """What a user is told of a split before the training: how many patients are where, and its notes."""
    for of in (work, getattr(work, "patches", None)):
        if (split := getattr(getattr(of, "pool", None), "split", None)) is not None:
            yield {f"patients_{part}": count for part, count in split.patients.items()}
            yield from ({"note": note} for note in split.notes)


def _picture(task: DenoiserTask, average: dict[str, Tensor], path: Path) -> None:
    """Write what a network makes of held-out images."""
    from PIL import Image

    network = task.create()
    network.load_state_dict(average)
    picture = task.panel(network.to(task.device).eval())
    with whole_file(path) as draft:
        Image.fromarray(picture).save(draft, format="PNG")


def create_task(task: str, settings: LoopSettings, data: str, folder: Path, device: torch.device) -> Task | Game:
    """What the loop trains, with its data; ``folder`` is that of its checkpoints, beside which phantoms are simulated.

    Raises
    ------
    InputError
        When the task is unknown, or the data do not serve it.
    """
    module, _, name = _task_names(task)
    made: Task | Game = getattr(import_module(module), name)(settings, data, folder, device)
    return made


def score(task: str, measures: dict[str, float]) -> float:
    """What makes a network's weights better than earlier ones, larger is better; NaN of the baselines."""
    if task == "denoiser":
        return float(np.mean([value for name, value in measures.items() if name.startswith("psnr_t")]))
    if task == "classifier":
        return -measures["cross_entropy_calibrated"]
    return -measures["mae"] if task == "calibrator" else math.nan


def latest_best(task: str, folder: Path) -> float:
    """The best :func:`score` among the validations of a run in ``folder``."""
    return max((score(task, measures) for measures in _validations(folder / "log.jsonl")), default=-math.inf)


def _validations(log: Path) -> list[dict[str, float]]:
    """The measures of a log's validations."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line["validation"] for line in lines if "validation" in line]


def _task_names(task: str) -> tuple[str, str, str]:
    if task not in TASKS:
        raise InputError(f"the task {task!r}", "one of " + ", ".join(TASKS))
    return TASKS[task]


def _first_metadata(task: str, out: Path, extends: str | Path | None) -> dict[str, Any]:
    """What the metadata of the bundle say beside what the task knows; refused before the training, not after it."""
    begun = not bundle_exists(out)
    if extends is None and begun and task in BASELINES:
        extends = "phantom-demo"
    described = {"description": DESCRIPTION_OF_BASELINES} if begun and task in BASELINES else {}
    return described if extends is None else {**described, "extends": parent_reference(out, extends)}
