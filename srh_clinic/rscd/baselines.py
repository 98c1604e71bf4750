"""Reverse diffusions that RSCD is compared with: the same denoiser, another way to begin, no second look.

Both keep RSCD's promises: noise belongs to a place on the slide, and a result does not depend on batch size or order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from srh_clinic.inference import inference
from srh_clinic.intensity import counts_to_model, model_to_counts
from srh_clinic.rscd.calibrator import q_sample
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import Denoiser, RestoredTile, Tile, require_finite, reverse_step, stack
from srh_clinic.rscd.sampler import Variance, descent
from srh_clinic.rscd.schedule import TOTAL_STEPS, Schedule

LowPassName = Literal["official", "corrected"]

PULL = 0.05
"""Share of the low-passed input that RRD mixes in at each reverse step."""

CUTOFF = 0.25
"""Highest frequency that the two-dimensional low-pass keeps along either axis, in cycles a pixel: half of what there is."""

FORWARD_ROUND = 1
"""Round under which CCDF draws the noise it begins with; its reverse steps draw theirs under round 0."""


class ReverseSettings(BaseModel):
    """How a reverse diffusion steps; see :class:`~srh_clinic.rscd.restoration.RSCDSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["ancestral", "ddim"] = "ddim"
    """Reverse step: the published one, or the deterministic one with an evaluation per ``ddim_stride`` steps."""
    variance: Variance = "posterior"
    """Noise variance of an ancestral step."""
    ddim_stride: int = Field(default=4, ge=1)
    """Reverse steps to one evaluation of the denoiser, for ``sampler="ddim"``."""
    batch_size: int = Field(default=8, ge=1)
    """Tiles in one evaluation; it changes no result but by float rounding."""

    @property
    def stride(self) -> int:
        """Reverse steps to one evaluation."""
        return self.ddim_stride if self.sampler == "ddim" else 1


class CCDFSettings(ReverseSettings):
    """How CCDF runs."""

    t0: int = Field(default=50, ge=1, le=TOTAL_STEPS)
    """Steps of noise that are added and taken away again. Neither paper states it; 25, 50, 100 and 200 are worth a sweep."""


class RRDSettings(ReverseSettings):
    """How RRD runs. The defaults begin and regularise as the code released with RSCD does, whose numbers the paper's table
    gives; the sampler's default is RSCD's, where that code samples ancestrally."""

    low_pass: LowPassName = "official"  # noqa: S105 (a filter, no password)
    """What a state is pulled towards, see :func:`pull`; ``official`` takes contrast away, ``corrected`` does not."""
    prescale: bool = False
    """Follow the state's gain, as RSCD's ``prescale`` does; False takes the image as it is, as the released code does."""
    cap: int = Field(default=190, ge=0, lt=TOTAL_STEPS)
    """Largest index taken from the estimator; RSCD's, because the denoiser is trained no further."""


@dataclass(frozen=True, eq=False)
class CCDF:
    """Come-Closer-Diffuse-Faster (Chung, Sim and Ye 2022, CVPR): noise the input to step ``t0``, then reverse ``t0`` steps.

    The paper alternates reverse steps with a projection onto what was measured; a degradation that is not known has none, and
    what is left is its forward jump and the reverse diffusion, as in RSCD's comparison.

    Parameters
    ----------
    denoiser, schedule, settings, device, dtype, noise
        As of :class:`~srh_clinic.rscd.restoration.RSCD`.
    """

    denoiser: Denoiser
    schedule: Schedule
    settings: CCDFSettings = field(default_factory=CCDFSettings)
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    noise: Callable[..., NDArray[Any]] = block_noise

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """Restore tiles of one size, in their order and ``batch_size`` at a time.

        ``t_pred`` is -1, for nothing is calibrated, and the stop reason ``fixed-steps``.

        Raises
        ------
        InputError
            When tiles of a batch differ in size, or the denoiser answers with values that are not finite.
        """
        for batch in batches(tiles, self.settings.batch_size):
            yield from self._restore(batch, seed)

    @inference()
    def _restore(self, batch: Sequence[Tile], seed: int) -> list[RestoredTile]:
        y = images(batch, self.dtype, self.device)
        height, width = y.shape[-2:]

        def draw(i: int, step: int, round: int = 0) -> NDArray[Any]:
            return self.noise(seed, batch[i].y, batch[i].x, height, width, round=round, step=step)

        begin = self.settings.t0 - 1
        added = np.stack([draw(i, begin, FORWARD_ROUND) for i in range(len(batch))])
        x = q_sample(y, torch.full((len(batch),), begin, device=y.device), torch.as_tensor(added).to(y), self.schedule)
        path = descent(begin, self.settings.t0, self.settings.stride)
        for now, later in pairwise(path):
            t, t_next = np.full(len(batch), now, dtype=np.int64), np.full(len(batch), later, dtype=np.int64)
            eps = self.denoiser(x, torch.as_tensor(t, device=x.device))
            x = reverse_step(x, eps, t, t_next, self.schedule, self.settings.sampler, self.settings.variance, draw)
        restored = x.cpu().numpy()
        require_finite(bool(np.isfinite(restored).all()), "denoiser")
        return [
            RestoredTile(
                key=tile.key,
                counts=model_to_counts(image),
                t_pred=-1,
                steps=self.settings.t0,
                rounds=1,
                stop_reason="fixed-steps",
                flags=(),
                evaluations=len(path) - 1,
            )
            for tile, image in zip(batch, restored, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class RRD:
    """Regularized Reverse Diffusion (Chung, Lee and Ye 2023, IEEE TMI 42:922): the input is the state that its noise makes it.

    The nonparametric estimator names the index, no noise is added to begin with, and after every reverse step but the last
    the state is pulled towards the input's low frequencies. A DDIM step over several indices pulls as hard as all of them.

    Parameters
    ----------
    denoiser, schedule, settings, device, dtype, noise
        As of :class:`~srh_clinic.rscd.restoration.RSCD`.
    """

    denoiser: Denoiser
    schedule: Schedule
    settings: RRDSettings = field(default_factory=RRDSettings)
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    noise: Callable[..., NDArray[Any]] = block_noise

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """Restore tiles of one size, in their order and ``batch_size`` at a time.

        ``t_pred`` is the estimator's index and the stop reason ``single-round``. Where the estimator has no answer the tile
        is left alone, with ``no-estimate`` for its reason and flag; ``capped`` flags an index above the cap.

        Raises
        ------
        InputError
            When tiles of a batch differ in size, or the denoiser answers with values that are not finite.
        """
        for batch in batches(tiles, self.settings.batch_size):
            yield from self._restore(batch, seed)

    @inference()
    def _restore(self, batch: Sequence[Tile], seed: int) -> list[RestoredTile]:
        y = images(batch, self.dtype, self.device)
        height, width = y.shape[-2:]
        t_pred = index_of_noise(y, self.schedule)
        paths = [self._path(index) for index in t_pred]
        x, gain = y.clone(), np.ones(len(batch))
        if self.settings.prescale:
            gain = np.sqrt(self.schedule.alpha_bar_at(np.array([path[0] for path in paths])))
            x = x * torch.as_tensor(gain).to(x)[:, None, None, None]
        steps, evaluations = [path[0] + 1 for path in paths], [len(path) - 1 for path in paths]
        while active := [i for i, path in enumerate(paths) if len(path) > 1]:
            t, t_next = (np.array([paths[i][place] for i in active], dtype=np.int64) for place in (0, 1))

            def draw(place: int, step: int, active: list[int] = active) -> NDArray[Any]:
                tile = batch[active[place]]
                return self.noise(seed, tile.y, tile.x, height, width, round=0, step=step)

            now = x[active]
            eps = self.denoiser(now, torch.as_tensor(t, device=x.device))
            now = reverse_step(now, eps, t, t_next, self.schedule, self.settings.sampler, self.settings.variance, draw)
            if self.settings.prescale:
                gain = np.sqrt(self.schedule.alpha_bar_at(t_next))
            for place, i in enumerate(active):
                x[i] = now[place]
                if t_next[place] >= 0:
                    share = 1 - (1 - PULL) ** int(t[place] - t_next[place])
                    x[i] = pull(x[i], y[i] * float(gain[place]), share, self.settings.low_pass)
                paths[i] = paths[i][1:]
        restored = x.cpu().numpy()
        require_finite(bool(np.isfinite(restored).all()), "denoiser")
        return [
            RestoredTile(
                key=tile.key,
                counts=model_to_counts(restored[i]),
                t_pred=-1 if np.isnan(t_pred[i]) else int(t_pred[i]),
                steps=steps[i],
                rounds=int(steps[i] > 0),
                stop_reason="no-estimate" if np.isnan(t_pred[i]) else "single-round",
                flags=_flags(t_pred[i], self.settings.cap),
                evaluations=evaluations[i],
            )
            for i, tile in enumerate(batch)
        ]

    def _path(self, t_pred: float) -> list[int]:
        """Indices that a tile is evaluated at, down to -1; only -1 where there is no estimate."""
        if np.isnan(t_pred):
            return [-1]
        t = min(int(t_pred), self.settings.cap)
        if self.settings.prescale:
            t = int(self.schedule.index_of_sigma(self.schedule.sigma[t]))
        return descent(t, t + 1, self.settings.stride)


def pull(x: Tensor, y: Tensor, share: float, low_pass: LowPassName) -> Tensor:
    """A state drawn a little towards the low frequencies of the input, ``(..., H, W)``.

    ``official`` is ``(1 - share) x + share L(y)`` with the released code's :func:`one_sided_low_pass`, which halves nearly all
    of ``y``; ``corrected`` is ``x + share L(y - x)`` with :func:`two_sided_low_pass`, which leaves alone what agrees with
    ``y`` and all high frequencies.
    """
    if low_pass == "official":  # noqa: S105
        return (1 - share) * x + share * one_sided_low_pass(y)
    return x + share * two_sided_low_pass(y - x)


def one_sided_low_pass(image: Tensor) -> Tensor:
    """The first half of each row's discrete Fourier transform, transformed back; its real part, ``(..., H, W)``.

    Meant to keep the lower half of the frequencies, it keeps the positive ones: what comes back is
    ``image / 2 + DC / 2 - Nyquist / 2``, each row's own mean and alternating part.
    """
    spectrum = torch.fft.fft(image, dim=-1)
    spectrum[..., (image.shape[-1] + 1) // 2 :] = 0
    return torch.fft.ifft(spectrum, dim=-1).real


def two_sided_low_pass(image: Tensor) -> Tensor:
    """Frequencies below :data:`CUTOFF` along both axes, ``(..., H, W)``."""
    height, width = image.shape[-2:]
    rows = torch.fft.fftfreq(height, device=image.device).abs() < CUTOFF
    columns = torch.fft.rfftfreq(width, device=image.device) < CUTOFF
    kept = torch.fft.rfft2(image) * (rows[:, None] & columns)
    return torch.fft.irfft2(kept, s=(height, width))


def batches(tiles: Iterable[Tile], size: int) -> Iterator[list[Tile]]:
    """Tiles in their order, ``size`` at a time."""
    source = iter(tiles)
    while batch := list(islice(source, size)):
        yield batch


def images(batch: Sequence[Tile], dtype: torch.dtype, device: str | torch.device) -> Tensor:
    """Tiles in model space, ``(N, 2, H, W)``."""
    return stack([torch.as_tensor(counts_to_model(tile.counts), dtype=dtype, device=device) for tile in batch])


def _flags(t_pred: float, cap: int) -> tuple[str, ...]:
    if np.isnan(t_pred):
        return ("no-estimate",)
    return ("capped",) if t_pred > cap else ()
