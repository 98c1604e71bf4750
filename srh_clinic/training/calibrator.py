"""Training of the calibrator: how many steps of noise does an image carry?

Half of the images are diffusion states (signal scaled by ``sqrt(alpha_bar_t)``) and half keep their signal at gain 1, as the
sampler shows both. The target is always the index whose ``schedule.sigma`` is the noise in the image as it stands. Every other
image at gain 1 is clipped to the range of a detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.errors import InputError
from srh_clinic.rscd.calibrator import REGION_KINDS, q_sample, region_mask, two_region
from srh_clinic.rscd.networks import AttentionHead, StepRegressor, create_calibrator
from srh_clinic.rscd.schedule import ScheduleName, create_schedule
from srh_clinic.training.augmentation import CleanImageSettings, clean_images
from srh_clinic.training.noise import NoiseKind, instrument_noise, mixed_with_structure, unit_noise
from srh_clinic.training.pool import open_pool
from srh_clinic.training.processes import processes

VALIDATION_STEPS = (5, 20, 40, 70, 100, 150, 200)


class CalibratorSettings(CleanImageSettings):
    """Configuration of the calibrator's training (``configs/calibrator.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "step-regressor"})
    """Description for :func:`srh_clinic.rscd.networks.create_calibrator`."""
    schedule: ScheduleName = "cosine"
    t_max: int = Field(default=500, gt=0, lt=1000)
    """Indices are drawn from -1 .. t_max, both ends included; -1 is the clean image."""
    t_small: int = Field(default=100, gt=0)
    small_share: float = Field(default=0.4, ge=0, le=1)
    """Share of images whose index is drawn from -1 .. t_small instead, where restoration is most sensitive to it."""
    uniform_share: float = Field(default=0.4, ge=0, le=1)
    """Share of images with the same noise everywhere; the others have two regions."""
    structured_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches whose noise is a random mixture of white noise with a structured one (:func:`mixed_with_structure`).
    The paper has none; without any, the finest scale alone decides and noise without it is overlooked."""
    local_weight: float = Field(default=0.0, ge=0)
    """Weight of a second loss, on what each place of an attention head says of its own noise. The paper has none; the map of
    the noise is known in training, and each image then teaches a hundred places instead of one number."""
    instrument_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches with a microscope's noise (:func:`instrument_noise`): what is smeared along the rows is read too low by
    a calibrator that has not met it."""
    crop_sizes: tuple[int, ...] = (256,)
    """Edge of the crops, one drawn for each batch."""
    validation_steps: tuple[int, ...] = Field(default=VALIDATION_STEPS, min_length=1)
    """Indices whose predictions are measured; the largest is also the largest of the two regions'."""


class CalibratorTask:
    """The calibrator's :class:`~srh_clinic.training.loop.Task`."""

    name = "calibrator"

    def __init__(self, settings: CalibratorSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.schedule = create_schedule(settings.schedule)
        self.pool = open_pool(data, folder, device, settings)
        self.held_out = 2 * self.pool.held_out(min(self.pool.size, 256)) - 1

    def create(self) -> nn.Module:
        return create_calibrator(self.settings.network)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Squared error on the scale of :meth:`StepRegressor.latent`, of the image and, if asked, of its places."""
        settings = self.settings
        x0 = clean_images(self.pool, settings, rng)
        count, size = len(x0), x0.shape[-1]
        highest = np.where(rng.random(count) < settings.small_share, settings.t_small, settings.t_max)
        larger = rng.integers(-1, highest + 1)
        smaller = rng.integers(-1, larger + 1)
        uniform = rng.random(count) < settings.uniform_share
        masks = np.stack([region_mask(rng, size, str(rng.choice(REGION_KINDS))) for _ in range(count)])
        masks[uniform] = True
        t, t_small = torch.from_numpy(larger).to(self.device), torch.from_numpy(smaller).to(self.device)
        noise, mask = torch.randn_like(x0), torch.from_numpy(masks).to(self.device)
        if rng.random() < settings.structured_share:
            noise = mixed_with_structure(noise, x0, rng)
        if settings.instrument_share and rng.random() < settings.instrument_share:
            noise = instrument_noise(x0, rng)
        half, rest = slice(None, count // 2), slice(count // 2, None)
        states = two_region(x0[half], t[half], t_small[half], mask[half], noise[half], self.schedule, "state")
        images = two_region(x0[rest], t[rest], t_small[rest], mask[rest], noise[rest], self.schedule, "unit")
        images[::2].clamp_(-1, 1)
        if not isinstance(network, StepRegressor):
            raise TypeError(f"found a calibrator of type {type(network).__name__}; needed a StepRegressor.")
        shown, t, t_small, mask = processes().share(torch.cat([states, images]), t, t_small, mask)
        target = network.to_latent(t.float())
        if not settings.local_weight:
            return F.mse_loss(network.latent(shown).float(), target)
        if not isinstance(network.head, AttentionHead):
            raise InputError("a local_weight for a head that does not vote by place", "the head attention, or no local_weight")
        value, score = network.head.votes(network.features(shown))
        smaller_target = network.to_latent(t_small.float())
        target_map = torch.where(mask, target[:, None, None], smaller_target[:, None, None])
        places = F.adaptive_avg_pool2d(target_map[:, None], (value.shape[1], value.shape[2]))[:, 0]
        elected = network.head.elect(value, score)[:, 0]
        return F.mse_loss(elected.float(), target) + settings.local_weight * F.mse_loss(value.float(), places)

    @property
    def seconds_reading(self) -> float | None:
        """Seconds that were spent on reading images; ``None`` of tiles that lie in a pool."""
        return getattr(self.pool, "seconds_reading", None)

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {"schedule": self.settings.schedule}

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Accuracy on held-out tiles; see :func:`calibration_measures`."""
        return calibration_measures(network, self.held_out, self.settings.schedule, self.settings.validation_steps)


def calibration_measures(
    network: nn.Module,
    x0: Tensor,
    schedule_name: ScheduleName = "cosine",
    steps: Sequence[int] = VALIDATION_STEPS,
) -> dict[str, float]:
    """How well a calibrator predicts, on clean model-space images ``(N, 2, H, W)`` with fixed noise.

    Returns
    -------
    ``mae`` and ``bias`` over ``steps``, of white noise everywhere, and ``mae_t<step>`` at each;
    ``mae_state`` the same for states at gain ``sqrt(alpha_bar)``;
    ``two_region`` the share of images with ``t - t' >= 20`` whose prediction is nearer to the larger;
    ``clean`` the mean prediction on the images as they are;
    ``row_t100``, ``smooth_t100``, ``shot_t100`` the mean prediction for row-correlated, 3x3-smoothed, signal-dependent noise
    with the mean variance of ``t = 100`` (not targets: these say what the sampler will be told).
    """
    schedule = create_schedule(schedule_name)
    device = x0.device
    generator = torch.Generator().manual_seed(1)
    rng = np.random.default_rng(1)

    def predict(images: Tensor) -> Tensor:
        return torch.cat([network(chunk) for chunk in images.split(8)]).float().cpu()

    def draw(kind: NoiseKind) -> Tensor:
        return unit_noise(kind, x0.cpu(), generator).to(device)

    measures: dict[str, float] = {}
    errors: dict[str, list[Tensor]] = {"unit": [], "state": []}
    for step in steps:
        t = torch.full((len(x0),), step, device=device)
        noise = draw("white")
        errors["unit"].append(predict(q_sample(x0, t, noise, schedule, "unit").clamp(-1, 1)) - step)
        errors["state"].append(predict(q_sample(x0, t, noise, schedule, "state")) - step)
        measures[f"mae_t{step}"] = float(errors["unit"][-1].abs().mean())
    measures["mae"] = float(torch.cat(errors["unit"]).abs().mean())
    measures["bias"] = float(torch.cat(errors["unit"]).mean())
    measures["mae_state"] = float(torch.cat(errors["state"]).abs().mean())
    measures["clean"] = float(predict(x0).mean())
    nearer = []
    for _ in range(3):
        larger = rng.integers(20, max(steps) + 1, len(x0))
        smaller = rng.integers(0, larger - 19)
        masks = np.stack([region_mask(rng, x0.shape[-1]) for _ in range(len(x0))])
        pair = (torch.from_numpy(larger).to(device), torch.from_numpy(smaller).to(device))
        images = two_region(x0, *pair, torch.from_numpy(masks).to(device), draw("white"), schedule, "unit").clamp(-1, 1)
        nearer.append(predict(images).numpy() > (larger + smaller) / 2)
    measures["two_region"] = float(np.mean(nearer))
    for kind in ("row", "smooth", "shot"):
        t = torch.full((len(x0),), 100, device=device)
        measures[f"{kind}_t100"] = float(predict(q_sample(x0, t, draw(kind), schedule, "unit").clamp(-1, 1)).mean())
    return measures
