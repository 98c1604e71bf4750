"""Deep Image Prior: a network that has never seen an image, fitted to one tile and stopped before it fits the noise.

Ulyanov, Vedaldi and Lempitsky 2018, CVPR, with the network and the habits of the authors' denoising example.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srh_clinic.errors import InputError
from srh_clinic.inference import choose_device
from srh_clinic.intensity import Counts, counts_to_unit, unit_to_counts
from srh_clinic.restorers.restorer import TileRestorer
from srh_clinic.restorers.settings import DeepImagePriorSettings
from srh_clinic.rscd.tile import RestoredTile, Tile

NOISE_INPUT = 0.1
"""Largest value of the fixed input, uniform from 0."""


class SkipNetwork(nn.Module):
    """The authors' encoder-decoder: at each scale a narrow path past it and a wide one through the scale below.

    Parameters
    ----------
    settings
        Widths and number of scales.
    """

    def __init__(self, settings: DeepImagePriorSettings) -> None:
        super().__init__()
        wide, narrow = settings.channels, settings.skip_channels
        above = [settings.input_channels] + [wide] * (settings.scales - 1)
        self.past = nn.ModuleList(_convolution(width, narrow, 1) for width in above)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(width, wide, 3, stride=2), _convolution(wide, wide, 3)) for width in above
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(narrow + wide), _convolution(narrow + wide, wide, 3), _convolution(wide, wide, 1))
            for _ in above
        )
        self.last = nn.Conv2d(wide, 2, 1)

    def forward(self, noise: Tensor) -> Tensor:
        """Unit intensity ``(1, 2, H, W)`` from noise ``(1, C, H, W)``; H and W are multiples of ``2**scales``."""
        return torch.sigmoid(self.last(self._scale(noise, 0)))

    def _scale(self, x: Tensor, scale: int) -> Tensor:
        below = self.down[scale](x)
        if scale + 1 < len(self.down):
            below = self._scale(below, scale + 1)
        below = F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        scaled: Tensor = self.up[scale](torch.cat([self.past[scale](x), below], dim=1))
        return scaled


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, padding_mode="reflect")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


@dataclass(frozen=True)
class Fit:
    """What a tile's fit came to: uint16 counts ``(2, H, W)`` and how often it went back."""

    counts: Counts
    rollbacks: int


@dataclass(frozen=True, eq=False)
class DeepImagePriorRestorer(TileRestorer):
    """Deep Image Prior as a :class:`~srh_clinic.restorers.restorer.Restorer`: each tile has a network of its own.

    A tile's network, input and jitter come from the seed and the tile's place: its result depends neither on other tiles nor
    on their order or a resume. On a CPU with as many threads it is the same to the last count; on CUDA some gradients are
    summed in no fixed order, and thousands of iterations magnify the rounding. Overlapping tiles are fitted apart and differ
    where they overlap.

    ``evaluations`` are the iterations run, the stop reason is ``iterations``, and a tile that went back to earlier weights is
    flagged ``rolled-back``.
    """

    fitting: DeepImagePriorSettings
    device: torch.device
    name: str = "deep_image_prior"

    @property
    def settings(self) -> dict[str, Any]:
        return self.fitting.model_dump()

    def _stream(self, tiles: Iterable[Tile], seed: int) -> Iterator[RestoredTile]:
        for tile in tiles:
            fit = fit_tile(tile, seed, self.fitting, self.device)
            yield RestoredTile(
                key=tile.key,
                counts=fit.counts,
                stop_reason="iterations",
                flags=("rolled-back",) if fit.rollbacks else (),
                evaluations=self.fitting.iterations,
            )


def create_deep_image_prior(name: str, bundle: str, device: str, settings: DeepImagePriorSettings) -> DeepImagePriorRestorer:
    """The restorer by its settings; it takes nothing from the bundle.

    Raises
    ------
    InputError
        When there is no such device.
    """
    return DeepImagePriorRestorer(settings, choose_device(device), name)


def fit_tile(tile: Tile, seed: int, settings: DeepImagePriorSettings, device: torch.device) -> Fit:
    """Fit a network to both channels of a tile at once, by the mean squared error of unit intensities.

    As in the authors' example, going back restores the weights but neither the optimiser nor the average. Any size of tile
    will do: the network draws one of a multiple of ``2**scales``, of which the tile is the top left.

    Raises
    ------
    InputError
        When the fit diverges: its error is not finite, or it went back more than ``max_rollbacks`` times.
    """
    # The pipeline may hold gradients off around a restorer.
    with torch.inference_mode(False), torch.enable_grad():
        target = torch.as_tensor(counts_to_unit(tile.counts), device=device)[None]
        height, width = target.shape[-2:]
        generator = tile_generator(seed, tile, device)
        network = initialised(SkipNetwork(settings).to(device), generator)
        edges = [_drawn(edge, settings.scales) for edge in (height, width)]
        noise = NOISE_INPUT * torch.rand((1, settings.input_channels, *edges), generator=generator, device=device)
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        average: Tensor | None = None
        kept, last_fit, rollbacks = _weights(network), -math.inf, 0
        for iteration in range(1, settings.iterations + 1):
            jitter = torch.randn(noise.shape, generator=generator, device=device)
            drawn = network(noise + settings.jitter * jitter)[..., :height, :width]
            error = F.mse_loss(drawn, target)
            watched = iteration % settings.check_every == 0
            # A look at every error would wait for the device at every iteration.
            if watched or iteration == settings.iterations:
                value = float(error.detach())
                if not math.isfinite(value):
                    raise _diverged(tile, f"an error of {value} by iteration {iteration}")
                fit = -10 * math.log10(value) if value > 0 else math.inf
                if watched and fit < last_fit - settings.largest_drop:
                    rollbacks += 1
                    if rollbacks > settings.max_rollbacks:
                        raise _diverged(tile, f"{rollbacks} returns to earlier weights by iteration {iteration}")
                    network.load_state_dict(kept)
                    continue
                if watched:
                    kept, last_fit = _weights(network), fit
            average = drawn.detach() if average is None else average.lerp(drawn.detach(), 1 - settings.average)
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        if average is None or not bool(torch.isfinite(average).all()):
            raise _diverged(tile, "an output that is not finite")
        return Fit(unit_to_counts(average[0].cpu().numpy()), rollbacks)


def tile_generator(seed: int, tile: Tile, device: torch.device) -> torch.Generator:
    """Random numbers that belong to a seed and a tile's place on the slide."""
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed {seed}", "one from 0 to 2**64 - 1")
    (word,) = np.random.SeedSequence([seed, tile.y, tile.x]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))


def initialised(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """The network, its convolutions drawn from ``generator`` as torch draws them from its own: uniform to ``fan_in**-0.5``."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            bound = (part.in_channels * math.prod(part.kernel_size)) ** -0.5
            for weight in part.parameters():
                weight.data.uniform_(-bound, bound, generator=generator)
    return network


def _drawn(edge: int, scales: int) -> int:
    """Edge that the network draws for an edge of the tile; the smallest scale is 2 px, which reflection needs."""
    return max(math.ceil(edge / 2**scales), 2) * 2**scales


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _diverged(tile: Tile, found: str) -> InputError:
    where = f"tile {tile.key} at ({tile.y}, {tile.x})"
    return InputError(f"a fit of {where} that diverges: {found}", "a lower learning_rate or fewer iterations")
