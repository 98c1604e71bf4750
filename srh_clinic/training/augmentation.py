"""Clean training images, and changes of them that teach what simulated tissue alone does not: real tissue's texture.

All draw from ``rng`` and torch's global generator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from srh_clinic.training.pool import PoolSettings, TilePool, augment

if TYPE_CHECKING:
    from srh_clinic.training.slide_pool import SlidePool

GRAIN = (0.001, 0.016)
"""Standard deviation of the finest texture, unit intensity; that of nearly clean fields is 0.004 to 0.012."""


class CleanImageSettings(PoolSettings):
    """How batches of clean images are drawn from a pool; for all trainings that see nothing else, so that what is compared is
    the method."""

    batch_size: int = Field(default=16, gt=0)
    crop_sizes: tuple[int, ...] = (64,)
    """Edge of the crops, one drawn for each batch."""
    even_batches: bool = False
    """Larger crops come in smaller batches, so that each has about as many pixels as ``batch_size`` of the smallest."""
    unlike_share: float = Field(default=0.0, ge=0, le=1)
    """Share of images for :func:`unlike_channels`."""
    grain_share: float = Field(default=0.0, ge=0, le=1)
    """Share of images for :func:`grain`."""
    shrunk_share: float = Field(default=0.0, ge=0, le=1)
    """Share of batches that are shrunk, by 2 or by 1.5: rougher texture than the pool has."""


def clean_images(pool: TilePool | SlidePool, settings: CleanImageSettings, rng: np.random.Generator) -> Tensor:
    """A batch of random crops as ``settings`` ask for them, model space ``(N, 2, S, S)``."""
    size = int(rng.choice(settings.crop_sizes))
    count = settings.batch_size
    if settings.even_batches:
        count = max(1, round(count * (min(settings.crop_sizes) / size) ** 2))
    if settings.shrunk_share and rng.random() < settings.shrunk_share:
        factor = float(rng.choice((1.5, 2.0)))
        unit = pool.random_crops(rng, count, int(size * factor))
        whole = factor == 2  # means of whole pixels are the roughest
        unit = F.avg_pool2d(unit, 2) if whole else F.interpolate(unit, (size, size), mode="bilinear", antialias=True)
    else:
        unit = pool.random_crops(rng, count, size)
    if settings.unlike_share:
        unit = unlike_channels(unit, rng, settings.unlike_share)
    unit = augment(unit)
    return 2 * (grain(unit, rng, settings.grain_share) if settings.grain_share else unit) - 1


def unlike_channels(unit: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """A ``share`` of images in unit intensity ``(N, 2, S, S)`` with a CH3 that CH2 does not tell, and swapped channels.

    Clean phantoms' channels share 0.97 to 0.99 of their finest structure, real ones 0.6 to 0.9, unmixed lipid and protein
    even have -0.5. Of the share, 55 % get above a random frequency a mixture of their own fine structure, at a weight of
    U[-0.7, 1], and of other tissue's of the same power; 30 % are mixed with other tissue at all frequencies, 15 % turned over.
    """
    count = len(unit)
    ch2, ch3 = unit.unbind(1)
    other = unit[torch.randperm(count, device=unit.device)][:, 1]
    fine, fine_of_other = (high[:, 0] for high in _above(rng, ch3[:, None], other[:, None]))
    own = _uniform(unit, -0.7, 1.0)
    matched = fine_of_other * fine.std((-1, -2), keepdim=True) / (fine_of_other.std((-1, -2), keepdim=True) + 1e-4)
    by_frequency = ch3 - fine + own * fine + (1 - own.square()).sqrt() * matched
    weight = _uniform(unit, 0.0, 1.0)
    mixed = weight * ch3 + (1 - weight) * other
    turned = ch3.amax((-1, -2), keepdim=True) - ch3
    fate = _uniform(unit, 0.0, 1.0)
    ch3 = torch.where(fate < share, turned, ch3)
    ch3 = torch.where(fate < 0.85 * share, mixed, ch3)
    ch3 = torch.where(fate < 0.55 * share, by_frequency, ch3)
    unit = torch.stack([ch2, ch3], dim=1).clamp(0, 1)
    return torch.where(_chosen(unit, share / 2), unit.flip(1), unit)


def grain(unit: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """A ``share`` of images in unit intensity ``(N, 2, S, S)`` with texture as fine as the pixels, mostly each channel's own.

    Without it a denoiser holds whatever is nearly white for noise, however much of it there is; with it, what is more than the
    noise it is told of stays. Of :data:`GRAIN`'s strength, in proportion to a power U[0, 1] of the intensity; most of it
    is blurred by up to a pixel, as a microscope would.
    """
    shared = _uniform(unit, 0.0, 0.8)[:, None]
    texture = (1 - shared.square()).sqrt() * torch.randn_like(unit) + shared * torch.randn_like(unit[:, :1])
    soft = blur(texture, float(rng.uniform(0.3, 1.0)))
    texture = torch.where(_chosen(unit, 0.6), soft / soft.std((-1, -2), keepdim=True), texture)
    brightness = unit / unit.mean((-1, -2), keepdim=True).clamp(min=0.02)
    strength = _log_uniform(unit, *GRAIN)[:, None] * _chosen(unit, share)
    return (unit + strength * texture * brightness.clamp(1e-3, 6) ** _uniform(unit, 0.0, 1.0)[:, None]).clamp(0, 1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(N, C, H, W)``, reflected at the border; H and W above ``ceil(2.5 sigma)``."""
    reach = max(1, math.ceil(2.5 * sigma))
    place = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-place.square() / (2 * sigma**2))
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="reflect"), (kernel / kernel.sum())[None, None, None])
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="reflect"), (kernel / kernel.sum())[None, None, :, None])
    return planes[:, 0].unflatten(0, images.shape[:2])


def _above(rng: np.random.Generator, *images: Tensor) -> list[Tensor]:
    """What a blur of a random width, 0.7 to 6 px, takes away from each."""
    largest = min(6.0, (images[0].shape[-1] - 2) / 2.5)
    sigma = float(np.exp(rng.uniform(np.log(0.7), np.log(largest))))
    return [image - blur(image, sigma) for image in images]


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """One number for each image, ``(N, 1, 1)``."""
    return low + (high - low) * torch.rand(len(like), 1, 1, device=like.device)


def _log_uniform(like: Tensor, low: float, high: float) -> Tensor:
    return torch.exp(_uniform(like, math.log(low), math.log(high)))


def _chosen(like: Tensor, share: float) -> Tensor:
    """bool ``(N, 1, 1, 1)``."""
    return torch.rand(len(like), 1, 1, 1, device=like.device) < share
