"""Training of conditional diffusion: the clean image behind a state at any of 1,000 steps, with a degraded image beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.restorers.learned import sample_conditional
from srh_clinic.restorers.networks import ConditionalOverlapUNet, create_conditional
from srh_clinic.rscd.calibrator import Gain, q_sample
from srh_clinic.rscd.schedule import TOTAL_STEPS, TRAINED_STEPS, ScheduleName, create_schedule
from srh_clinic.training.augmentation import CleanImageSettings, clean_images
from srh_clinic.training.pool import open_pool, phantom_pairs


class ConditionalDiffusionSettings(CleanImageSettings):
    """Configuration of conditional diffusion's training (``configs/conditional_diffusion.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "conditional-overlap-unet"})
    """Description for :func:`srh_clinic.restorers.networks.create_conditional`."""
    schedule: ScheduleName = "cosine"
    condition_t_max: int = Field(default=TRAINED_STEPS, gt=0, le=TOTAL_STEPS)
    """Indices of the condition's noise are drawn from 0 .. condition_t_max - 1 (the paper's T')."""
    condition_gain: Gain = "unit"
    """The paper conditions on ``q_sample``, a ``"state"``; what the network is shown at use has its signal at gain 1."""
    validation_steps: tuple[int, ...] = (50, 200, 500, 800)
    validation_size: int = Field(default=128, gt=0)
    validation_phantoms: int = Field(default=8, gt=0)
    validation_evaluations: int = Field(default=20, gt=0)
    """Evaluations of the network with which phantoms are restored in the validation."""


class ConditionalDiffusionTask:
    """Conditional diffusion's :class:`~srh_clinic.training.loop.Task` (Saharia et al. 2022, as Lyu et al. 2025 use it)."""

    name = "conditional_diffusion"

    def __init__(self, settings: ConditionalDiffusionSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.schedule = create_schedule(settings.schedule)
        self.description = {**settings.network, "schedule": settings.schedule}
        self.pool = open_pool(data, folder, device, settings)
        self.held_out = 2 * self.pool.held_out(settings.validation_size) - 1
        self.phantoms = phantom_pairs(settings.validation_phantoms, settings.validation_size, device)

    def create(self) -> nn.Module:
        return create_conditional(self.description)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Mean squared error, in units of :meth:`~srh_clinic.restorers.networks.ConditionalOverlapUNet.spread`.

        Every other condition at gain 1 is clipped to the range of a detector.
        """
        settings = self.settings
        x0 = clean_images(self.pool, settings, rng)
        count = len(x0)
        t = torch.randint(0, TOTAL_STEPS, (count,), device=self.device)
        condition_t = torch.randint(0, settings.condition_t_max, (count,), device=self.device)
        condition = q_sample(x0, condition_t, torch.randn_like(x0), self.schedule, settings.condition_gain)
        if settings.condition_gain == "unit":
            condition[::2].clamp_(-1, 1)
        x = q_sample(x0, t, torch.randn_like(x0), self.schedule)
        return self._error(network, x, condition, t, x0)

    def _error(self, network: nn.Module, x: Tensor, condition: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        spread = cast(ConditionalOverlapUNet, network).spread(t).view(-1, 1, 1, 1)
        return F.mse_loss(network(x, condition, t).float() / spread, x0 / spread)

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.description, {}

    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss by ``validation_steps``, with conditions at index 100; PSNR of degraded phantoms."""
        generator = torch.Generator().manual_seed(0)
        noise, other = (torch.randn(self.held_out.shape, generator=generator).to(self.device) for _ in range(2))
        condition_t = torch.full((len(noise),), 100, device=self.device)
        condition = q_sample(self.held_out, condition_t, other, self.schedule, self.settings.condition_gain)
        measures = {}
        for step in self.settings.validation_steps:
            t = torch.full((len(noise),), step, device=self.device)
            inputs = (q_sample(self.held_out, t, noise, self.schedule), condition, t, self.held_out)
            parts = [self._error(network, *four) for four in zip(*(one.split(16) for one in inputs), strict=True)]
            measures[f"mse_t{step}"] = float(torch.stack(parts).mean())
        degraded = self.phantoms.degraded
        places = [(0, self.settings.validation_size * i) for i in range(len(degraded))]
        evaluations = self.settings.validation_evaluations
        restored = sample_conditional(network, degraded, places, 0, schedule=self.schedule, evaluations=evaluations)
        return measures | self.phantoms.measures(restored)
