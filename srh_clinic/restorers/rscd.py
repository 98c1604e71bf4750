"""RSCD with the networks of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.restorers.protocol import Restoration, restore_array
from srh_clinic.rscd.calibrator import StepCalibrator
from srh_clinic.rscd.networks import create_calibrator, create_denoiser
from srh_clinic.rscd.restoration import RSCD, Callback, RestoredTile, RSCDSettings, Tile
from srh_clinic.rscd.schedule import create_schedule


@dataclass(frozen=True, eq=False)
class RSCDRestorer:
    """:class:`~srh_clinic.rscd.restoration.RSCD` as a :class:`~srh_clinic.restorers.protocol.Restorer`.

    Parameters
    ----------
    rscd
        Algorithm 1 with its networks.
    size_multiple
        The denoiser takes heights and widths that are multiples of this; other tiles are reflected up to one and cropped
        after.
    """

    rscd: RSCD
    size_multiple: int = 1
    name: str = "rscd"

    @property
    def settings(self) -> dict[str, Any]:
        return self.rscd.settings.model_dump()

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return restore_array(self.stream, counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0, callback: Callback | None = None) -> Iterator[RestoredTile]:
        sizes: dict[int, tuple[int, int]] = {}

        def fitted() -> Iterator[Tile]:
            for tile in tiles:
                height, width = sizes[tile.key] = tile.counts.shape[1], tile.counts.shape[2]
                padding = ((0, 0), (0, -height % self.size_multiple), (0, -width % self.size_multiple))
                yield replace(tile, counts=np.pad(tile.counts, padding, mode="reflect"))

        for restored in self.rscd.stream(fitted(), seed, callback):
            height, width = sizes.pop(restored.key)
            yield replace(restored, counts=restored.counts[:, :height, :width])


def create_rscd(bundle: str, device: str, settings: RSCDSettings) -> RSCDRestorer:
    """RSCD with a bundle's denoiser and calibrator, and the schedule its metadata names.

    Raises
    ------
    InputError
        When the bundle or the device is not to be had.
    """
    loaded = load_bundle(bundle)
    where = choose_device(device)
    denoiser = _load(create_denoiser(loaded.config("denoiser")), loaded, "denoiser", where)
    calibrator = _load(create_calibrator(loaded.config("calibrator")), loaded, "calibrator", where)
    rscd = RSCD(
        denoiser=denoiser,
        calibrator=StepCalibrator(calibrator, device=where).predict,
        schedule=create_schedule(loaded.metadata["schedule"]),
        settings=settings,
        device=where,
    )
    return RSCDRestorer(rscd, size_multiple=int(getattr(denoiser, "size_multiple", 1)))


def choose_device(name: str) -> torch.device:
    """A torch device by name; ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    InputError
        When there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" and the like take numbers and never give them back
    except (RuntimeError, AssertionError) as error:  # NotImplementedError is a RuntimeError
        raise InputError(f"the device {name!r}", "'auto', 'cpu' or a device that torch has here, such as 'cuda:0'") from error
    return device


def _load(network: nn.Module, bundle: Bundle, part: str, device: torch.device) -> nn.Module:
    try:
        network.load_state_dict(bundle.load_tensors(part))
    except RuntimeError as error:
        raise InputError(f"weights that do not fit the {part}'s configuration", "a whole bundle", bundle.path) from error
    return network.to(device).eval()
