"""Networks of the learned baselines: a U-Net that regresses the image, CycleGAN's generator, a conditional denoiser.

All work in model space. The regressors and the conditional denoiser are the RSCD denoiser's network, asked for the image:
what is compared is the method. Each is built from a plain dictionary, which a bundle keeps beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srh_clinic.rscd.networks import RAMAN_CHANNELS, OverlapUNet, create_network
from srh_clinic.rscd.schedule import ScheduleName, create_schedule


class RegressionOverlapUNet(nn.Module):
    """:class:`~srh_clinic.rscd.networks.OverlapUNet` that predicts the clean image in one pass.

    It is told one index whatever the noise, because a regressor does not know how much there is.

    Parameters
    ----------
    residual
        The U-Net predicts what is to be taken away, in units of that index's sigma; False, the image itself.
    unet
        Keywords of :class:`~srh_clinic.rscd.networks.OverlapUNet`.
    """

    INDEX = 26
    """In the middle of the first 200 of cosine, by log sigma."""

    def __init__(self, residual: bool = True, **unet: Any) -> None:
        super().__init__()
        self.residual = residual
        self.unet = OverlapUNet(**unet)
        self.size_multiple = self.unet.size_multiple

    def forward(self, x: Tensor) -> Tensor:
        """Restored model-space images of noisy ones, both ``(N, 2, H, W)``, H and W multiples of ``size_multiple``."""
        index = torch.full((len(x),), self.INDEX, dtype=torch.long, device=x.device)
        output: Tensor = self.unet(x, index).float()
        return x - output * self.unet.get_buffer("sigma")[self.INDEX] if self.residual else output


class OverlapResNetGenerator(nn.Module):
    """CycleGAN's ResNet generator (Zhu et al. 2017, after Johnson et al. 2016), made affordable on two CPU cores.

    Theirs has 64 channels at full size, two strided convolutions and nine blocks of 256 channels at a quarter of the size.
    Here channels and blocks are fewer. So that it leaves no pattern of its own, layers overlap: images shrink by convolutions
    of 4 x 4 pixels and grow by bilinear interpolation, where theirs are transposed convolutions.

    Instance norm takes every image's brightness and contrast away; theirs gives all images the same. Here each channel's mean
    and standard deviation are taken off before the network and given back after it, in place of the tanh. There is no other
    path around the network: with one, the identity is where the cycle costs nothing, and the training never leaves it.

    Parameters
    ----------
    width
        Channels at half the size; there are half as many at full size, and the blocks have twice as many.
    blocks
        Residual blocks.
    """

    size_multiple = 4
    least_contrast = 0.02
    """Smallest standard deviation, in model units, that an image is scaled by: that of empty glass."""

    def __init__(self, width: int = 32, blocks: int = 6) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(RAMAN_CHANNELS, width // 2, 7),
            *_shrinking(width // 2, width),
            *_shrinking(width, 2 * width),
            *(ResidualBlock(2 * width) for _ in range(blocks)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *_convolution(2 * width, width, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *_convolution(width, width // 2, 3),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width // 2, RAMAN_CHANNELS, 7),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Model-space images of the other domain, ``(N, 2, H, W)`` both, H and W multiples of ``size_multiple``."""
        return keeping_contrast(self.layers, x, self.least_contrast)


def keeping_contrast(network: Callable[[Tensor], Tensor], x: Tensor, least: float) -> Tensor:
    """A network's answer to images ``(N, C, H, W)``, whose mean and deviation (at least ``least``) it does not see."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    contrast = x.std(dim=(2, 3), keepdim=True).clamp(min=least)
    return mean + contrast * network((x - mean) / contrast)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with instance norm, added to their input; ``(N, C, H, W)`` both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolution(width, width, 3), *_convolution(width, width, 3)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PatchDiscriminator(nn.Sequential):
    """The 70 x 70 PatchGAN (Isola et al. 2017): model-space images ``(N, 2, H, W)`` to verdicts ``(N, 1, h, w)``, 1 for real.

    ``width`` is theirs at 64.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(
            nn.Conv2d(RAMAN_CHANNELS, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            *_judgement(width, 2 * width, 2),
            *_judgement(2 * width, 4 * width, 2),
            *_judgement(4 * width, 8 * width, 1),
            nn.Conv2d(8 * width, 1, 4, padding=1),
        )
        self.apply(_initialise)


class ConditionalOverlapUNet(nn.Module):
    """A denoiser that sees the degraded image beside the state (Saharia et al. 2022): 4 channels to 2.

    It says the clean image, not the noise: at a schedule's last steps a small error in the noise is a large one in the image,
    and white noise teaches no network the brightness of a whole tile. Trained on the noise, ours restored tiles at 10 dB. So
    it is preconditioned, as Karras et al. 2022 (eq. 7) do for one noisy image, with two: it corrects the mean of state and
    condition weighted by the inverse of their variances, in units of that mean's standard deviation (:meth:`spread`).

    Parameters
    ----------
    schedule
        Of the states.
    condition_noise
        Standard deviation of a typical condition's noise, in model units.
    unet
        Keywords of :class:`~srh_clinic.rscd.networks.OverlapUNet`.
    """

    signal: Tensor
    deviation: Tensor

    def __init__(self, schedule: ScheduleName = "cosine", condition_noise: float = 0.15, **unet: Any) -> None:
        super().__init__()
        self.unet = OverlapUNet(schedule=schedule, in_channels=2 * RAMAN_CHANNELS, **unet)
        self.size_multiple = self.unet.size_multiple
        self.condition_noise = condition_noise
        tables = create_schedule(schedule)
        for name, table in (("signal", np.sqrt(tables.alpha_bar)), ("deviation", tables.noise_to_signal)):
            self.register_buffer(name, torch.from_numpy(table).float(), persistent=False)

    def forward(self, x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Clean images behind states ``x`` at steps ``t``, long ``(N,)``; all images in model space ``(N, 2, H, W)``."""
        per_sample = (-1, 1, 1, 1)
        weight = self.condition_noise**2 / (self.condition_noise**2 + self.deviation[t].square())
        mean = torch.lerp(condition, x / self.signal[t].view(per_sample), weight.view(per_sample))
        correction: Tensor = self.unet(torch.cat([x, condition], dim=1), t)
        return mean + self.spread(t).view(per_sample) * correction

    def spread(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in the weighted mean of state and condition, by step, model units."""
        return self.condition_noise * self.deviation[t] / torch.hypot(self.deviation[t], torch.tensor(self.condition_noise))


REGRESSORS: dict[str, Callable[..., nn.Module]] = {
    "regression-overlap-unet": RegressionOverlapUNet,
    "overlap-resnet-generator": OverlapResNetGenerator,
}
CONDITIONALS: dict[str, Callable[..., nn.Module]] = {"conditional-overlap-unet": ConditionalOverlapUNet}


def create_regressor(config: dict[str, Any]) -> nn.Module:
    """A network from degraded to restored images, by its description: ``architecture`` and that class's keywords.

    Raises
    ------
    InputError
        When the architecture or a keyword is unknown.
    """
    return create_network("regressor", REGRESSORS, config)


def create_conditional(config: dict[str, Any]) -> nn.Module:
    """A conditional denoiser by its description: ``architecture`` and that class's keywords.

    Raises
    ------
    InputError
        When the architecture or a keyword is unknown.
    """
    return create_network("conditional denoiser", CONDITIONALS, config)


def _convolution(channels: int, width: int, size: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(size // 2), nn.Conv2d(channels, width, size), nn.InstanceNorm2d(width), nn.ReLU()]


def _shrinking(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.InstanceNorm2d(width), nn.ReLU()]


def _judgement(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 4, stride=stride, padding=1), nn.InstanceNorm2d(width), nn.LeakyReLU(0.2)]


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), as CycleGAN's."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
