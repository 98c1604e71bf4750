"""The paper's two stages: a training on all images, then one on the best of them, chosen by the resemblance to a few picks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from srh_clinic.errors import InputError
from srh_clinic.training import latest_best, read_settings, train
from srh_clinic.training.loop import ImageSettings
from srh_clinic.training.pool import is_of_images

BEST_STEPS, BEST_RATE = 0.25, 0.2
"""Of the second stage, as shares of the first: its steps and its learning rate."""

BEST_SECONDS = 0.3
"""Share of the time that the second stage gets."""


WARMUP = 0.1
"""Largest share of a run of another length than the configuration's that its warm-up takes."""


def paced(task: str, config: str | Path | None, steps: int | None) -> dict[str, int]:
    """Changes of a configuration's settings for a run of so many steps, whose warm-up is not longer than a tenth of it."""
    if steps is None:
        return {}
    return {"steps": steps, "warmup_steps": min(read_settings(task, config).warmup_steps, max(round(WARMUP * steps), 1))}


def train_in_stages(
    task: str,
    data: str,
    config: str | Path | None,
    out: Path,
    *,
    picks: Path,
    keep: float = 0.1,
    seconds: float | None = None,
    device: str = "auto",
    start_from: str | Path | None = None,
    extends: str | Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    tensorboard: bool = False,
    backbone_from: str | Path | None = None,
    **changes: Any,
) -> dict[str, int]:
    """Train on all images, then on those that resemble the picks; the bundle gets the better of both on held-out patients.

    Parameters
    ----------
    picks
        Patches that an expert picked; ``training/<task>-best/picks.png`` shows them and what was chosen by them.
    keep
        Share of the training tiles that the second stage keeps.

    The others are those of :func:`srh_clinic.training.train`.

    Returns
    -------
    Steps done by each stage.
    """
    if not is_of_images(data):
        raise InputError(f"picks for {data}", "a folder of images, an OpenSRH tree or a manifest", data)
    settings = cast(ImageSettings, read_settings(task, config, **changes))
    left = [None, None] if seconds is None else [seconds * (1 - BEST_SECONDS), seconds * BEST_SECONDS]
    shared: dict[str, Any] = {"device": device, "extends": extends, "report": report, "tensorboard": tensorboard}
    begun: dict[str, Any] = {"start_from": start_from, "backbone_from": backbone_from}
    steps = {task: train(task, data, config, out, seconds=left[0], **begun, **shared, **changes)}
    own = {
        "picks": str(picks),
        "keep": keep,
        "steps": max(round(settings.steps * BEST_STEPS), 1),
        "warmup_steps": min(settings.warmup_steps, max(round(settings.steps * BEST_STEPS / 10), 1)),
        "learning_rate": settings.learning_rate * BEST_RATE,
    }
    if steps[task] < settings.steps:
        return steps
    run = f"{task}-best"
    beyond = latest_best(task, out / "training" / task)
    steps[run] = train(
        task, data, config, out, seconds=left[1], start_from=out, run=run, beyond=beyond, **shared, **{**changes, **own}
    )
    return steps
