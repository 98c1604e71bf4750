"""Learned baselines with the networks of a bundle: in one pass, or by conditional diffusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srh_clinic.bundles import load_bundle
from srh_clinic.engine import Engine
from srh_clinic.inference import choose_device, inference
from srh_clinic.intensity import model_to_counts
from srh_clinic.restorers.networks import create_conditional, create_regressor
from srh_clinic.restorers.restorer import TileRestorer
from srh_clinic.restorers.settings import ConditionalDiffusionSettings, LearnedSettings
from srh_clinic.rscd.batches import batches, images, require_finite
from srh_clinic.rscd.noise import block_noise
from srh_clinic.rscd.sampler import ancestral, ddim
from srh_clinic.rscd.schedule import Schedule, create_schedule
from srh_clinic.rscd.tile import RestoredTile, Tile

Restore = Callable[[Tensor, Sequence[tuple[int, int]], int], Tensor]
"""Model-space images ``(N, 2, H, W)``, their corners (y, x) on the slide and a seed to restored images."""


@dataclass(frozen=True, eq=False)
class LearnedRestorer(TileRestorer):
    """A network's images as a :class:`~srh_clinic.restorers.restorer.Restorer`.

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
        It takes heights and widths that are multiples of this.
    evaluations
        Forward passes for each tile.
    """

    name: str
    settings: dict[str, Any]
    apply: Restore
    device: torch.device
    size_multiple: int = 1
    evaluations: int = 1

    def _stream(self, tiles: Iterable[Tile], seed: int) -> Iterator[RestoredTile]:
        for batch in batches(tiles, self.settings["batch_size"]):
            with inference():
                degraded = images(batch, torch.float32, self.device)
                restored = self.apply(degraded, [(tile.y, tile.x) for tile in batch], seed)
            require_finite(bool(torch.isfinite(restored).all()), self.name)
            counts = model_to_counts(restored.float().cpu().numpy())
            for tile, image in zip(batch, counts, strict=True):
                yield RestoredTile(tile.key, image, evaluations=self.evaluations)


def create_regression_restorer(name: str, bundle: str | Path, device: str, settings: LearnedSettings) -> LearnedRestorer:
    """``synthetic_noise``, ``noise2noise``, ``noise2void`` or ``cyclegan`` with the network of that name in a bundle.

    Raises
    ------
    InputError
        When the bundle, its network or the device is not to be had.
    """
    where = choose_device(device)
    network = Engine(load_bundle(bundle).load_network(create_regressor, name, where), where)

    def apply(images: Tensor, corners: Sequence[tuple[int, int]], seed: int) -> Tensor:
        return network(images)

    return LearnedRestorer(name, settings.model_dump(), apply, where, network.size_multiple)


def create_conditional_diffusion(
    name: str, bundle: str | Path, device: str, settings: ConditionalDiffusionSettings
) -> LearnedRestorer:
    """Conditional diffusion (Saharia et al. 2022, as Lyu et al. 2025 use it) with a bundle's ``conditional_diffusion``.

    Raises
    ------
    InputError
        When the bundle, its network or the device is not to be had.
    """
    where = choose_device(device)
    loaded = load_bundle(bundle)
    schedule = create_schedule(loaded.config(name).get("schedule", "cosine"))
    network = Engine(loaded.load_network(create_conditional, name, where), where)

    def apply(images: Tensor, corners: Sequence[tuple[int, int]], seed: int) -> Tensor:
        return sample_conditional(network, images, corners, seed, schedule=schedule, evaluations=settings.steps)

    return LearnedRestorer(name, settings.model_dump(), apply, where, network.size_multiple, evaluations=settings.steps)


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
