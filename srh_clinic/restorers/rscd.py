"""RSCD, and the reverse diffusions it is compared with, with the networks of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.errors import InputError
from srh_clinic.inference import choose_device
from srh_clinic.intensity import Counts
from srh_clinic.restorers.protocol import Restoration, restore_array
from srh_clinic.rscd.baselines import CCDF, RRD, CCDFSettings, RRDSettings
from srh_clinic.rscd.calibrator import StepCalibrator
from srh_clinic.rscd.networks import create_calibrator, create_denoiser
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import RSCD, Calibrator, Callback, RestoredTile, RSCDSettings, Tile
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
        return fitted(lambda grown: self.rscd.stream(grown, seed, callback), tiles, self.size_multiple)


@dataclass(frozen=True, eq=False)
class ReverseRestorer:
    """:class:`~srh_clinic.rscd.baselines.CCDF` or :class:`~srh_clinic.rscd.baselines.RRD` as a restorer.

    Parameters
    ----------
    diffusion
        The reverse diffusion with its network.
    size_multiple
        As of :class:`RSCDRestorer`.
    """

    name: str
    diffusion: CCDF | RRD
    size_multiple: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        return self.diffusion.settings.model_dump()

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        return restore_array(self.stream, counts, positions, seed)

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        return fitted(lambda grown: self.diffusion.stream(grown, seed), tiles, self.size_multiple)


def fitted(
    stream: Callable[[Iterator[Tile]], Iterator[RestoredTile]], tiles: Iterable[Tile], multiple: int
) -> Iterator[RestoredTile]:
    """Restore tiles that are reflected up to heights and widths that are multiples of ``multiple``, and crop them after."""
    sizes: dict[int, tuple[int, int]] = {}

    def grown() -> Iterator[Tile]:
        for tile in tiles:
            height, width = sizes[tile.key] = tile.counts.shape[1], tile.counts.shape[2]
            padding = ((0, 0), (0, -height % multiple), (0, -width % multiple))
            yield replace(tile, counts=np.pad(tile.counts, padding, mode="reflect"))

    for restored in stream(grown()):
        height, width = sizes.pop(restored.key)
        yield replace(restored, counts=restored.counts[:, :height, :width])


def create_rscd(bundle: str, device: str, settings: RSCDSettings) -> RSCDRestorer:
    """RSCD with a bundle's denoiser and calibrator, and the schedule its metadata names.

    With ``estimator="nonparametric"`` the bundle may lack a calibrator.

    Raises
    ------
    InputError
        When the bundle or the device is not to be had.
    """
    loaded = load_bundle(bundle)
    where = choose_device(device)
    schedule = create_schedule(loaded.metadata["schedule"])
    denoiser, size_multiple = _denoiser(loaded, where)
    calibrator: Calibrator = partial(index_of_noise, schedule=schedule)
    if settings.estimator == "calibrator":
        calibrator = load_calibrator(loaded, where)
    return RSCDRestorer(RSCD(denoiser, calibrator, schedule, settings, where), size_multiple)


def create_ccdf(bundle: str, device: str, settings: CCDFSettings) -> ReverseRestorer:
    """CCDF with a bundle's denoiser, and the schedule its metadata names; raises as :func:`create_rscd` does."""
    loaded = load_bundle(bundle)
    where = choose_device(device)
    denoiser, size_multiple = _denoiser(loaded, where)
    diffusion = CCDF(denoiser, create_schedule(loaded.metadata["schedule"]), settings, where)
    return ReverseRestorer("ccdf", diffusion, size_multiple)


def create_rrd(bundle: str, device: str, settings: RRDSettings) -> ReverseRestorer:
    """RRD with a bundle's denoiser, and the schedule its metadata names; raises as :func:`create_rscd` does."""
    loaded = load_bundle(bundle)
    where = choose_device(device)
    denoiser, size_multiple = _denoiser(loaded, where)
    diffusion = RRD(denoiser, create_schedule(loaded.metadata["schedule"]), settings, where)
    return ReverseRestorer("rrd", diffusion, size_multiple)


def load_calibrator(bundle: Bundle, device: torch.device) -> Calibrator:
    """A bundle's calibrator: model-space images to the index that each resembles.

    Raises
    ------
    InputError
        When the bundle has none, or its weights do not fit.
    """
    network = load_network(create_calibrator(bundle.config("calibrator")), bundle, "calibrator", device)
    return StepCalibrator(network, device=device).predict


def _denoiser(bundle: Bundle, device: torch.device) -> tuple[nn.Module, int]:
    """A bundle's denoiser, and the number whose multiples it takes for heights and widths."""
    network = load_network(create_denoiser(bundle.config("denoiser")), bundle, "denoiser", device)
    return network, int(getattr(network, "size_multiple", 1))


def load_network(network: nn.Module, bundle: Bundle, part: str, device: torch.device) -> nn.Module:
    """A network with a bundle's weights, on the device and in evaluation mode.

    Raises
    ------
    InputError
        When the weights do not fit.
    """
    try:
        network.load_state_dict(bundle.load_tensors(part))
    except RuntimeError as error:
        raise InputError(f"weights that do not fit the {part}'s configuration", "an undamaged bundle", bundle.path) from error
    return network.to(device).eval()
