"""Training of the baselines that restore in one pass: synthetic noise, Noise2Noise, Noise2Void."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.restorers.networks import create_regressor
from srh_clinic.rscd.schedule import TOTAL_STEPS, TRAINED_STEPS, ScheduleName, create_schedule
from srh_clinic.training.augmentation import CleanImageSettings, clean_images
from srh_clinic.training.pool import (
    DegradedPoolSettings,
    flip,
    open_degraded_pool,
    open_pool,
    phantom_pairs,
)

NoiseModel = Literal["gaussian", "poisson-gaussian", "mixture"]


class SyntheticNoiseSettings(CleanImageSettings):
    """Configuration of the trainings on synthetic noise (``configs/synthetic_noise.yaml``, ``configs/noise2noise.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "regression-overlap-unet"})
    """Description for :func:`srh_clinic.restorers.networks.create_regressor`."""
    schedule: ScheduleName = "cosine"
    """Its ``sigma`` is the noise's standard deviation at each index."""
    t_max: int = Field(default=TRAINED_STEPS, gt=0, le=TOTAL_STEPS)
    """Indices are drawn from 0 .. t_max - 1 (the paper's T')."""
    noise: NoiseModel = "mixture"
    """``"gaussian"``; ``"poisson-gaussian"``: a share of U[0, 1] of the variance is shot noise; ``"mixture"``: either of
    the two, drawn for each batch."""
    validation_steps: tuple[int, ...] = (10, 34, 100, 190)
    validation_size: int = Field(default=128, gt=0)
    validation_phantoms: int = Field(default=24, gt=0)


class SyntheticNoiseTask:
    """Learn the clean image from one with synthetic noise; a :class:`~srh_clinic.training.loop.Task`.

    The input is what a microscope with that noise would store: the signal at gain 1, where a diffusion's state has
    ``sqrt(alpha_bar)``, and for half of the images clipped to a detector's range.
    """

    name = "synthetic_noise"

    def __init__(self, settings: SyntheticNoiseSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.schedule = create_schedule(settings.schedule)
        self.pool = open_pool(data, folder, device, settings)
        self.held_out = 2 * self.pool.held_out(settings.validation_size) - 1
        self.phantoms = phantom_pairs(settings.validation_phantoms, settings.validation_size, device)

    def create(self) -> nn.Module:
        return create_regressor(self.settings.network)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Mean squared error in model space against :meth:`target`."""
        settings = self.settings
        x0 = clean_images(self.pool, settings, rng)
        t = torch.randint(0, settings.t_max, (len(x0),), device=self.device)
        sigma = torch.from_numpy(self.schedule.sigma).to(x0)[t]
        shot = draw_shot_share(settings.noise, rng)
        noisy = add_noise(x0, sigma, shot)
        noisy[::2].clamp_(-1, 1)
        if settings.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        return F.mse_loss(network(noisy).float(), self.target(x0, sigma, shot))

    def target(self, x0: Tensor, sigma: Tensor, shot: float) -> Tensor:
        """The clean image."""
        return x0

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {}

    def validate(self, network: nn.Module) -> dict[str, float]:
        """PSNR in dB of held-out tiles under Gaussian noise, by ``validation_steps``, and of degraded phantoms."""
        measures = {}
        noise = torch.randn(self.held_out.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        for step in self.settings.validation_steps:
            noisy = (self.held_out + self.schedule.sigma[step] * noise).clamp(-1, 1)
            error = (in_chunks(network, noisy) - self.held_out) / 2
            measures[f"psnr_t{step}"] = float((-10 * error.square().mean(dim=(1, 2, 3)).log10()).mean())
        return measures | self.phantoms.measures(in_chunks(network, self.phantoms.degraded))


class Noise2NoiseTask(SyntheticNoiseTask):
    """Learn from pairs of noisy images, never a clean one (Lehtinen et al. 2018; for SRH, Manifold et al. 2019)."""

    name = "noise2noise"

    def target(self, x0: Tensor, sigma: Tensor, shot: float) -> Tensor:
        """A second draw of the noise; never clipped, because the mean of clipped images is not the clean image."""
        return add_noise(x0, sigma, shot)


def draw_shot_share(model: NoiseModel, rng: np.random.Generator) -> float:
    """The share of the variance that is shot noise, of one batch."""
    share, poisson = float(rng.uniform()), bool(rng.random() < 0.5)
    return share if model == "poisson-gaussian" or (model == "mixture" and poisson) else 0.0


def add_noise(x0: Tensor, sigma: Tensor, shot: float) -> Tensor:
    """Poisson-Gaussian noise of mean variance ``sigma**2`` on images at gain 1, drawn from torch's global generator.

    Parameters
    ----------
    x0
        Model space, ``(N, 2, H, W)``.
    sigma
        Standard deviation in model units, ``(N,)``.
    shot
        Share of the variance, averaged over each image, that is Poisson noise of its unit intensity; the rest is Gaussian.
    """
    sigma = sigma[:, None, None, None]
    noisy = x0
    if shot > 0:
        unit = ((x0 + 1) / 2).clamp(min=0)
        brightness = unit.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
        photons = brightness / (shot * (sigma / 2) ** 2)  # at unit intensity 1
        noisy = x0 + 2 * (torch.poisson(unit * photons) / photons - unit)
    return noisy + (1 - shot) ** 0.5 * sigma * torch.randn_like(x0)


class Noise2VoidSettings(DegradedPoolSettings):
    """Configuration of Noise2Void's training (``configs/noise2void.yaml``)."""

    network: dict[str, Any] = Field(default_factory=lambda: {"architecture": "regression-overlap-unet", "residual": False})
    """Description for :func:`srh_clinic.restorers.networks.create_regressor`."""
    masked_share: float = Field(default=1 / 64, gt=0, lt=1)
    """Share of pixels of each channel that are hidden; theirs is 64 of 64 x 64."""
    neighbourhood: int = Field(default=5, ge=3)
    """Edge of the window that the value shown in place of a hidden one comes from, odd."""
    batch_size: int = Field(default=16, gt=0)
    crop_size: int = Field(default=64, gt=0)
    validation_size: int = Field(default=128, gt=0)
    validation_phantoms: int = Field(default=24, gt=0)

    @field_validator("neighbourhood")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("an odd number of pixels")
        return value


class Noise2VoidTask:
    """Learn from degraded images alone (Krull et al. 2019); a :class:`~srh_clinic.training.loop.Task`.

    A few pixels are overwritten with a neighbour's value, and the network says what they were. Where noise is independent
    between pixels it cannot say the noise. Channels are hidden independently, as their noise is; noise that is correlated
    along the rows, as a laser's and a lock-in's are, is seen in the neighbours and stays.
    """

    name = "noise2void"

    def __init__(self, settings: Noise2VoidSettings, data: str, folder: Path, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.pool = open_degraded_pool(data, folder, device, settings)
        self.held_out = 2 * self.pool.held_out(settings.validation_size) - 1
        self.phantoms = phantom_pairs(settings.validation_phantoms, settings.validation_size, device)

    def create(self) -> nn.Module:
        return create_regressor(self.settings.network)

    def loss(self, network: nn.Module, rng: np.random.Generator) -> Tensor:
        """Mean squared error in model space at the hidden pixels."""
        settings = self.settings
        x = 2 * flip(self.pool.random_crops(rng, settings.batch_size, settings.crop_size)) - 1
        shown, hidden = hide(x, settings.masked_share, settings.neighbourhood)
        return F.mse_loss(network(shown).float()[hidden], x[hidden])

    def describe(self, network: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.settings.network, {}

    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss on held-out tiles with pixels hidden once and for all, and PSNR in dB of degraded phantoms."""
        generator = torch.Generator(self.device).manual_seed(0)
        shown, hidden = hide(self.held_out, self.settings.masked_share, self.settings.neighbourhood, generator)
        blind = F.mse_loss(in_chunks(network, shown)[hidden], self.held_out[hidden])
        return {"blind_mse": float(blind), **self.phantoms.measures(in_chunks(network, self.phantoms.degraded))}


def hide(x: Tensor, share: float, neighbourhood: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Images with some pixels overwritten, and which those are, bool; all ``(N, C, H, W)``.

    Each hidden pixel shows the value of another pixel of its window, uniformly drawn; at the border the window moves in.
    Theirs may draw the pixel itself, which teaches the identity (Höck et al. 2022, N2V2).
    """
    height, width = x.shape[2:]
    hidden = torch.rand(x.shape, generator=generator, device=x.device) < share
    image, channel, row, column = hidden.nonzero(as_tuple=True)
    top = (row - neighbourhood // 2).clamp(0, height - neighbourhood)
    left = (column - neighbourhood // 2).clamp(0, width - neighbourhood)
    place = torch.randint(0, neighbourhood**2 - 1, (len(row),), generator=generator, device=x.device)
    place = place + (place >= (row - top) * neighbourhood + column - left)  # the window without the pixel itself
    shown = x.clone()
    shown[hidden] = x[image, channel, top + place // neighbourhood, left + place % neighbourhood]
    return shown, hidden


def in_chunks(network: nn.Module, images: Tensor) -> Tensor:
    """The network's output for many images, sixteen at a time."""
    return torch.cat([network(chunk) for chunk in images.split(16)]).float()
