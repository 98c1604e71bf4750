"""Learned baselines with the networks of a bundle: in one pass, or by conditional diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.inference import choose_device, inference
from srh_clinic.intensity import Counts, counts_to_model, model_to_counts
from srh_clinic.restorers.protocol import Restoration, restore_array
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.restoration import RestoredTile, Tile
from srh_clinic.rscd.sampler import ancestral, ddim
from srh_clinic.rscd.schedule import TOTAL_STEPS, Schedule, create_schedule

Restore = Callable[[Tensor, Sequence[tuple[int, int]], int], Tensor]
"""Model-space images ``(N, 2, H, W)``, their corners (y, x) on the slide and a seed to restored images."""


class LearnedSettings(BaseModel):
    """Settings of a baseline that restores in one pass of its network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=8, ge=1)
    """Tiles in one evaluation; it changes no result but by float rounding."""


class ConditionalDiffusionSettings(LearnedSettings):
    """Settings of conditional diffusion."""

    steps: int = Field(default=TOTAL_STEPS, ge=1, le=TOTAL_STEPS)
    """Evaluations of the network for a tile. All 1,000 are ancestral sampling, the paper's; fewer are DDIM, 50 serve."""


@dataclass(frozen=True, eq=False)
class LearnedRestorer:
    """A network's images as a :class:`~srh_clinic.restorers.protocol.Restorer`.

    Parameters
    ----------
    name
        Of the baseline, and of the bundle's part.
    settings
        As chosen.
    apply
        Restores a batch of images of one size.
    device
        Where it works.
    size_multiple
        It takes heights and widths that are multiples of this; other tiles are reflected up to one and cropped after.
    evaluations
        Forward passes for each tile.
    """

    name: str
    settings: dict[str, Any]
    apply: Restore
    device: torch.device
    size_multiple: int = 1
    evaluations: int = 1

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return restore_array(self.stream, counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        """Restore tiles of one size as they come.

        Raises
        ------
        InputError
            When tiles differ in size, or the network answers with values that are not finite.
        """
        source = iter(tiles)
        while batch := list(islice(source, self.settings["batch_size"])):
            shapes = {tile.counts.shape for tile in batch}
            if len(shapes) > 1:
                raise InputError(f"tiles of the shapes {sorted(shapes)}", "tiles of one size")
            height, width = batch[0].counts.shape[1:]
            padding = ((0, 0), (0, 0), (0, -height % self.size_multiple), (0, -width % self.size_multiple))
            images = np.pad(counts_to_model(np.stack([tile.counts for tile in batch])), padding, mode="reflect")
            with inference():
                restored = self.apply(torch.from_numpy(images).to(self.device), [(tile.y, tile.x) for tile in batch], seed)
            if not bool(torch.isfinite(restored).all()):
                raise InputError(f"values that are not finite from {self.name}", "a bundle whose weights are undamaged")
            counts = model_to_counts(restored[:, :, :height, :width].float().cpu().numpy())
            for tile, image in zip(batch, counts, strict=True):
                yield RestoredTile(
                    key=tile.key,
                    counts=image,
                    t_pred=-1,
                    steps=0,
                    rounds=0,
                    stop_reason="filtered",
                    flags=(),
                    evaluations=self.evaluations,
                )


def create_regression_restorer(name: str, bundle: str, device: str, settings: LearnedSettings) -> LearnedRestorer:
    """``synthetic_noise``, ``noise2noise``, ``noise2void`` or ``cyclegan`` with the network of that name in a bundle.

    Raises
    ------
    InputError
        When the bundle, its network or the device is not to be had.
    """
    from srh_clinic.restorers.networks import create_regressor
    from srh_clinic.restorers.rscd import load_network

    where = choose_device(device)
    loaded = load_bundle(bundle)
    network = load_network(create_regressor(loaded.config(name)), loaded, name, where)

    def apply(images: Tensor, corners: Sequence[tuple[int, int]], seed: int) -> Tensor:
        restored: Tensor = network(images)
        return restored

    return LearnedRestorer(name, settings.model_dump(), apply, where, _size_multiple(network))


def create_conditional_diffusion(bundle: str, device: str, settings: ConditionalDiffusionSettings) -> LearnedRestorer:
    """Conditional diffusion (Saharia et al. 2022, as Lyu et al. 2025 use it) with a bundle's ``conditional_diffusion``.

    Raises
    ------
    InputError
        When the bundle, its network or the device is not to be had.
    """
    from srh_clinic.restorers.networks import create_conditional
    from srh_clinic.restorers.rscd import load_network

    name = "conditional_diffusion"
    where = choose_device(device)
    loaded = load_bundle(bundle)
    config = loaded.config(name)
    schedule = create_schedule(config.get("schedule", "cosine"))
    network = load_network(create_conditional(config), loaded, name, where)

    def apply(images: Tensor, corners: Sequence[tuple[int, int]], seed: int) -> Tensor:
        return sample_conditional(network, images, corners, seed, schedule=schedule, evaluations=settings.steps)

    multiple = _size_multiple(network)
    return LearnedRestorer(name, settings.model_dump(), apply, where, multiple, evaluations=settings.steps)


def sample_conditional(
    network: Callable[[Tensor, Tensor, Tensor], Tensor],
    condition: Tensor,
    corners: Sequence[tuple[int, int]],
    seed: int,
    *,
    schedule: Schedule,
    evaluations: int,
) -> Tensor:
    """Images from pure noise, with degraded ones as the condition.

    All steps, one by one, are ancestral sampling with the posterior's variance (Ho et al. 2020, Algorithm 2); fewer are DDIM
    at evenly spread steps (Song et al. 2021). The clean image of each step is clipped to model space, as in Ho's
    released code.

    Parameters
    ----------
    network
        The clean images behind states, given states and conditions ``(N, 2, H, W)`` and steps ``(N,)``.
    condition
        Degraded images in model space ``(N, 2, H, W)``.
    corners
        Top left corner (y, x) of each on its slide, which decides its noise.
    seed
        Of the noise, 0 to 2**64 - 1.
    schedule
        The one that the network was trained with.
    evaluations
        1 to all of the schedule's steps.
    """
    total = len(schedule.beta)
    height, width = condition.shape[2:]

    def noise(step: int) -> Tensor:
        drawn = [block_noise(seed, y, x, height, width, round=0, step=step) for y, x in corners]
        return torch.from_numpy(np.stack(drawn)).to(condition)

    x = noise(total)  # no reverse step has this index
    path = np.rint(np.linspace(total - 1, -1, evaluations + 1)).astype(np.int64)
    for here, there in pairwise(path):
        t, t_next = np.full(len(x), here), np.full(len(x), there)
        clean = network(x, condition, torch.as_tensor(t, device=x.device)).clamp(-1, 1)
        eps = (x - float(np.sqrt(schedule.alpha_bar[here])) * clean) / float(schedule.sigma[here])
        if evaluations == total:
            added = noise(int(here)) if here > 0 else torch.zeros_like(x)
            x = ancestral(x, eps, t, t_next, schedule, added)
        else:
            x = ddim(x, eps, t, t_next, schedule)
    return x


def _size_multiple(network: nn.Module) -> int:
    return int(getattr(network, "size_multiple", 1))
