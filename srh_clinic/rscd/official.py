"""The denoiser of the released code of RSCD, whose weights load under their own names.

A U-Net of ConvNeXt blocks with linear attention. Layers stand where the released weights name them; what they compute is
written anew. The released calibrator needs no class of its own: it is a :class:`~srh_clinic.rscd.networks.StepRegressor` on a
ResNet-50 with ``head="mlp"`` and ``scale="linear"``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RAMAN_CHANNELS = 2
HEADS, HEAD_WIDTH = 4, 32


class OfficialUNet(nn.Module):
    """The released denoiser: 285 million parameters at its full width.

    Parameters
    ----------
    dim
        Width that the levels are multiples of, and of the embedding of the step.
    init_dim
        Width of the first convolution.
    dim_mults
        Multiple of each level, each at half of the size of the one before. The first level's features are used by no
        later layer, as in the released network.
    """

    def __init__(self, dim: int = 256, init_dim: int = 128, dim_mults: Sequence[int] = (1, 2, 2, 4)) -> None:
        super().__init__()
        self.size_multiple = 2 ** (len(dim_mults) - 1)
        widths = [init_dim, *(dim * multiple for multiple in dim_mults)]
        time = 4 * dim
        self.init_conv = nn.Conv2d(RAMAN_CHANNELS, init_dim, 7, padding=3)
        self.time_mlp = nn.Sequential(StepWaves(dim), nn.Linear(dim, time), nn.GELU(), nn.Linear(time, time))
        self.downs = nn.ModuleList()
        levels = list(pairwise(widths))
        for at, (before, width) in enumerate(levels):
            shrink = nn.Conv2d(width, width, 4, stride=2, padding=1) if at < len(levels) - 1 else nn.Identity()
            self.downs.append(_level(before, width, width, time, shrink))
        deepest = widths[-1]
        self.mid_block1 = ConvNextBlock(deepest, deepest, time)
        self.mid_attn = Residual(PreNorm(deepest, FullAttention(deepest)))
        self.mid_block2 = ConvNextBlock(deepest, deepest, time)
        self.ups = nn.ModuleList()
        for before, width in reversed(levels[1:]):
            grow = nn.ConvTranspose2d(before, before, 4, stride=2, padding=1)
            self.ups.append(_level(2 * width, before, before, time, grow))
        self.final_conv = nn.Sequential(ConvNextBlock(dim, dim), nn.Conv2d(dim, RAMAN_CHANNELS, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise ``eps`` in model-space states ``(N, 2, H, W)`` at step indices ``t``, long ``(N,)``."""
        step = self.time_mlp(t)
        features = self.init_conv(x)
        kept: list[Tensor] = []
        for level in self.downs:
            first, second, attention, shrink = level.children()
            features = attention(second(first(features, step), step))
            kept.append(features)
            features = shrink(features)
        features = self.mid_block2(self.mid_attn(self.mid_block1(features, step)), step)
        for level in self.ups:
            first, second, attention, grow = level.children()
            features = torch.cat([features, kept.pop()], dim=1)
            features = grow(attention(second(first(features, step), step)))
        noise: Tensor = self.final_conv(features)
        return noise


def _level(before: int, width: int, attended: int, time: int, resize: nn.Module) -> nn.ModuleList:
    attention = Residual(PreNorm(attended, LinearAttention(attended)))
    return nn.ModuleList([ConvNextBlock(before, width, time), ConvNextBlock(width, width, time), attention, resize])


class StepWaves(nn.Module):
    """Sines, then cosines, of a step index at wavelengths from 2 pi to 20,000 pi: ``(N,)`` to ``(N, dim)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.count = dim // 2

    def forward(self, t: Tensor) -> Tensor:
        frequency = torch.exp(torch.arange(self.count, device=t.device) * (-math.log(10_000) / (self.count - 1)))
        phase = t[:, None] * frequency
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class ConvNextBlock(nn.Module):
    """A depthwise 7 x 7 convolution, the step added where there is one, and two 3 x 3 ones of double width between."""

    def __init__(self, before: int, width: int, time: int | None = None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(time, before)) if time is not None else None
        self.ds_conv = nn.Conv2d(before, before, 7, padding=3, groups=before)
        self.net = nn.Sequential(
            nn.GroupNorm(1, before),
            nn.Conv2d(before, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 2 * width),
            nn.Conv2d(2 * width, width, 3, padding=1),
        )
        self.res_conv = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, features: Tensor, step: Tensor | None = None) -> Tensor:
        hidden = self.ds_conv(features)
        if self.mlp is not None and step is not None:
            hidden = hidden + self.mlp(step)[:, :, None, None]
        result: Tensor = self.net(hidden) + self.res_conv(features)
        return result


class Residual(nn.Module):
    """A module beside the identity."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.fn(features) + features
        return result


class PreNorm(nn.Module):
    """A module behind a normalisation over all of an image."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.GroupNorm(1, width)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.fn(self.norm(features))
        return result


class FullAttention(nn.Module):
    """Every place looks at every other, in four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out: nn.Module = nn.Conv2d(HEADS * HEAD_WIDTH, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = _heads(self.to_qkv(features))
        seen = F.scaled_dot_product_attention(query.mT, key.mT, value.mT)
        result: Tensor = self.to_out(_image(seen.mT, features))
        return result


class LinearAttention(nn.Module):
    """Every place looks at a summary of the image (Shen et al. 2021), in four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(HEADS * HEAD_WIDTH, width, 1), nn.GroupNorm(1, width))

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = _heads(self.to_qkv(features))
        query = query.softmax(dim=-2) * HEAD_WIDTH**-0.5
        summary = key.softmax(dim=-1) @ value.transpose(-1, -2)
        seen = summary.transpose(-1, -2) @ query
        result: Tensor = self.to_out(_image(seen, features))
        return result


def _heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each ``(N, heads, width, places)``."""
    count = qkv.shape[0]
    query, key, value = (part.reshape(count, HEADS, HEAD_WIDTH, -1) for part in qkv.chunk(3, dim=1))
    return query, key, value


def _image(seen: Tensor, like: Tensor) -> Tensor:
    return seen.reshape(like.shape[0], HEADS * HEAD_WIDTH, *like.shape[-2:])
