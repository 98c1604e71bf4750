"""Both networks of RSCD from one command: minutes on a card, a long run on a processor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from srh_clinic.files import write_whole
from srh_clinic.inference import choose_device
from srh_clinic.training import create_task, read_settings, train
from srh_clinic.training.loop import fit
from srh_clinic.training.pool import PoolSettings

CONFIGS = {"denoiser": "denoiser-overlap", "calibrator": "calibrator"}
"""Configuration of each network, in the order that they are trained in."""

DENOISER_SHARE = 0.75
"""Of the time that both get."""

PACE_SHARE = 0.03
"""Of a network's time that is spent on finding out how fast it trains."""

LATE = 0.1
"""Share of a network's time that is left for validations and the bundle's files."""


def train_rscd(
    data: str,
    out: Path,
    *,
    seconds: float | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    **changes: dict[str, Any],
) -> dict[str, int]:
    """Train the denoiser and then the calibrator, and put both into a bundle; a run that was cut goes on.

    Phantoms are simulated first, on all processors. Within ``seconds``, which hold for that too, the number of steps is what
    this machine does in the time that is left, found by a short trial, so that the learning rate comes down before time is up;
    the plan is kept beside the checkpoints, and later calls keep to it. Without, the configurations' own numbers hold: on two
    processors a night. ``report`` gets a line with a ``note`` of what is planned, done already, or left for the next call.

    Parameters
    ----------
    data
        A folder of clean tiles, or ``"phantom"`` to simulate them.
    out
        Folder of the bundle.
    changes
        Settings of ``denoiser`` and ``calibrator`` that replace those of their files.

    Returns
    -------
    The steps that each network has done in all; a network for which there was no time is missing.
    """
    until = None if seconds is None else time.monotonic() + seconds
    done: dict[str, int] = {}
    for task, config in CONFIGS.items():
        settings = cast(PoolSettings, read_settings(task, config, **changes.get(task, {})))
        if data == "phantom" and not _simulated(out / "training" / "pool", settings.phantoms, until, report):
            break
        ours = None if until is None else (until - time.monotonic()) * (DENOISER_SHARE if task == "denoiser" else 1.0)
        if ours is not None and ours <= 0:
            report({"note": f"{task}: no time is left for it; the same call goes on"})
            break
        begun = time.monotonic()
        steps = _planned(task, settings, data, out, ours, device, report)
        ours = None if ours is None else max(ours - (time.monotonic() - begun), 0.0)
        own = {**changes.get(task, {}), "steps": steps}
        done[task] = train(task, data, config, out, seconds=ours, device=device, report=report, **own)
        if done[task] < steps:
            report({"note": f"{task}: {done[task]} of {steps} steps are done; the same call goes on"})
    return done


def _simulated(pool: Path, count: int, until: float | None, report: Callable[[dict[str, Any]], None]) -> bool:
    """Simulate the pool as far as time allows; whether it is whole."""
    from srh_clinic.simulation import training_pool
    from srh_clinic.simulation.pools import POOL_FILE

    there = min(len(list(pool.glob("pool-*.npy"))) * POOL_FILE, count)
    if there < count:
        report({"note": f"simulating phantoms to train on, {there} of {count} are there"})
    whole = training_pool(pool, count, seconds=None if until is None else until - time.monotonic())
    if not whole:
        report({"note": f"time is up before all {count} phantoms are simulated; the same call goes on"})
    return whole


def _planned(
    task: str,
    settings: PoolSettings,
    data: str,
    out: Path,
    seconds: float | None,
    device: str,
    report: Callable[[dict[str, Any]], None],
) -> int:
    """Steps of a whole run: what was planned before, what fits into the time, or what the configuration says."""
    path = out / "training" / task / "plan.json"
    of = f"the configuration has {settings.steps}"
    if path.exists():
        steps = int(json.loads(path.read_text())["steps"])
        if steps != settings.steps:
            report({"note": f"{task}: an earlier call in this folder has planned {steps} steps; {of}, for another folder"})
        return steps
    steps = settings.steps
    if seconds is not None:
        steps = max(1, int(_steps_a_second(task, settings, data, out, PACE_SHARE * seconds, device) * seconds * (1 - LATE)))
        report({"note": f"{task}: {steps} steps are planned, as many as fit into {seconds:.0f} s; {of}"})
    write_whole(path, json.dumps({"steps": steps}))
    return steps


def _steps_a_second(task: str, settings: PoolSettings, data: str, out: Path, seconds: float, device: str) -> float:
    """Of a trial that is thrown away; its first part, in which kernels are chosen, does not count."""
    import tempfile

    where = choose_device(device)
    with tempfile.TemporaryDirectory() as folder:
        work = create_task(task, settings, data, out / "training" / task, where)
        quiet = settings.model_copy(update={"validate_seconds": 1e9, "checkpoint_seconds": 1e9, "log_every": 10**9})
        trial = quiet.model_copy(update={"steps": 10**9})
        _, first = fit(work, trial, Path(folder), where, seconds=seconds / 3)
        began = time.monotonic()
        _, last = fit(work, trial, Path(folder), where, seconds=2 * seconds / 3)
        return max(last - first, 1) / (time.monotonic() - began)
