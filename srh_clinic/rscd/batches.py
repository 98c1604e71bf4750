"""Tiles as batches of a network, and what is refused of what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_model
from srh_clinic.rscd.tile import Tile


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """A batch of tensors; those of unequal shapes raise :class:`~srh_clinic.errors.InputError`."""
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise InputError(f"tiles of the shapes {sorted(shapes)}", "tiles of one size")
    return torch.stack(list(tensors))


def require_finite(finite: bool, network: str) -> None:
    """Refuse what a network with broken weights answers."""
    if not finite:
        raise InputError(f"values that are not finite from {network}", "a bundle whose weights are undamaged")


def batches(tiles: Iterable[Tile], size: int) -> Iterator[list[Tile]]:
    """Tiles in their order, ``size`` at a time."""
    source = iter(tiles)
    while batch := list(islice(source, size)):
        yield batch


def images(batch: Sequence[Tile], dtype: torch.dtype, device: str | torch.device) -> Tensor:
    """Tiles in model space, ``(N, 2, H, W)``."""
    return stack([torch.as_tensor(counts_to_model(tile.counts), dtype=dtype, device=device) for tile in batch])
