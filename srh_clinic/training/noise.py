"""Noises that the networks of a diffusion learn beside white Gaussian ones."""

from __future__ import annotations

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
