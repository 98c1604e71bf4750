"""RSCD, and the reverse diffusions it is compared with, with the networks of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from pydantic import BaseModel
from torch import nn

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.inference import choose_device
from srh_clinic.restorers.restorer import TileRestorer, size_multiple_of
from srh_clinic.rscd.baselines import CCDF, RRD
from srh_clinic.rscd.calibrator import StepCalibrator
from srh_clinic.rscd.networks import create_calibrator, create_denoiser
from srh_clinic.rscd.noise_level import index_of_noise
from srh_clinic.rscd.restoration import RSCD, Calibrator
from srh_clinic.rscd.schedule import Schedule, create_schedule
from srh_clinic.rscd.settings import CCDFSettings, RRDSettings, RSCDSettings
from srh_clinic.rscd.tile import RestoredTile, Tile


class Diffusion(Protocol):
    """A way to restore a stream of tiles by reverse diffusion: RSCD, CCDF or RRD."""

    @property
    def settings(self) -> BaseModel: ...

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]: ...


Algorithm = TypeVar("Algorithm", bound=Diffusion)


@dataclass(frozen=True, eq=False)
class DiffusionRestorer(TileRestorer, Generic[Algorithm]):
    """A diffusion with its networks as a :class:`~srh_clinic.restorers.restorer.Restorer`.

    Parameters
    ----------
    name
        ``rscd``, ``ccdf`` or ``rrd``.
    diffusion
        The algorithm with its networks.
    size_multiple
        The denoiser takes heights and widths that are multiples of this.
    """

    name: str
    diffusion: Algorithm
    size_multiple: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        return self.diffusion.settings.model_dump()

    def _stream(self, tiles: Iterable[Tile], seed: int) -> Iterator[RestoredTile]:
        return self.diffusion.stream(tiles, seed)


def create_rscd(name: str, bundle: str, device: str, settings: RSCDSettings) -> DiffusionRestorer[RSCD]:
    """RSCD with a bundle's denoiser and calibrator, and the schedule its metadata names.

    With ``estimator="nonparametric"`` the bundle may lack a calibrator.

    Raises
    ------
    InputError
        When the bundle or the device is not to be had.
    """
    loaded, where = load_bundle(bundle), choose_device(device)
    denoiser, schedule = _load_denoiser(loaded, where)
    calibrator: Calibrator = partial(index_of_noise, schedule=schedule)
    if settings.estimator == "calibrator":
        calibrator = load_calibrator(loaded, where)
    return DiffusionRestorer(name, RSCD(denoiser, calibrator, schedule, settings, where), size_multiple_of(denoiser))


def create_reverse_diffusion(
    name: str, bundle: str, device: str, settings: CCDFSettings | RRDSettings
) -> DiffusionRestorer[CCDF] | DiffusionRestorer[RRD]:
    """CCDF or RRD with a bundle's denoiser, and the schedule its metadata names; raises as :func:`create_rscd` does."""
    loaded, where = load_bundle(bundle), choose_device(device)
    denoiser, schedule = _load_denoiser(loaded, where)
    if isinstance(settings, CCDFSettings):
        return DiffusionRestorer(name, CCDF(denoiser, schedule, settings, where), size_multiple_of(denoiser))
    return DiffusionRestorer(name, RRD(denoiser, schedule, settings, where), size_multiple_of(denoiser))


def _load_denoiser(bundle: Bundle, device: torch.device) -> tuple[nn.Module, Schedule]:
    denoiser = bundle.load_network(create_denoiser, "denoiser", device)
    return denoiser, create_schedule(bundle.metadata["schedule"])


def load_calibrator(bundle: Bundle, device: torch.device) -> Calibrator:
    """A bundle's calibrator: model-space images to the index that each resembles.

    Raises
    ------
    InputError
        When the bundle has none, or its weights do not fit.
    """
    return StepCalibrator(bundle.load_network(create_calibrator, "calibrator", device), device=device).predict
