"""The two networks of RSCD: the denoiser that predicts noise, and the calibrator that predicts how much of it there is.

Both take model-space states ``(N, 2, H, W)`` and are built from a plain dictionary, which a bundle keeps beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Literal, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.errors import InputError
from srh_clinic.rscd.official import OfficialUNet
from srh_clinic.rscd.schedule import ScheduleName, create_schedule

RAMAN_CHANNELS = 2


class CompactUNet(nn.Module):
    """MONAI's diffusion U-Net at a fraction of the image's size, behind a pixel unshuffle; no attention.

    Unshuffling by 2 keeps every pixel (2 channels become 8 at half size) and makes a forward pass about four times cheaper.

    Parameters
    ----------
    channels
        Width of each level of the U-Net, each a multiple of ``norm_num_groups``.
    unshuffle
        Factor of the pixel unshuffle.
    num_res_blocks
        Residual blocks at each level.
    norm_num_groups
        Groups of each group normalisation.
    in_channels
        Channels of the input; more than two where a condition is seen beside the state.
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48, 96),
        unshuffle: int = 2,
        num_res_blocks: int = 1,
        norm_num_groups: int = 8,
        in_channels: int = RAMAN_CHANNELS,
    ) -> None:
        from monai.networks.nets import DiffusionModelUNet  # MONAI takes seconds to load, and no other network needs it

        super().__init__()
        self.unshuffle = unshuffle
        self.size_multiple = unshuffle * 2 ** (len(channels) - 1)
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=in_channels * unshuffle**2,
            out_channels=RAMAN_CHANNELS * unshuffle**2,
            channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            num_res_blocks=num_res_blocks,
            num_head_channels=norm_num_groups,
            norm_num_groups=norm_num_groups,
        )
        # MONAI always puts attention in the middle. It would let far parts of a tile speak to each other, differently in a
        # training crop and in a tile.
        self.unet.middle_block.attention = nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise ``eps`` in a state.

        Parameters
        ----------
        x
            Model-space states ``(N, 2, H, W)`` at gain ``sqrt(alpha_bar_t)``; H and W multiples of ``size_multiple``.
        t
            Step index of each state, long ``(N,)``.
        """
        noise: Tensor = self.unet(F.pixel_unshuffle(x, self.unshuffle), t)
        return F.pixel_shuffle(noise, self.unshuffle)


class OverlapUNet(nn.Module):
    """A U-Net at full resolution that leaves no pattern of its own, conditioned on sigma; no normalisation, no attention.

    Behind a pixel unshuffle every phase of the network's grid has weights of its own, and what they differ by stands in the
    restoration as a pattern of period 2. Here the first and the last layers work at full resolution, images shrink by
    convolutions of 4 x 4 pixels that overlap, and grow by bilinear interpolation, which takes a constant to a constant: so
    the features that a smooth image has are smooth, whatever the weights.

    Nothing is normalised over places, so a tile's result depends on no pixel beyond the network's reach and a training crop
    stands for a tile. In place of it the network is told how much noise there is (Karras et al. 2022): beside the state it
    sees what is left of it above a 5 x 5 binomial filter, divided by sigma and compressed by an inverse hyperbolic sine, which
    has the same size for noise of every step; and log sigma scales and shifts the features of each block.

    Parameters
    ----------
    channels
        Width of each level; the first is at full resolution, each further one at half of the one before.
    down, up
        Residual blocks of each level on the way down, and of each but the last on the way up.
    condition
        Width of the embedding of log sigma.
    schedule
        Whose sigma an index stands for.
    in_channels
        Channels of the input; more than two where a condition is seen beside the state.
    """

    FREQUENCIES = 8
    """Sines and cosines of log sigma."""

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 48, 96),
        down: Sequence[int] = (1, 1, 1, 2),
        up: Sequence[int] = (1, 1, 1),
        condition: int = 64,
        schedule: ScheduleName = "cosine",
        in_channels: int = RAMAN_CHANNELS,
    ) -> None:
        super().__init__()
        if len(down) != len(channels) or len(up) != len(channels) - 1:
            raise ValueError(f"{len(channels)} levels, blocks of {len(down)} down and of {len(up)} up")
        self.size_multiple = 2 ** (len(channels) - 1)
        sigma = torch.from_numpy(create_schedule(schedule).sigma).float()
        binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        low_pass = (binomial[:, None] * binomial).expand(in_channels, 1, 5, 5).contiguous()
        self.register_buffer("sigma", sigma, persistent=False)
        self.register_buffer("low_pass", low_pass, persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(2 * self.FREQUENCIES, condition), nn.SiLU(), nn.Linear(condition, condition), nn.SiLU()
        )
        self.stem = nn.Conv2d(2 * in_channels, channels[0], 3, padding=1)
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(self._blocks(width, n, condition) for width, n in zip(channels, down, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(wide, deep, 4, stride=2, padding=1) for wide, deep in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(deep, wide, 1) for wide, deep in pairs)
        self.up = nn.ModuleList(self._blocks(width, n, condition) for width, n in zip(channels, up, strict=False))
        self.head = nn.Conv2d(channels[0], RAMAN_CHANNELS, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise ``eps`` in a state; see :meth:`CompactUNet.forward`."""
        sigma = self.get_buffer("sigma")[t]
        with torch.autocast(x.device.type, enabled=False):
            condition = self.embed(self._waves(sigma))
        # bfloat16 rounds an image by a third of the smallest sigma: the fine structure is taken out before it is rounded.
        with torch.autocast(x.device.type, enabled=False):
            smooth = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.get_buffer("low_pass"), groups=x.shape[1])
            fine = (x - smooth) / sigma[:, None, None, None]
            seen = torch.cat([x, inverse_sinh(fine)], dim=1)
        features = self.stem(seen.to(self.stem.weight.dtype))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level:
                features = self.shrink[level - 1](features)
            features = self._through(blocks, features, condition)
            skips.append(features)
        for level in reversed(range(len(self.up))):
            grown = F.interpolate(self.grow[level](features), scale_factor=2, mode="bilinear", align_corners=False)
            features = self._through(self.up[level], grown.add_(skips[level]), condition)
        noise: Tensor = self.head(F.silu(features))
        return noise

    def in_bfloat16(self) -> OverlapUNet:
        """A copy for inference whose features are bfloat16: what autocast computes, without casting at every call.

        The embedding of sigma, and weights that it scales, stay float32 until they are scaled.
        """
        copy = deepcopy(self)
        for part in (copy.stem, copy.head, *copy.shrink, *copy.grow):
            part.bfloat16()
        for block in copy.modules():
            if isinstance(block, ConditionedBlock):
                block.second.bfloat16()
        return copy

    @classmethod
    def _waves(cls, sigma: Tensor) -> Tensor:
        """``(N, 2 * FREQUENCIES)`` of ``(N,)``; log sigma of the first 200 steps of cosine lies between -4.6 and -1.1."""
        phase = (torch.log(sigma) + 3.0)[:, None] * (torch.arange(cls.FREQUENCIES, device=sigma.device) * 0.5 + 0.5)
        return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)

    @staticmethod
    def _blocks(width: int, count: int, condition: int) -> nn.ModuleList:
        return nn.ModuleList(ConditionedBlock(width, condition) for _ in range(count))

    @staticmethod
    def _through(blocks: nn.Module, features: Tensor, condition: Tensor) -> Tensor:
        for block in blocks.children():
            features = block(features, condition)
        return features


def inverse_sinh(x: Tensor) -> Tensor:
    """``asinh`` to within float32 rounding of 1, of functions that torch computes several places at a time."""
    size = x.abs()
    return torch.copysign(torch.log(size + torch.sqrt(size * size + 1.0)), x)


class ConditionedBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions, scaled and shifted between them by a condition (Perez et al. 2018)."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # Without normalisation, residuals that start small keep the features' size from growing block by block.
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """``(N, width, H, W)`` and ``(N, condition)`` to ``(N, width, H, W)``."""
        with torch.autocast(features.device.type, enabled=False):
            scale, shift = self.modulation(condition).chunk(2, dim=1)
        hidden = self._scaled(F.silu(features), 1 + scale, shift)
        # The gradient of silu needs what it was given; where there is none, its answer takes that place.
        residual: Tensor = self.second(F.silu(hidden, inplace=not torch.is_grad_enabled()))
        return residual.add_(features)

    def _scaled(self, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The first convolution, its answer scaled and shifted by ``(N, width)``; of one image, its weights are."""
        weight, bias = self.first.weight, cast(Tensor, self.first.bias)
        if len(features) == 1:
            weight, bias = weight * scale[0, :, None, None, None], torch.addcmul(shift[0], bias, scale[0])
            return F.conv2d(features, weight.to(features.dtype), bias.to(features.dtype), padding=1)
        hidden = F.conv2d(features, weight.to(features.dtype), bias.to(features.dtype), padding=1)
        scale, shift = (part[:, :, None, None].to(hidden.dtype) for part in (scale, shift))
        return torch.addcmul(shift, hidden, scale)


class StepRegressor(nn.Module):
    """A timm backbone that predicts the step index of a noisy image.

    The index it predicts is the one whose ``schedule.sigma`` is the standard deviation of the noise in the image as it stands,
    whatever the gain of the signal below it. Where regions differ, the larger index is meant (paper, two-region training).

    Parameters
    ----------
    backbone
        Name of a timm model; its features are used without its head.
    stage
        Index of the feature map that is read; noise is local, so a shallow stage serves and saves operations. None reads the
        last.
    unshuffle
        Factor of a pixel unshuffle before all else, which makes the rest cheaper without losing the finest noise; 1 for none.
    energy_filters
        Filters of a :class:`LogEnergy` before the backbone, which then reads local energies in place of pixels; 0 for none.
    norm
        ``"batch"``: the backbone's batch normalisation. ``"none"``: none. The level of the energies is what is asked for, and
        in training a batch's statistics blur it by whatever else happens to be in the batch.
    head
        ``"attention"``: each place of the feature map votes for an index, and a softmax over learned scores decides which
        places count, so that the noisier of two regions can win. ``"mlp"``: average pooling and Linear-100-ReLU-Linear, the
        head of the released calibrator.
    scale
        ``"root"``: the head's output is ``sqrt((t + 1) / 100)``, the root of the steps, which spends the network's accuracy on
        few steps; a clean image has -1. ``"linear"``: it is ``t``.
    options
        Further keywords of ``timm.create_model``, such as ``{"channels": [32, 64, 128, 256]}`` for a slimmer ResNet.
    """

    def __init__(
        self,
        backbone: str = "resnet10t",
        stage: int | None = None,
        unshuffle: int = 1,
        energy_filters: int = 0,
        norm: Literal["batch", "none"] = "batch",
        head: Literal["attention", "mlp"] = "attention",
        scale: Literal["root", "linear"] = "root",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        planes = RAMAN_CHANNELS * unshuffle**2
        self.front = nn.Sequential(nn.PixelUnshuffle(unshuffle))
        if energy_filters:
            self.front.append(LogEnergy(planes, energy_filters))
            planes = energy_filters + LogEnergy.LEVELS * planes
        try:
            self.backbone = timm.create_model(
                backbone,
                features_only=True,
                out_indices=(-1 if stage is None else stage,),
                in_chans=planes,
                **({"norm_layer": nn.Identity} if norm == "none" else {}),
                **(options or {}),
            )
        except RuntimeError as error:
            found = f"the calibrator backbone {backbone!r} ({error})"
            raise InputError(found, "the name of a timm model with features") from error
        width = self.backbone.feature_info.channels()[-1]
        self.head: nn.Module = AttentionHead(width) if head == "attention" else average_head(width)

    def features(self, x: Tensor) -> Tensor:
        """What the head reads, ``(N, C, h, w)``, for model-space images ``(N, 2, H, W)``."""
        features: Tensor = self.backbone(self.front(x))[-1]
        return features

    def latent(self, x: Tensor) -> Tensor:
        """The head's output ``(N,)`` on the scale that training regresses, for model-space images ``(N, 2, H, W)``."""
        output: Tensor = self.head(self.features(x))
        return output[:, 0]

    def to_latent(self, t: Tensor) -> Tensor:
        """Step indices on the scale of :meth:`latent`."""
        return ((t + 1.0) / 100.0).sqrt() if self.scale == "root" else t

    def forward(self, x: Tensor) -> Tensor:
        """Predicted 0-based step index, float ``(N,)``, of model-space images ``(N, 2, H, W)``."""
        latent = self.latent(x)
        return 100.0 * latent.clamp(min=0.0) ** 2 - 1.0 if self.scale == "root" else latent


class LogEnergy(nn.Module):
    """Logarithm of the local energy behind learned zero-mean filters of unit norm, and how near the floor the signal lies.

    ``(N, C, H, W)`` to ``(N, filters + 3 C, H / 4, W / 4)``. White noise has its own variance behind any filter of unit norm,
    while tissue has more energy behind some filters than behind others: how little is left behind the quietest says how much
    noise there is (as in the estimator of Chen, Zhu and Heng 2015, whose filters are the eigenvectors of the patches). The
    logarithm turns a factor in noise into a shift; it is centred and scaled so that the noise of any step lies between -2
    and 2.

    A detector cuts noise off at zero counts, -1 in model space, and so hides half of it where tissue is dark; a state under
    way is not cut off. The last channels tell the two apart: each plane's local mean, its share of pixels at or below the
    floor, and how far below it they lie.
    """

    FLOOR = 1e-7
    """The smallest variance that 16-bit counts can have is about 8e-11 in model units, a state at t = 0 has 1e-4."""

    LEVELS = 3
    """Channels for each plane beside the filters."""

    def __init__(self, planes: int, filters: int, size: int = 5, pool: int = 4) -> None:
        super().__init__()
        self.margin, self.pool = size // 2, pool
        self.weight = nn.Parameter(torch.randn(filters, planes, size, size))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(2, 3), keepdim=True)
        weight = weight / weight.flatten(1).norm(dim=1)[:, None, None, None]
        response = F.conv2d(F.pad(x, (self.margin,) * 4, mode="reflect"), weight)
        # The gradient of a square needs what was squared; where there is none, the square takes that place.
        energy = F.avg_pool2d(response.square() if torch.is_grad_enabled() else response.square_(), self.pool)
        below = -1.0 - x
        levels = [F.avg_pool2d(plane, self.pool) for plane in (x, (below >= 0).to(x), F.relu(below))]
        return torch.cat([(torch.log(energy + self.FLOOR) + 5.0) / 2.5, *levels], dim=1)


class AttentionHead(nn.Module):
    """One value from a feature map: each place gives a value and a score, and the softmax of the scores weighs the values.

    Nothing is normalised over the places: what one region says must not depend on what is in another.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Conv2d(width, width, kernel_size=1), nn.ReLU())
        self.vote = nn.Conv2d(width, 2, kernel_size=1)

    def votes(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Value and score of each place, both ``(N, h, w)``, from ``(N, C, h, w)``."""
        value, score = self.vote(self.hidden(features)).unbind(1)
        return value, score

    @staticmethod
    def elect(value: Tensor, score: Tensor) -> Tensor:
        """``(N, 1)`` from the votes: each value weighed by the softmax of the scores."""
        share = score.flatten(1).softmax(dim=1)
        return (value.flatten(1) * share).sum(dim=1, keepdim=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to ``(N, 1)``."""
        return self.elect(*self.votes(features))


def average_head(width: int) -> nn.Sequential:
    """Global average, then Linear(width, 100), ReLU, Linear(100, 1): ``(N, C, h, w)`` to ``(N, 1)``."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 100), nn.ReLU(), nn.Linear(100, 1))


DENOISERS: dict[str, Callable[..., nn.Module]] = {
    "compact-unet": CompactUNet,
    "overlap-unet": OverlapUNet,
    "official-unet": OfficialUNet,
}
CALIBRATORS: dict[str, Callable[..., nn.Module]] = {"step-regressor": StepRegressor}


def create_denoiser(config: dict[str, Any]) -> nn.Module:
    """A denoiser from its description: ``architecture``, a name in :data:`DENOISERS`, and that class's keywords.

    Raises
    ------
    InputError
        When the architecture or a keyword is unknown.
    """
    return create_network("denoiser", DENOISERS, config)


def create_calibrator(config: dict[str, Any]) -> nn.Module:
    """A calibrator from its description: ``architecture`` (``"step-regressor"``) and that class's keywords.

    Raises
    ------
    InputError
        When the architecture, a keyword or the backbone is unknown.
    """
    return create_network("calibrator", CALIBRATORS, config)


def create_network(role: str, known: dict[str, Callable[..., nn.Module]], config: dict[str, Any]) -> nn.Module:
    """A network from its description: ``architecture``, a name in ``known`` (its first when not given), and keywords.

    Raises
    ------
    InputError
        When the architecture or a keyword is unknown; ``role`` says of what.
    """
    options = dict(config)
    architecture = options.pop("architecture", next(iter(known)))
    if architecture not in known:
        raise InputError(f"the {role} architecture {architecture!r}", " or ".join(repr(name) for name in known))
    try:
        return known[architecture](**options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{role} settings {options} ({error})", f"keywords of {architecture!r}") from error


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def forward_gflop(network: nn.Module, *inputs: Tensor) -> float:
    """Billions of floating point operations of one forward pass on ``inputs`` (multiply and add count as two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(*inputs)
    return counter.get_total_flops() / 1e9
