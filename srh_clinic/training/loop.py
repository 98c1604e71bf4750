"""The training loop that all tasks share: steps, moving average, checkpoints, log, resume.

All randomness of a step is a pure function of (seed, step): numpy's and torch's generators are keyed anew at each. So a
checkpoint holds no generator's state, and a run that was cut and resumed gives the same weights, bit for bit (on a CPU with
the same number of threads).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from srh_clinic.engine import has_bf16
from srh_clinic.errors import InputError
from srh_clinic.files import whole_file, write_whole
from srh_clinic.training.processes import processes


class LoopSettings(BaseModel):
    """What all tasks' configurations share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    """Length of the whole run; the learning rate is a function of the step alone."""
    learning_rate: float = Field(gt=0)
    """At its height, after the warm-up."""
    warmup_steps: int = Field(default=200, ge=0)
    decay: Literal["cosine", "linear", "cooldown"] = "cosine"
    """``cooldown``: as it is until the last ``cooldown_share`` of the run, then linear; so a run can be cut or go on until
    then."""
    cooldown_share: float = Field(default=0.3, gt=0, le=1)
    final_rate: float = Field(default=0.02, ge=0, le=1)
    """Learning rate at the last step, as a share of the highest."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the weights' moving average, reached from below: ``min(ema_decay, (1 + step) / (10 + step))``."""
    seed: int = 0
    bf16: bool = False
    """bfloat16 autocast where it is faster: on CUDA, and on a CPU with instructions for it, on others float32 (see
    :func:`~srh_clinic.engine.has_bf16`)."""
    channels_last: bool = False
    log_every: int = Field(default=50, gt=0)
    """Steps between two lines of the log."""
    checkpoint_seconds: float = Field(default=180.0, gt=0)
    validate_seconds: float = Field(default=300.0, gt=0)
    patience: int = Field(default=0, ge=0)
    """Validations without a better one after which the run stops, and the bundle keeps the best; 0 runs to the end."""


class ImageSettings(LoopSettings):
    """What all tasks' configurations say of images that are read from their files."""

    reading: dict[str, Any] = Field(default_factory=dict)
    """Options of :func:`~srh_clinic.integration.read_slide`: what the files do not say."""
    patients: Literal["folders", "files"] = "folders"
    """Who the patients of TIFFs are; see :func:`~srh_clinic.training.images.find_images`."""
    held_out_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of the patients that is held out."""
    picks: str = ""
    """Patches that an expert picked; only training tiles that resemble them are trained on."""
    keep: float = Field(default=0.1, gt=0, le=1)
    """Share of the training tiles that is kept where there are picks."""


class Trainee(Protocol):
    """What a training needs beyond the loop, whatever its losses."""

    name: str

    def create(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures on fixed held-out data; the network is the moving average, in evaluation mode."""

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        """For the bundle: the network's description and what the metadata say about it."""


@runtime_checkable
class Task(Trainee, Protocol):
    """A training with one loss."""

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Scalar loss of one random batch, drawn from ``rng`` and torch's global generator alone."""


@dataclass(frozen=True)
class Turn:
    """One optimiser's part of a step."""

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Callable[[np.random.Generator], Tensor]
    """Scalar loss of one random batch, as :meth:`Task.loss`."""


@runtime_checkable
class Game(Trainee, Protocol):
    """A training against or beside other networks, which are thrown away after it."""

    def create_companions(self) -> nn.Module:
        """The others, with fresh weights; the checkpoint keeps their buffers too, so all that outlives a step is one."""

    def turns(self, network: nn.Module, companions: nn.Module) -> Sequence[Turn]:
        """The turns that make a step, in this order; the first one's loss is *the* loss in the log."""


class Diverged(Exception):
    """A task's training has gone where nothing good comes from; ``needed`` says what to change."""

    def __init__(self, found: str, needed: str) -> None:
        self.found, self.needed = found, needed
        super().__init__(f"{found}; {needed}")


def learning_rate(settings: LoopSettings, step: int) -> float:
    """Learning rate of a step (0-based): linear warm-up, then cosine, linear or late linear decay to ``final_rate``."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    if settings.decay == "cosine":
        height = 0.5 * (1 + math.cos(math.pi * progress))
    elif settings.decay == "linear":
        height = 1 - progress
    else:
        height = min(1.0, (settings.steps - step) / (settings.cooldown_share * settings.steps))
    return settings.learning_rate * (settings.final_rate + (1 - settings.final_rate) * height)


def fit(
    task: Task | Game,
    settings: LoopSettings,
    folder: Path,
    device: torch.device,
    *,
    seconds: float | None = None,
    initial: dict[str, Tensor] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    publish: Callable[[dict[str, Tensor], dict[str, float]], bool | None] = lambda average, measures: None,
) -> tuple[dict[str, Tensor], int]:
    """Train, resuming from ``folder/checkpoint.pt`` when it is there.

    Writes ``folder/log.jsonl`` (a line every ``log_every`` steps: step, seconds, loss averaged since the last line, lr; and
    one for each validation) and ``folder/checkpoint.pt``. After ``seconds`` of this call it checkpoints and returns, whole run
    or not; ``report`` gets each line of the log, ``publish`` the moving average and its measures after each validation, and
    ends the run by answering True. A run that begins at step 0 begins from the ``initial`` weights, if given. Of several
    processes (:mod:`~srh_clinic.training.processes`) the first one alone validates and writes.

    Returns
    -------
    The moving average of the weights (on the CPU) and the number of steps done.

    Raises
    ------
    InputError
        When the checkpoint was made with other settings, or the training diverges: a loss or a gradient is not finite, or the
        task says so. No weight has become non-finite then, and the last checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = task.create().to(device).train()
    if initial is not None:
        _begin_from(network, initial, task.name)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    companions, turns = _turns(task, network, device)
    optimisers = _optimisers(turns, settings)
    average = {key: value.clone() for key, value in network.state_dict().items()}
    run = _Run(folder, settings, network, companions, optimisers, average)
    step, before = run.resume(device)
    together = processes()
    together.wait()
    log = _Log(folder / "log.jsonl", step, report) if together.is_first else None
    ended = False
    read_before = getattr(task, "seconds_reading", None) or 0.0
    started = checkpointed = validated = time.monotonic()
    losses: dict[str, list[Tensor]] = {turn.name: [] for turn in turns}

    def elapsed() -> float:
        return before + time.monotonic() - started

    def time_is_up() -> bool:
        return seconds is not None and time.monotonic() - started >= seconds

    while step < settings.steps and not together.any(ended or time_is_up()):
        rng = np.random.default_rng((settings.seed, step))
        torch.manual_seed(int(rng.integers(0, 2**63)))
        rate = learning_rate(settings, step)
        try:
            for turn, optimiser in zip(turns, optimisers, strict=True):
                losses[turn.name].append(_take(turn, optimiser, rng, rate, settings, device))
        except Diverged as error:
            found = f"{error.found} at step {step} of {task.name}"
            raise InputError(found, f"{error.needed}, in a new folder (the last checkpoint is kept)", folder) from error
        _update_average(average, network, min(settings.ema_decay, (1 + step) / (10 + step)))
        step += 1
        if log is None:
            continue
        if step % settings.log_every == 0 or step == settings.steps:
            means = {name: float(torch.stack(values).mean()) for name, values in losses.items()}
            losses = {name: [] for name in losses}
            waited = _waited(task, read_before, elapsed() - before)
            log.write({"step": step, "seconds": round(elapsed(), 1), **means, "lr": rate, **waited})
        if time.monotonic() - validated > settings.validate_seconds or step == settings.steps:
            measures = _validate(task, average, device)
            log.write({"step": step, "seconds": round(elapsed(), 1), "validation": measures})
            ended = bool(publish(_on_cpu(average), measures))
            validated = time.monotonic()
        if time.monotonic() - checkpointed > settings.checkpoint_seconds:
            run.save(step, elapsed())
            checkpointed = time.monotonic()
    if log is not None:
        run.save(step, elapsed())
    together.wait()
    return _on_cpu(average), step


def _begin_from(network: nn.Module, initial: dict[str, Tensor], task: str) -> None:
    try:
        network.load_state_dict(initial)
    except RuntimeError as error:
        stray = sorted({*initial} ^ {*network.state_dict()})
        which = f", such as {stray[0]}" if stray else ""
        found = f"weights to begin from that do not fit the {task} of this configuration ({len(stray)} other tensors{which})"
        raise InputError(found, "the configuration that they were trained with, or no weights to begin from") from error


def _optimisers(turns: Sequence[Turn], settings: LoopSettings) -> list[torch.optim.Optimizer]:
    shared: dict[str, Any] = {"betas": (settings.beta1, 0.999), "weight_decay": settings.weight_decay}
    return [torch.optim.AdamW(turn.parameters, lr=settings.learning_rate, **shared) for turn in turns]


def _take(
    turn: Turn,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    rate: float,
    settings: LoopSettings,
    device: torch.device,
) -> Tensor:
    """One optimiser's part of a step, at a learning rate; its loss, the mean over all processes."""
    together = processes()
    for group in optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16 and has_bf16(device)):
        loss = turn.loss(rng)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    together.mean_gradients(turn.parameters)
    norm = torch.nn.utils.clip_grad_norm_(turn.parameters, settings.clip_norm)
    if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
        raise Diverged(f"a loss of {loss.item():g} with a gradient of {norm.item():g}", "a lower learning_rate")
    optimiser.step()
    return together.mean(loss.detach())


def _waited(task: Trainee, before: float, seconds: float) -> dict[str, float]:
    """The share of the training's time that was spent on reading images, of tasks that read them."""
    reading = getattr(task, "seconds_reading", None)
    return {} if reading is None else {"data_share": round((reading - before) / max(seconds, 1e-9), 4)}


def _on_cpu(average: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in average.items()}


def _turns(task: Task | Game, network: nn.Module, device: torch.device) -> tuple[nn.Module, Sequence[Turn]]:
    if isinstance(task, Game):
        companions = task.create_companions().to(device)
        return companions, task.turns(network, companions)
    return nn.Module(), [Turn("loss", list(network.parameters()), partial(task.loss, network))]


class _Log:
    """JSON lines on disk; lines after the step that a run resumes from are dropped."""

    def __init__(self, path: Path, step: int, report: Callable[[dict[str, Any]], None]) -> None:
        self.path, self.report = path, report
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_whole(path, "".join(line + "\n" for line in kept), "a training's log")

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.report(line)


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    floats, targets = [], []
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            floats.append(average[key])
            targets.append(value)
        else:
            average[key].copy_(value)
    torch._foreach_lerp_(floats, targets, 1 - decay)


def _validate(task: Trainee, average: dict[str, Tensor], device: torch.device) -> dict[str, float]:
    network = task.create().to(device)
    network.load_state_dict(average)
    with torch.inference_mode():
        return {name: round(float(value), 6) for name, value in task.validate(network.eval()).items()}


@dataclass(frozen=True)
class _Run:
    """What a checkpoint holds; ``resume`` loads it in place."""

    folder: Path
    settings: LoopSettings
    network: nn.Module
    companions: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    average: dict[str, Tensor]

    def save(self, step: int, seconds: float) -> None:
        """Write a whole checkpoint or none."""
        first, *others = (optimiser.state_dict() for optimiser in self.optimisers)
        state = {
            "settings": self.settings.model_dump(mode="json"),
            "network": self.network.state_dict(),
            "companions": self.companions.state_dict(),
            "optimiser": first,
            "other_optimisers": others,
            "average": self.average,
            "step": step,
            "seconds": seconds,
        }
        with whole_file(self.folder / "checkpoint.pt") as draft:
            torch.save(state, draft)

    def resume(self, device: torch.device) -> tuple[int, float]:
        """Load the folder's checkpoint, if any; the step and the seconds that it stands at."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return 0, 0.0
        state = torch.load(path, map_location=device, weights_only=True)
        pace = {"log_every", "checkpoint_seconds", "validate_seconds"}
        mine = self.settings.model_dump(mode="json", exclude=pace)
        try:
            theirs = type(self.settings)(**state["settings"]).model_dump(mode="json", exclude=pace)
        except ValidationError as error:
            raise InputError(
                "a checkpoint of another version or task", "a checkpoint of this training, or another folder", path
            ) from error
        if mine != theirs:
            changed = sorted(key for key in mine if mine[key] != theirs[key])
            found = f"a checkpoint with other settings ({', '.join(changed)})"
            raise InputError(found, "the same settings, or another folder", path)
        self.network.load_state_dict(state["network"])
        # Checkpoints from before there were companions have none.
        self.companions.load_state_dict(state.get("companions", {}))
        others = state.get("other_optimisers", [])
        for optimiser, content in zip(self.optimisers, [state["optimiser"], *others], strict=True):
            optimiser.load_state_dict(content)
        for key, value in state["average"].items():
            self.average[key].copy_(value)
        return int(state["step"]), float(state["seconds"])
