"""Training of the denoiser: predict the noise of a diffusion's state, for the first ``t_max`` of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.display import three_channel
from srh_clinic.intensity import model_to_counts, model_to_unit
from srh_clinic.metrics.lattice import lattices
from srh_clinic.rscd.calibrator import q_sample
from srh_clinic.rscd.networks import create_denoiser
from srh_clinic.rscd.schedule import TOTAL_STEPS, TRAINED_STEPS, ScheduleName, create_schedule
from srh_clinic.training.augmentation import CleanImageSettings, clean_images
from srh_clinic.training.noise import STRUCTURED, NoiseKind, instrument_noise, mixed_with_structure
from srh_clinic.training.pool import open_pool
from srh_clinic.training.processes import processes


class DenoiserSettings(CleanImageSettings):
    """Configuration of the denoiser's training (``configs/denoiser.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "compact-unet"})
    """Description for :func:`srh_clinic.rscd.networks.create_denoiser`."""
    schedule: ScheduleName = "cosine"
    t_max: int = Field(default=TRAINED_STEPS, gt=0, le=TOTAL_STEPS)
    """Indices are drawn from 0 .. t_max - 1 (the paper's T')."""
    loss: Literal["mse", "l1", "psnr"] = "mse"
    """On epsilon; ``"l1"`` is the released code's, ``"psnr"`` is :func:`log_error`."""
    lattice_weight: float = Field(default=0.0, ge=0)
    """Weight of :func:`lattice_error` beside the loss."""
    log_sigma_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the indices drawn evenly in log sigma, as Karras et al. (2022) advise for small noise; the others are drawn
    evenly."""
    step_error: float = Field(default=0.0, ge=0)
    """Standard deviation of log sigma by which the index that the network is told is off: a calibrator is, too."""
    structured_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches in which a part of the noise is not white (:func:`mixed_with_structure`). The paper has none."""
    structured_kinds: tuple[NoiseKind, ...] = Field(default=STRUCTURED, min_length=1)
    """What that part may be. Noise that is correlated like fine tissue ("smooth") teaches to take fine tissue away."""
    instrument_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches with a microscope's noise (:func:`instrument_noise`)."""
    clipped_share: float = Field(default=0.0, ge=0, le=1)
    """Share of images whose noise a detector cut off at zero counts and at full scale."""
    validation_steps: tuple[int, ...] = (10, 34, 100, 190)
    validation_size: int = 128


class DenoiserTask:
    """The denoiser's :class:`~srh_clinic.training.loop.Task`."""

    name = "denoiser"

    def __init__(self, settings: DenoiserSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.schedule = create_schedule(settings.schedule)
        self.pool = open_pool(data, folder, device, settings)
        self.held_out = 2 * self.pool.held_out(settings.validation_size) - 1

    def create(self) -> nn.Module:
        return create_denoiser(self.settings.network)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        settings = self.settings
        x0 = clean_images(self.pool, settings, rng)
        t = self._indices(len(x0))
        noise = torch.randn_like(x0)
        if settings.structured_share and rng.random() < settings.structured_share:
            noise = mixed_with_structure(noise, x0, rng, settings.structured_kinds)
        if settings.instrument_share and rng.random() < settings.instrument_share:
            noise = instrument_noise(x0, rng)
        if settings.clipped_share:
            noise = self._clipped(x0, t, noise)
        state = q_sample(x0, t, noise, self.schedule)
        if settings.step_error:
            state, noise, t = self._mistaken(state, x0, t)
        state, noise, t = processes().share(state, noise, t)
        if settings.channels_last:
            state = state.contiguous(memory_format=torch.channels_last)
        error = network(state, t).float() - noise
        penalty = settings.lattice_weight * lattice_error(error) if settings.lattice_weight else 0.0
        if settings.loss == "psnr":
            return log_error(error) + penalty
        return (error.square() if settings.loss == "mse" else error.abs()).mean() + penalty

    def _indices(self, count: int) -> Tensor:
        """Step indices, long ``(count,)``."""
        settings = self.settings
        even = torch.randint(0, settings.t_max, (count,), device=self.device)
        if not settings.log_sigma_share:
            return even
        log_sigma = torch.from_numpy(np.log(self.schedule.noise_to_signal[: settings.t_max])).to(self.device)
        drawn = log_sigma[0] + (log_sigma[-1] - log_sigma[0]) * torch.rand(count, device=self.device)
        nearest = torch.searchsorted(log_sigma, drawn).clamp(max=settings.t_max - 1)
        return torch.where(torch.rand(count, device=self.device) < settings.log_sigma_share, nearest, even)

    def _clipped(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The noise that is left where a detector's range ends."""
        sigma = torch.from_numpy(self.schedule.noise_to_signal).to(x0)[t][:, None, None, None]
        clipped = ((x0 + sigma * noise).clamp(-1, 1) - x0) / sigma
        chosen = torch.rand(len(x0), 1, 1, 1, device=x0.device) < self.settings.clipped_share
        return torch.where(chosen, clipped, noise)

    def _mistaken(self, state: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The states as they are at an index that is a little off, the noise in them counted in its sigma, and that index."""
        sigma = torch.from_numpy(self.schedule.noise_to_signal).to(self.device)
        off = sigma[t] * torch.exp(self.settings.step_error * torch.randn(len(t), device=self.device))
        told = torch.searchsorted(sigma, off).clamp(max=len(sigma) - 1)
        root = torch.from_numpy(np.sqrt(self.schedule.alpha_bar)).to(state)
        state = state * (root[told] / root[t])[:, None, None, None]
        noise = (state / root[told][:, None, None, None] - x0) / sigma.to(state)[told][:, None, None, None]
        return state, noise, told

    @property
    def seconds_reading(self) -> float | None:
        """Seconds that were spent on reading images; ``None`` of tiles that lie in a pool."""
        return getattr(self.pool, "seconds_reading", None)

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {"schedule": self.settings.schedule}

    @torch.inference_mode()
    def panel(self, network: nn.Module, most: int = 4) -> NDArray[np.uint8]:
        """Held-out images with noise, restored in one evaluation, and as they are: RGB ``(rows, columns, 3)``."""
        x0 = self.held_out[:most]
        step = self.settings.validation_steps[len(self.settings.validation_steps) // 2]
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        t = torch.full((len(x0),), step, device=self.device)
        state = q_sample(x0, t, noise, self.schedule)
        root = float(np.sqrt(self.schedule.alpha_bar[step]))
        clean = (state - self.schedule.sigma[step] * network(state, t)) / root
        shown = (images.cpu().numpy() for images in (state / root, clean, x0))
        rows = [[three_channel(model_to_counts(one), "rscd") for one in images] for images in shown]
        picture = np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)
        return np.rint(255 * picture).astype(np.uint8).transpose(1, 2, 0)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean squared error on epsilon and PSNR in unit intensity (dB) of the one-step mean, by ``validation_steps``."""
        measures = {}
        noise = torch.randn(self.held_out.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        for step in self.settings.validation_steps:
            t = torch.full((len(noise),), step, device=self.device)
            state = q_sample(self.held_out, t, noise, self.schedule)
            predicted = torch.cat([network(*pair) for pair in zip(state.split(16), t.split(16), strict=True)])
            measures[f"mse_t{step}"] = float(F.mse_loss(predicted, noise))
            clean = (state - self.schedule.sigma[step] * predicted) / np.sqrt(self.schedule.alpha_bar[step])
            error = model_to_unit(clean.cpu().numpy()) - model_to_unit(self.held_out.cpu().numpy())
            measures[f"psnr_t{step}"] = float(np.mean(-10 * np.log10(np.mean(error**2, axis=(1, 2, 3)))))
        return measures


def log_error(error: Tensor) -> Tensor:
    """Mean over images of the logarithm of their squared error, of the channels and, by half, of their difference.

    What PSNR is the mean of, so no step outweighs another: plain squared errors on epsilon leave the noisiest steps, where
    little is left of it, without a say. The difference CH3 - CH2 is what histology reads; from channels that are taken for
    alike it comes out empty.

    Parameters
    ----------
    error
        Of epsilon, ``(N, 2, H, W)``.
    """
    least = 0.004  # what an empty image leaves counts no more than this
    channels = error.square().mean(dim=(1, 2, 3))
    difference = (error[:, 1] - error[:, 0]).square().mean(dim=(1, 2)) / 2
    return (torch.log(channels + least) + 0.5 * torch.log(difference + least)).mean() / 1.5


def lattice_error(error: Tensor) -> Tensor:
    """How far the batch's errors have patterns of period 2 in common, squared; about 6 where they have none.

    The means of the errors over the batch's pixels, signed by each of the three patterns in each channel, in units of their
    standard error if the error is white.

    Parameters
    ----------
    error
        ``(N, 2, H, W)``, H and W even.
    """
    height, width = error.shape[-2:]
    patterns = torch.from_numpy(lattices(height, width)).to(error)
    amplitudes = (error[:, :, None] * patterns).mean(dim=(0, 3, 4))
    return amplitudes.square().sum() * len(error) * height * width / error.square().mean().detach()
