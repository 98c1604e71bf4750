"""The two networks of RSCD: the denoiser that predicts noise, and the calibrator that predicts how much of it there is.

Both take model-space states ``(N, 2, H, W)`` and are built from a plain dictionary, which a bundle keeps beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import timm
import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.errors import InputError

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
        energy = F.avg_pool2d(response.square(), self.pool)
        below = -1.0 - x
        levels = torch.cat([x, (below >= 0).to(x), F.relu(below)], dim=1)
        return torch.cat([(torch.log(energy + self.FLOOR) + 5.0) / 2.5, F.avg_pool2d(levels, self.pool)], dim=1)


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


DENOISERS: dict[str, Callable[..., nn.Module]] = {"compact-unet": CompactUNet}
CALIBRATORS: dict[str, Callable[..., nn.Module]] = {"step-regressor": StepRegressor}


def create_denoiser(config: dict[str, Any]) -> nn.Module:
    """A denoiser from its description: ``architecture`` (``"compact-unet"``) and that class's keywords.

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
