"""RSCD, and the reverse diffusions it is compared with, with the networks of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from srh_clinic.bundles import Bundle, load_bundle
from srh_clinic.engine import Engine, Precision, choose_precision, side_by_side
from srh_clinic.errors import InputError, first_fault, refused_setting
from srh_clinic.inference import choose_device
from srh_clinic.restorers.restorer import TileRestorer
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

    @property
    def device(self) -> str | torch.device: ...

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]: ...


CARD_BATCH = 8
"""Images that the calibrator sees at once on a card, always so many."""

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
        if torch.device(self.diffusion.device).type != "cpu":
            return self.diffusion.stream(tiles, seed)

        def alone(tile: Tile) -> RestoredTile:
            (restored,) = self.diffusion.stream([tile], seed)
            return restored

        return side_by_side(alone, tiles)


def create_rscd(name: str, bundle: str | Path, device: str, settings: RSCDSettings) -> DiffusionRestorer[RSCD]:
    """RSCD with a bundle's denoiser and calibrator, and the schedule its metadata names.

    With ``estimator="nonparametric"`` the bundle may lack a calibrator.

    Raises
    ------
    InputError
        When the bundle or the device is not to be had.
    """
    loaded, where = load_bundle(bundle), choose_device(device)
    settings = _of_bundle(loaded, settings)
    precision = choose_precision(settings.precision, where)
    settings = settings.model_copy(update={"precision": precision})
    denoiser, schedule = _load_denoiser(loaded, where, precision)
    calibrator: Calibrator = partial(index_of_noise, schedule=schedule)
    if settings.estimator == "calibrator":
        calibrator = load_calibrator(loaded, where)
    return DiffusionRestorer(name, RSCD(denoiser, calibrator, schedule, settings, where), denoiser.size_multiple)


def _of_bundle(bundle: Bundle, given: RSCDSettings) -> RSCDSettings:
    """What the holder of the denoiser states under ``rscd`` in its metadata, and before it the settings that are given.

    A profile or a sampler that is given takes the place of all that the bundle states: they go together.
    """
    stated = bundle.holder("denoiser").metadata.get("rscd", {}) if "denoiser" in bundle.parts else {}
    chosen = given.model_dump(include=given.model_fields_set)
    if {"profile", "sampler"} & set(chosen) or not stated:
        return given
    try:
        RSCDSettings(**stated)
    except (TypeError, ValidationError) as error:
        found = f"settings of rscd that are none ({first_fault(error) if isinstance(error, ValidationError) else error})"
        raise InputError(found, "an undamaged bundle", bundle.path) from error
    try:
        return RSCDSettings(**{**stated, **chosen})
    except ValidationError as error:  # what was given does not go with what is stated
        raise refused_setting(error, f"rscd as {bundle.name} states it", RSCDSettings.model_fields) from error


def create_reverse_diffusion(
    name: str, bundle: str | Path, device: str, settings: CCDFSettings | RRDSettings
) -> DiffusionRestorer[CCDF] | DiffusionRestorer[RRD]:
    """CCDF or RRD with a bundle's denoiser, and the schedule its metadata names; raises as :func:`create_rscd` does."""
    loaded, where = load_bundle(bundle), choose_device(device)
    precision = choose_precision(settings.precision, where)
    denoiser, schedule = _load_denoiser(loaded, where, precision)
    chosen = settings.model_copy(update={"precision": precision})
    if isinstance(chosen, CCDFSettings):
        return DiffusionRestorer(name, CCDF(denoiser, schedule, chosen, where), denoiser.size_multiple)
    return DiffusionRestorer(name, RRD(denoiser, schedule, chosen, where), denoiser.size_multiple)


def _load_denoiser(bundle: Bundle, device: torch.device, precision: Precision) -> tuple[Engine, Schedule]:
    denoiser = bundle.load_network(create_denoiser, "denoiser", device)
    return Engine(denoiser, device, precision), create_schedule(bundle.metadata["schedule"])


def load_calibrator(bundle: Bundle, device: torch.device) -> Calibrator:
    """A bundle's calibrator: model-space images to the index that each resembles; in float32, for an index is soon another.

    Raises
    ------
    InputError
        When the bundle has none, or its weights do not fit.
    """
    network = Engine(bundle.load_network(create_calibrator, "calibrator", device), device)
    return StepCalibrator(network, None if device.type == "cpu" else CARD_BATCH, device).predict
