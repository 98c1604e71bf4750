"""Training of the denoiser: predict the noise of a diffusion's state, for the first ``t_max`` of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.intensity import model_to_unit
from srh_clinic.rscd.calibrator import q_sample
from srh_clinic.rscd.networks import create_denoiser
from srh_clinic.rscd.schedule import TOTAL_STEPS, TRAINED_STEPS, ScheduleName, create_schedule
from srh_clinic.training.noise import STRUCTURED, NoiseKind, mixed_with_structure
from srh_clinic.training.pool import PoolSettings, augment, open_pool


class DenoiserSettings(PoolSettings):
    """Configuration of the denoiser's training (``configs/denoiser.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "compact-unet"})
    """Description for :func:`srh_clinic.rscd.networks.create_denoiser`."""
    schedule: ScheduleName = "cosine"
    t_max: int = Field(default=TRAINED_STEPS, gt=0, le=TOTAL_STEPS)
    """Indices are drawn from 0 .. t_max - 1 (the paper's T')."""
    loss: Literal["mse", "l1"] = "mse"
    """On epsilon; ``"l1"`` is the released code's."""
    batch_size: int = Field(default=16, gt=0)
    structured_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches in which a part of the noise is not white (:func:`mixed_with_structure`). The paper has none."""
    structured_kinds: tuple[NoiseKind, ...] = Field(default=STRUCTURED, min_length=1)
    """What that part may be. Noise that is correlated like fine tissue ("smooth") teaches to take fine tissue away."""
    crop_sizes: tuple[int, ...] = (64, 80, 96)
    """Edge of the crops, one drawn for each batch."""
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
        size = int(rng.choice(settings.crop_sizes))
        x0 = 2 * augment(self.pool.random_crops(rng, settings.batch_size, size)) - 1
        t = torch.randint(0, settings.t_max, (settings.batch_size,), device=self.device)
        noise = torch.randn_like(x0)
        if settings.structured_share and rng.random() < settings.structured_share:
            noise = mixed_with_structure(noise, x0, rng, settings.structured_kinds)
        state = q_sample(x0, t, noise, self.schedule)
        if settings.channels_last:
            state = state.contiguous(memory_format=torch.channels_last)
        predicted = network(state, t).float()
        return F.mse_loss(predicted, noise) if settings.loss == "mse" else F.l1_loss(predicted, noise)

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {"schedule": self.settings.schedule}

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
