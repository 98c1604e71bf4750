"""Noises that the networks of a diffusion learn beside white Gaussian ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NoiseKind = Literal["white", "row", "smooth", "shot"]
STRUCTURED: tuple[NoiseKind, ...] = ("row", "smooth", "shot")


def unit_noise(kind: NoiseKind, x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise of mean 0 and mean variance 1, shaped as the model-space images ``x0`` and on their device, as the generator is.

    ``"white"``: independent Gaussian. ``"row"``: half of the variance is shared by a row, as of a laser's slow noise.
    ``"smooth"``: white noise averaged over 3x3 pixels. ``"shot"``: variance in proportion to the unit intensity.
    """
    white = torch.randn(x0.shape, generator=generator, device=x0.device)
    if kind == "row":
        return (white + torch.randn((*x0.shape[:3], 1), generator=generator, device=x0.device)) / 2**0.5
    if kind == "smooth":
        return 3 * F.avg_pool2d(F.pad(white, (1, 1, 1, 1), mode="circular"), 3, stride=1)
    if kind == "shot":
        intensity = (x0 + 1) / 2
        return white * (intensity / intensity.mean(dim=(1, 2, 3), keepdim=True)).clamp(min=0).sqrt()
    return white


def instrument_noise(x0: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise of mean variance 1 as a stimulated Raman microscope has it, with every share of it drawn at random.

    Shot noise over a dark current and read noise, smeared along the rows by the lock-in's time constant; the laser's own
    noise, which follows the signal and is correlated along a row, or shared by all of it; in some batches a detector's spikes.
    Deterministic sampling only ever shrinks the noise that an image came with, so what a denoiser meets is noise of this kind
    and not only white.

    Parameters
    ----------
    x0
        Clean images, model space ``(N, 2, H, W)``. Noise is drawn from ``rng`` and torch's global generator.
    """
    count, device = len(x0), x0.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, device=device)

    def chosen(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) < share

    unit = ((x0 + 1) / 2).clamp(min=0)
    white = torch.randn_like(x0)
    variance = unit + torch.exp(uniform(math.log(0.005), math.log(0.3)))
    shot = white * (variance / variance.mean(dim=(1, 2, 3), keepdim=True)).sqrt()
    noise = torch.where(chosen(0.25), white, shot) + uniform(0, 0.4) * torch.randn_like(x0)
    lag = uniform(0, 0.35) * chosen(0.8)
    noise = (noise + lag * noise.roll(1, dims=3)) / (1 + lag.square()).sqrt()
    brightness = unit / unit.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-3)
    rows = torch.randn((*x0.shape[:3], 1), device=device)
    laser = uniform(0, 0.3) * _along_rows(x0, rng) + uniform(0, 0.25) * rows
    noise = noise + brightness * laser * chosen(0.8)
    noise = noise / noise.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    if rng.random() < 0.3:
        noise = noise + (torch.rand_like(x0) < 2e-4) * uniform(2, 8)
    return noise


def _along_rows(x0: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise of variance 1 that is correlated along the rows by a Gaussian of 3 to 16 px, shaped as ``x0``."""
    sigma = float(np.exp(rng.uniform(np.log(3), np.log(16))))
    reach = int(3 * sigma)
    kernel = torch.exp(-torch.arange(-reach, reach + 1, device=x0.device, dtype=x0.dtype).square() / (2 * sigma**2))
    count, channels, height, width = x0.shape
    white = torch.randn(count * channels, 1, height, width + 2 * reach, device=x0.device)
    return F.conv2d(white, (kernel / kernel.square().sum().sqrt())[None, None, None]).view_as(x0)


def mixed_with_structure(
    white: Tensor, x0: Tensor, rng: np.random.Generator, kinds: Sequence[NoiseKind] = STRUCTURED
) -> Tensor:
    """White noise of which a random share of the variance, U[0, 1], is of one of ``kinds`` instead.

    Parameters
    ----------
    white
        Standard normal, shaped as ``x0``.
    x0
        The clean images, model space ``(N, 2, H, W)``. The other noise is drawn from torch's global generator.
    """
    share = rng.uniform(0, 1)
    other = unit_noise(kinds[int(rng.integers(len(kinds)))], x0)
    return (1 - share) ** 0.5 * white + share**0.5 * other
