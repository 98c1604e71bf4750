"""Restorative Step-Calibrated Diffusion (RSCD), Algorithm 1 of the paper, over a stream of tiles.

A calibrator says which step of a diffusion a degraded tile resembles; the tile runs some reverse steps from there, is
calibrated again, and so on until nothing is left to remove; or, by the direct sampler, it runs them all in a few evaluations.
Every tile is at its own step: the networks see full batches of tiles at different steps, a finished tile leaves and the next
takes its place.

Three conventions matter and are easily confused:

* an index ``t`` counts from 0, and a state at index ``t`` has ``t + 1`` reverse steps before it;
* the calibrator names the index whose ``schedule.sigma`` is the noise in the image *as it stands*;
* a diffusion's state at ``t`` carries its image at a gain of ``sqrt(alpha_bar_t)``, a microscope's image has gain 1. With
  ``prescale`` the gain is followed: the calibrator sees ``x / gain``, the index taken is the one whose state has that noise
  once its gain is divided out (``schedule.index_of_sigma``), and the state is scaled to the gain of that index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from srh_clinic.inference import inference
from srh_clinic.intensity import Counts, counts_to_unit, model_to_unit, unit_to_counts, unit_to_model
from srh_clinic.resampling import block_mean
from srh_clinic.rscd.batches import require_finite, stack
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.sampler import Indices, ancestral, ddim, denoised, descent, mean_only, quadratic, reverse_variance
from srh_clinic.rscd.schedule import TOTAL_STEPS, Schedule
from srh_clinic.rscd.settings import RSCDSettings, SamplerName, Variance
from srh_clinic.rscd.tile import RestoredTile, Tile

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Model-space states ``(N, 2, H, W)`` and their indices, long ``(N,)``, to the noise in them, ``(N, 2, H, W)``."""

Calibrator = Callable[[Tensor], ArrayLike]
"""Model-space images ``(N, 2, H, W)`` to the index that each resembles, ``(N,)``, not rounded; NaN: no answer."""

Callback = Callable[[dict[str, Any]], None]
"""Called after each evaluation of the denoiser; see :meth:`RSCD.stream`."""


StopReason = Literal["completed", "clean", "round-limit", "step-limit", "single-round", "skipped", "no-estimate"]
"""Why a tile stopped.

``completed``
    Few steps were left and ran to the end without another calibration.
``clean``
    The calibrator saw no steps left.
``round-limit``
    The last allowed round ran all that was left.
``step-limit``
    It ran what the first calibration asked for and ``max_extra_steps`` more, and the calibrator still sees noise.
``single-round``
    Every step ran in one round, because ``sampler="direct"``, ``fixed_steps`` or ``recalibrate=False`` said so.
``skipped``
    The first prediction lay below ``skip_below``: the tile is left alone.
``no-estimate``
    The nonparametric estimator had no answer: the tile stays as it is at that look.
"""


EXPOSURE_SQUARE, EXPOSURE_SHARE = 8, 99.0
"""Edge in px of the squares whose mean is a place's brightness, and the percentile of them that is a tile's."""

FEW_STEPS = (5, 20)
"""Steps between which a tile goes from little noise to enough of it for :func:`kept_share` and :func:`understated`."""

UNDERSTATED = (0.88, 0.98)
"""Shares of the steps that the direct sampler runs, with little noise and with enough."""

LARGEST_EXPOSURE = 3.0
"""Empty glass is not brightened any further: there is nothing in it but noise."""


def exposure_gain(counts: Counts, exposure: float | None) -> float:
    """The factor that brings a tile to the brightness that the denoiser knows, from 1 to :data:`LARGEST_EXPOSURE`.

    What was absorbed or scattered on the way is missing from all of the signal, so a dark tile is a bright one at a smaller
    scale. To a denoiser of bright tissue its texture is too faint to be tissue, and is taken for noise; brightened, it is not.

    Parameters
    ----------
    counts
        uint16 ``(2, H, W)``.
    exposure
        Counts that the brightest hundredth of its places, mean of both channels, is brought to; None leaves it as it is.
    """
    if exposure is None:
        return 1.0
    level = float(np.percentile(block_mean(counts, EXPOSURE_SQUARE).mean(axis=0), EXPOSURE_SHARE))
    return float(np.clip(exposure / max(level, 1.0), 1.0, LARGEST_EXPOSURE))


def kept_share(steps: int) -> float:
    """Of the first evaluation's CH3 - CH2 in a restored tile of so many steps, by the direct sampler.

    From 0 to 1 over :data:`FEW_STEPS`: little noise leaves little doubt, and there the last evaluation's is the better one.

    >>> kept_share(5), kept_share(8), kept_share(20)
    (0.0, 0.2, 1.0)
    """
    low, high = FEW_STEPS
    return min(max((steps - low) / (high - low), 0.0), 1.0)


def understated(steps: int) -> int:
    """How many of the steps that a calibration asks for the direct sampler runs: :data:`UNDERSTATED`, at least one.

    >>> understated(1), understated(8), understated(40)
    (1, 7, 39)
    """
    fewest, most = UNDERSTATED
    return max(round(steps * (fewest + (most - fewest) * kept_share(steps))), 1)


@dataclass(frozen=True)
class Round:
    """What one calibration decides: ``steps`` reverse steps from index ``t``, and whether the tile stops after them."""

    t: int
    steps: int
    stop_reason: StopReason | None = None


def plan_round(index: int, rounds: int, settings: RSCDSettings) -> Round:
    """Algorithm 1's decision after a calibration, for each profile.

    Parameters
    ----------
    index
        0-based index of the state; below 0 nothing is left to remove.
    rounds
        Rounds already run.
    """
    interval = settings.recalibration_interval
    single_round = settings.sampler == "direct" or settings.fixed_steps is not None or not settings.recalibrate
    last = rounds + 1 == settings.max_rounds
    official_end = settings.profile == "official" and not single_round and (index < interval or last)
    steps = min(index + 3, TOTAL_STEPS) if official_end else index + 1
    if steps <= 0:
        return Round(t=-1, steps=0, stop_reason="clean")
    if single_round:
        if settings.sampler == "direct" and settings.understate and settings.fixed_steps is None:
            steps = understated(steps)
        return Round(t=steps - 1, steps=steps, stop_reason="single-round")
    if official_end or (settings.profile == "paper-text" and steps < interval):
        return Round(t=steps - 1, steps=steps, stop_reason="completed" if index < interval else "round-limit")
    if last:
        return Round(t=steps - 1, steps=steps, stop_reason="round-limit")
    return Round(t=steps - 1, steps=min(steps, interval))


@dataclass(eq=False)
class _TileState:
    """A tile under way: its state ``x`` in model space ``(2, H, W)``, which carries its image at ``gain``."""

    tile: Tile
    x: Tensor
    exposure: float = 1.0
    """What the tile's counts were multiplied by."""
    gain: float = 1.0
    path: list[int] = field(default_factory=list)
    """Indices of the round still to go; the first is the state's own, the last is where the round ends."""
    stop_reason: StopReason | None = None
    t_pred: int = -1
    asked: int = 0
    """Steps that the first calibration asked for, after the cap."""
    steps: int = 0
    rounds: int = 0
    evaluations: int = 0
    flags: set[str] = field(default_factory=set)
    difference: Tensor | None = None
    """CH3 - CH2 of the first evaluation's clean image, ``(H, W)``, when the restored one is to have a share of it."""

    @property
    def in_round(self) -> bool:
        return len(self.path) > 1

    @property
    def in_last_of_several(self) -> bool:
        """Whether the next evaluation ends a round of more than one."""
        return len(self.path) == 2 and self.evaluations > 0


@dataclass(frozen=True, eq=False)
class RSCD:
    """Algorithm 1 of the paper.

    Parameters
    ----------
    denoiser
        Predicts the noise in a state; any callable, a network in evaluation mode or a closed form.
    calibrator
        Predicts the index that an image resembles; not called with ``fixed_steps``. NaN, no answer, is taken only of an
        estimator that ``settings.estimator`` calls nonparametric.
    schedule
        The schedule that both were trained with.
    settings
        How to run.
    device, dtype
        Where and how precisely states are kept.
    noise
        Source of the ancestral sampler's noise, called as :func:`~srh_clinic.rscd.noise.block_noise` is.
    """

    denoiser: Denoiser
    calibrator: Calibrator
    schedule: Schedule
    settings: RSCDSettings = field(default_factory=RSCDSettings)
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    noise: Callable[..., NDArray[Any]] = block_noise

    def stream(self, tiles: Iterable[Tile], seed: int = 0, callback: Callback | None = None) -> Iterator[RestoredTile]:
        """Restore tiles as they come; each is handed on as soon as it is finished, which is not the order they came in.

        At most twice ``batch_size`` tiles are held at a time, so that both networks see full batches: some wait for the
        calibrator until a batch of them has gathered, the others run.

        Parameters
        ----------
        tiles
            All of one size.
        seed
            Of the noise, 0 to 2**64 - 1.
        callback
            Called after each evaluation with ``keys`` (list), ``rounds`` (rounds run before, ``(N,)``), ``t`` and ``t_next``
            (int64 ``(N,)``), ``x``, ``denoised`` and ``x_next`` (model-space states, ``(N, 2, H, W)``) and ``gain`` of
            ``x_next`` (float64 ``(N,)``).

        Raises
        ------
        InputError
            When tiles differ in size, or a network answers with values that are not finite.
        """
        source = iter(tiles)
        size = self.settings.batch_size
        waiting: deque[_TileState] = deque()
        running: list[_TileState] = []
        while True:
            room = 2 * size - len(waiting) - len(running)
            waiting.extend(self._begin(tile) for tile in islice(source, room))
            if not waiting and not running:
                return
            if len(waiting) >= size or not running:
                calibrated = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                self._calibrate(calibrated)
                running.extend(one for one in calibrated if one.in_round)
                yield from (self._retire(one, one.stop_reason) for one in calibrated if one.stop_reason and not one.in_round)
            if batch := running[:size]:
                self._evaluate(batch, seed, callback)
                ended = [one for one in batch if not one.in_round]
                yield from (self._retire(one, one.stop_reason) for one in ended if one.stop_reason)
                waiting.extend(one for one in ended if not one.stop_reason)
                running = [one for one in batch if one.in_round] + running[size:]

    def _begin(self, tile: Tile) -> _TileState:
        exposure = exposure_gain(tile.counts, self.settings.exposure)
        x = unit_to_model(counts_to_unit(tile.counts) * np.float32(exposure))
        return _TileState(tile, torch.as_tensor(x, dtype=self.dtype, device=self.device), exposure)

    @inference()
    def _calibrate(self, batch: Sequence[_TileState]) -> None:
        """Give each tile its next round, or a reason to stop."""
        for one, t_pred in zip(batch, self._predict(batch), strict=True):
            if t_pred is None:
                one.stop_reason = "no-estimate"
                one.flags.add("no-estimate")
                continue
            if one.rounds == 0:
                one.t_pred = t_pred
                if t_pred < self.settings.skip_below:
                    one.stop_reason = "skipped"
                    one.flags.add("skipped")
                    continue
            index = self._index(one, t_pred)
            if one.rounds == 0:
                one.asked = index + 1
            left = self._steps_left(one)
            if left == 0 and index >= 0:
                one.stop_reason = "step-limit"
                continue
            plan = plan_round(min(index, left - 1), one.rounds, self.settings)
            one.stop_reason = plan.stop_reason
            if plan.steps:
                one.path = self._path(plan)
                if self.settings.prescale:
                    self._scale(one, float(np.sqrt(self.schedule.alpha_bar[plan.t])))

    def _predict(self, batch: Sequence[_TileState]) -> list[int | None]:
        """The index that each image, at a gain of 1, resembles; None where the nonparametric estimator has no answer."""
        if self.settings.fixed_steps is not None:
            return [self.settings.fixed_steps - 1] * len(batch)
        images = stack([one.x / one.gain for one in batch])
        t_pred = np.asarray(self.calibrator(images), dtype=np.float64)
        if self.settings.estimator == "calibrator":
            require_finite(bool(np.isfinite(t_pred).all()), "the calibrator")
        whole = np.trunc(t_pred) if self.settings.profile == "official" else np.rint(t_pred)
        return [None if np.isnan(index) else int(index) for index in whole]

    def _index(self, one: _TileState, t_pred: int) -> int:
        """Index of the state that a predicted index stands for."""
        if self.settings.fixed_steps is not None:
            return t_pred
        if t_pred > self.settings.cap:
            one.flags.add("capped")
            t_pred = self.settings.cap
        if self.settings.prescale and t_pred >= 0:
            return int(self.schedule.index_of_sigma(self.schedule.sigma[t_pred]))
        return t_pred

    def _steps_left(self, one: _TileState) -> int:
        """Steps that a tile may still run."""
        if self.settings.max_extra_steps is None:
            return TOTAL_STEPS
        return max(one.asked + self.settings.max_extra_steps - one.steps, 0)

    def _path(self, plan: Round) -> list[int]:
        """Indices at which a round is evaluated, and where it ends."""
        if self.settings.sampler == "direct":
            return quadratic(plan.t, plan.steps, self.settings.evaluations)
        return descent(plan.t, plan.steps, self.settings.ddim_stride if self.settings.sampler == "ddim" else 1)

    @staticmethod
    def _scale(one: _TileState, gain: float) -> None:
        one.x = one.x * (gain / one.gain)
        one.gain = gain

    @inference()
    def _evaluate(self, batch: Sequence[_TileState], seed: int, callback: Callback | None) -> None:
        """Bring each tile of the batch one evaluation further."""
        x = stack([one.x for one in batch])
        t, t_next = (np.array([one.path[i] for one in batch], dtype=np.int64) for i in (0, 1))
        turning = self.settings.sampler == "direct" and self.settings.turn_last
        turned = [turning and one.in_last_of_several for one in batch]
        eps = noise_of(self.denoiser, x, torch.as_tensor(t, device=x.device), turned)
        height, width = x.shape[-2:]

        def draw(i: int, step: int) -> NDArray[Any]:
            one = batch[i]
            return self.noise(seed, one.tile.y, one.tile.x, height, width, round=one.rounds, step=step)

        x_next = reverse_step(x, eps, t, t_next, self.schedule, self.settings.sampler, self.settings.variance, draw)
        gain = np.sqrt(self.schedule.alpha_bar_at(t_next)) if self.settings.prescale else np.ones(len(batch))
        if callback is not None:
            callback(
                {
                    "keys": [one.tile.key for one in batch],
                    "rounds": np.array([one.rounds for one in batch]),
                    "t": t,
                    "t_next": t_next,
                    "x": x,
                    "denoised": denoised(x, eps, t, self.schedule),
                    "x_next": x_next,
                    "gain": gain,
                }
            )
        if self.settings.sampler == "direct" and self.settings.keep_difference:
            self._keep_difference(batch, x, eps, t)
        for i, one in enumerate(batch):
            # A view would keep the whole batch alive for as long as its slowest tile.
            one.x, one.gain = x_next[i].clone(), float(gain[i])
            one.steps += int(t[i] - t_next[i])
            one.evaluations += 1
            one.path = one.path[1:]
            one.rounds += not one.in_round

    def _keep_difference(self, batch: Sequence[_TileState], x: Tensor, eps: Tensor, t: Indices) -> None:
        """Keep CH3 - CH2 of the clean images at the first of several evaluations; after the only one it stands already."""
        first = [i for i, one in enumerate(batch) if one.evaluations == 0 and len(one.path) > 2 and kept_share(one.asked)]
        if not first:
            return
        clean = denoised(x[first], eps[first], t[first], self.schedule)
        for i, image in zip(first, clean, strict=True):
            gain = 1.0 if self.settings.prescale else float(np.sqrt(self.schedule.alpha_bar[t[i]]))
            batch[i].difference = (image[1] - image[0]) * gain

    def _retire(self, one: _TileState, stop_reason: StopReason) -> RestoredTile:
        clean = one.x / one.gain
        if one.difference is not None:
            difference = torch.lerp(clean[1] - clean[0], one.difference, kept_share(one.asked))
            clean = clean.mean(dim=0) + torch.stack([-difference / 2, difference / 2])
        image = clean.cpu().numpy()
        require_finite(bool(np.isfinite(image).all()), "the denoiser")
        return RestoredTile(
            key=one.tile.key,
            counts=unit_to_counts(model_to_unit(image) / np.float32(one.exposure)),
            t_pred=one.t_pred,
            steps=one.steps,
            rounds=one.rounds,
            stop_reason=stop_reason,
            flags=tuple(sorted(one.flags)),
            evaluations=one.evaluations,
        )


def noise_of(denoiser: Denoiser, x: Tensor, t: Tensor, turned: Sequence[bool]) -> Tensor:
    """The noise ``(N, 2, H, W)`` that a denoiser finds in states; those that are ``turned`` it is shown transposed."""
    sides = torch.tensor(turned, device=x.device)
    if not sides.any():
        return denoiser(x, t)
    if x.shape[-1] == x.shape[-2]:
        where = sides[:, None, None, None]
        eps = denoiser(torch.where(where, x.mT, x), t)
        return torch.where(where, eps.mT, eps)
    # Images that are no squares have another shape on their side: two calls.
    eps = torch.empty_like(x)
    for part, turn in ((~sides, False), (sides, True)):
        if part.any():
            seen = denoiser(x[part].mT if turn else x[part], t[part])
            eps[part] = seen.mT if turn else seen
    return eps


def reverse_step(
    x: Tensor,
    eps: Tensor,
    t: Indices,
    t_next: Indices,
    schedule: Schedule,
    sampler: SamplerName,
    variance: Variance,
    draw: Callable[[int, int], NDArray[Any]],
) -> Tensor:
    """One step of a sampler by name; see :mod:`srh_clinic.rscd.sampler` for the arguments.

    ``draw`` gives the noise ``(2, H, W)`` of the sample at a place of the batch, at its index; it is called only where noise
    is added.
    """
    if sampler in ("direct", "ddim"):
        return ddim(x, eps, t, t_next, schedule)
    if sampler == "mean":
        return mean_only(x, eps, t, t_next, schedule)
    noise = np.zeros(tuple(x.shape), dtype=np.float32)
    added = reverse_variance(schedule, variance)
    for i, step in enumerate(t.tolist()):
        if added[step] > 0:
            noise[i] = draw(i, step)
    return ancestral(x, eps, t, t_next, schedule, torch.as_tensor(noise, dtype=x.dtype, device=x.device), variance)
