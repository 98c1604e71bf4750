"""Training of the networks that a bundle holds: calibrator, denoiser, classifier."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from srh_clinic.bundles import load_bundle, update_bundle
from srh_clinic.errors import InputError
from srh_clinic.training.curves import draw_log
from srh_clinic.training.loop import LoopSettings, Task, fit, pick_device

__all__ = ["TASKS", "read_settings", "train"]

TASKS = {
    "denoiser": ("srh_clinic.training.denoiser", "DenoiserSettings", "DenoiserTask"),
    "calibrator": ("srh_clinic.training.calibrator", "CalibratorSettings", "CalibratorTask"),
    "classifier": ("srh_clinic.training.classifier", "ClassifierSettings", "ClassifierTask"),
}
"""What can be trained: the module, its settings and its task."""


def read_settings(task: str, config: Path | None = None, **changes: Any) -> LoopSettings:
    """The settings of a task from a YAML file (None: the one that the package ships), with ``changes`` on top.

    Raises
    ------
    InputError
        When the task is unknown, or the file is not such a configuration.
    """
    module, settings, _ = _task_names(task)
    path = Path(__file__).parent / "configs" / f"{task}.yaml" if config is None else config
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"no readable YAML ({error})", f"a configuration of the {task}'s training", path) from error
    if not isinstance(values, dict):
        raise InputError(f"a {type(values).__name__}", f"a table of the {task}'s settings", path)
    try:
        return getattr(import_module(module), settings)(**{**values, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {first.get('input')!r}", f"{where} to be right ({first['msg']})", path) from error


def train(
    task: str,
    data: str,
    config: Path | None,
    out: Path,
    *,
    seconds: float | None = None,
    device: str = "auto",
    start_from: str | Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    **changes: Any,
) -> int:
    """Train a network and put it into a bundle, resuming where an earlier call with the same ``out`` was cut.

    Checkpoint, log and its curves are kept in ``out/training/<task>``. The bundle gets the moving average of the weights,
    also when ``seconds`` end the run early; with ``seconds=0`` it gets that of the checkpoint, untrained any further.

    Parameters
    ----------
    task
        ``"denoiser"``, ``"calibrator"`` or ``"classifier"``.
    data
        A folder of training data, or ``"phantom"`` to simulate it.
    config
        YAML file; None takes the one in the package.
    out
        Folder of the bundle that gets the network.
    seconds
        Stop after so long, with a checkpoint to resume from.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    start_from
        Name or folder of a bundle whose network of this task the run begins from; None begins from random weights.
    report
        Called with each line of the log.
    changes
        Settings that replace those of the file.

    Returns
    -------
    The number of steps done in all.
    """
    module, _, name = _task_names(task)
    settings = read_settings(task, config, **changes)
    where = pick_device(device)
    folder = out / "training" / task
    work: Task = getattr(import_module(module), name)(settings, data, folder, where)
    initial = None if start_from is None else load_bundle(start_from).load_tensors(task)
    average, step = fit(work, settings, folder, where, seconds=seconds, initial=initial, report=report)
    network = work.create()
    network.load_state_dict(average)
    description, metadata = work.describe(network.to(where).eval())
    update_bundle(out, {task: (description, average)}, metadata)
    draw_log(folder / "log.jsonl", folder / "loss.png")
    return step


def _task_names(task: str) -> tuple[str, str, str]:
    if task not in TASKS:
        raise InputError(f"the task {task!r}", "one of " + ", ".join(TASKS))
    return TASKS[task]
