"""Reverse diffusions that RSCD is compared with: the same denoiser, another way to begin, no second look.

Both keep RSCD's promises: noise belongs to a place on the slide, and a result does not depend on batch size or order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.inference import inference
from srh_clinic.intensity import Counts, model_to_counts
from srh_clinic.rscd.batches import batches, images, require_finite
from srh_clinic.rscd.calibrator import q_sample
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import Denoiser, reverse_step
from srh_clinic.rscd.sampler import Indices, descent
from srh_clinic.rscd.schedule import Schedule
from srh_clinic.rscd.settings import CCDFSettings, LowPassName, ReverseSettings, RRDSettings
from srh_clinic.rscd.tile import RestoredTile, Tile

PULL = 0.05
"""Share of the low-passed input that RRD mixes in at each reverse step."""

CUTOFF = 0.25
"""Highest frequency that the two-dimensional low-pass keeps along either axis, in cycles a pixel: half of what there is."""

FORWARD_ROUND = 1
"""Round under which CCDF draws the noise it begins with; its reverse steps draw theirs under round 0."""


@dataclass(frozen=True, eq=False)
class ReverseDiffusion(ABC):
    """A reverse diffusion that restores batches of tiles in their order.

    Parameters
    ----------
    denoiser, schedule, settings, device, dtype, noise
        As of :class:`~srh_clinic.rscd.restoration.RSCD`.
    """

    denoiser: Denoiser
    schedule: Schedule
    settings: ReverseSettings
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    noise: Callable[..., NDArray[Any]] = block_noise

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """Restore tiles of one size, in their order and ``batch_size`` at a time.

        Raises
        ------
        InputError
            When tiles of a batch differ in size, or the denoiser answers with values that are not finite.
        """
        for batch in batches(tiles, self.settings.batch_size):
            yield from self._restore(batch, seed)

    @abstractmethod
    def _restore(self, batch: Sequence[Tile], seed: int) -> list[RestoredTile]:
        """The tiles of a batch, restored."""

    def _step(self, x: Tensor, t: Indices, t_next: Indices, draw: Callable[[int, int], NDArray[Any]]) -> Tensor:
        """States one evaluation further; ``draw`` as of :func:`~srh_clinic.rscd.restoration.reverse_step`."""
        eps = self.denoiser(x, torch.as_tensor(t, device=x.device))
        return reverse_step(x, eps, t, t_next, self.schedule, self.settings.sampler, self.settings.variance, draw)

    @staticmethod
    def _counts(x: Tensor) -> Counts:
        """Counts of images in model space, ``(N, 2, H, W)`` both."""
        restored = x.cpu().numpy()
        require_finite(bool(np.isfinite(restored).all()), "the denoiser")
        return model_to_counts(restored)


@dataclass(frozen=True, eq=False)
class CCDF(ReverseDiffusion):
    """Come-Closer-Diffuse-Faster (Chung, Sim and Ye 2022, CVPR): noise the input to step ``t0``, then reverse ``t0`` steps.

    The paper alternates reverse steps with a projection onto what was measured; a degradation that is not known has none, and
    what is left is its forward jump and the reverse diffusion, as in RSCD's comparison.

    Of its tiles ``t_pred`` is -1, for nothing is calibrated, and the stop reason ``fixed-steps``.
    """

    settings: CCDFSettings = field(default_factory=CCDFSettings)

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
            x = self._step(x, np.full(len(batch), now, dtype=np.int64), np.full(len(batch), later, dtype=np.int64), draw)
        return [
            RestoredTile(
                key=tile.key,
                counts=counts,
                steps=self.settings.t0,
                rounds=1,
                stop_reason="fixed-steps",
                evaluations=len(path) - 1,
            )
            for tile, counts in zip(batch, self._counts(x), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class RRD(ReverseDiffusion):
    """Regularized Reverse Diffusion (Chung, Lee and Ye 2023, IEEE TMI 42:922): the input is the state that its noise makes it.

    The nonparametric estimator names the index, no noise is added to begin with, and after every reverse step but the last
    the state is pulled towards the input's low frequencies. A DDIM step over several indices pulls as hard as all of them.

    Of its tiles ``t_pred`` is the estimator's index and the stop reason ``single-round``. Where the estimator has no answer
    the tile is left alone, with ``no-estimate`` for its reason and flag; ``capped`` flags an index above the cap.
    """

    settings: RRDSettings = field(default_factory=RRDSettings)

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

            now = self._step(x[active], t, t_next, draw)
            if self.settings.prescale:
                gain = np.sqrt(self.schedule.alpha_bar_at(t_next))
            for place, i in enumerate(active):
                x[i] = now[place]
                if t_next[place] >= 0:
                    pulled = 1 - (1 - PULL) ** int(t[place] - t_next[place])
                    x[i] = pull(x[i], y[i] * float(gain[place]), pulled, self.settings.low_pass)
                paths[i] = paths[i][1:]
        return [
            RestoredTile(
                key=tile.key,
                counts=counts,
                t_pred=-1 if np.isnan(index) else int(index),
                steps=steps[i],
                rounds=int(steps[i] > 0),
                stop_reason="no-estimate" if np.isnan(index) else "single-round",
                flags=_flags(index, self.settings.cap),
                evaluations=evaluations[i],
            )
            for i, (tile, counts, index) in enumerate(zip(batch, self._counts(x), t_pred, strict=True))
        ]

    def _path(self, t_pred: float) -> list[int]:
        """Indices that a tile is evaluated at, down to -1; only -1 where there is no estimate."""
        if np.isnan(t_pred):
            return [-1]
        t = min(int(t_pred), self.settings.cap)
        if self.settings.prescale:
            t = int(self.schedule.index_of_sigma(self.schedule.sigma[t]))
        return descent(t, t + 1, self.settings.stride)


def pull(x: Tensor, y: Tensor, proportion: float, low_pass: LowPassName) -> Tensor:
    """A state drawn a little towards the low frequencies of the input, ``(..., H, W)``.

    ``official`` is ``(1 - p) x + p L(y)`` with the released code's :func:`one_sided_low_pass`, which halves nearly all
    of ``y``; ``corrected`` is ``x + p L(y - x)`` with :func:`two_sided_low_pass`, which leaves alone what agrees with
    ``y`` and all high frequencies.
    """
    if low_pass == "official":  # noqa: S105
        return (1 - proportion) * x + proportion * one_sided_low_pass(y)
    return x + proportion * two_sided_low_pass(y - x)


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


def _flags(t_pred: float, cap: int) -> tuple[str, ...]:
    if np.isnan(t_pred):
        return ("no-estimate",)
    return ("capped",) if t_pred > cap else ()
