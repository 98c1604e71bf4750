"""Restorers by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.restorers import classical
from srh_clinic.restorers.deep_image_prior import DeepImagePriorSettings, create_deep_image_prior
from srh_clinic.restorers.learned import (
    ConditionalDiffusionSettings,
    LearnedSettings,
    create_conditional_diffusion,
    create_regression_restorer,
)
from srh_clinic.restorers.protocol import Restorer
from srh_clinic.rscd.baselines import CCDFSettings, RRDSettings
from srh_clinic.rscd.restoration import RSCDSettings

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True)
class Entry:
    """A restorer that can be had by name."""

    settings: type[BaseModel]
    create: Callable[[str, str, Any], Restorer]
    """Called with the bundle's name or folder, the device's name and the settings."""
    networks: bool = False
    """Whether it uses networks of the bundle."""


def _filter(name: str, model: type[BaseModel], function: Callable[..., Counts]) -> Entry:
    """An entry for a function of counts ``(2, H, W)`` and ``settings``."""

    def create(bundle: str, device: str, settings: BaseModel) -> Restorer:
        return classical.FilterRestorer(name, settings.model_dump(), partial(function, settings=settings))

    return Entry(model, create)


def _on_use(module: str, factory: str) -> Callable[[str, str, Any], Restorer]:
    """A factory whose module is imported when it is called: the networks' libraries take seconds, no filter waits for them."""

    def create(bundle: str, device: str, settings: Any) -> Restorer:
        made: Restorer = getattr(import_module(module), factory)(bundle, device, settings)
        return made

    return create


TABLE: dict[str, Entry] = {
    "rscd": Entry(RSCDSettings, _on_use("srh_clinic.restorers.rscd", "create_rscd"), networks=True),
    "none": _filter("none", classical.NoneSettings, lambda counts, settings: counts.copy()),
    "median": _filter("median", classical.MedianSettings, classical.median),
    "gaussian": _filter("gaussian", classical.GaussianSettings, classical.gaussian),
    "nlm": _filter("nlm", classical.NonLocalMeansSettings, classical.non_local_means),
    "wavelet": _filter("wavelet", classical.WaveletSettings, classical.wavelet),
    "deep_image_prior": Entry(DeepImagePriorSettings, create_deep_image_prior),
    "ccdf": Entry(CCDFSettings, _on_use("srh_clinic.restorers.rscd", "create_ccdf"), networks=True),
    "rrd": Entry(RRDSettings, _on_use("srh_clinic.restorers.rscd", "create_rrd"), networks=True),
    **{
        name: Entry(LearnedSettings, partial(create_regression_restorer, name), networks=True)
        for name in ("synthetic_noise", "noise2noise", "noise2void", "cyclegan")
    },
    "conditional_diffusion": Entry(ConditionalDiffusionSettings, create_conditional_diffusion, networks=True),
}
"""Every restorer. A module of settings imports neither MONAI nor timm."""

RESTORERS = tuple(TABLE)
"""Every name that :func:`create_restorer` knows."""


def create_restorer(name: str, bundle: str = "phantom-demo", device: str = "auto", **settings: Any) -> Restorer:
    """A restorer by name.

    Parameters
    ----------
    name
        ``rscd``; with the same denoiser ``ccdf`` and ``rrd``; with networks of their own ``synthetic_noise``,
        ``noise2noise``, ``noise2void``, ``cyclegan`` and ``conditional_diffusion``; a network fitted to each tile,
        ``deep_image_prior``; or a filter: ``none``, ``median``, ``gaussian``, ``nlm`` (non-local means), ``wavelet``.
    bundle
        Name or folder of the bundle whose networks are used; ``deep_image_prior`` and the filters need none.
    device
        ``auto``, or a torch device for the networks.
    settings
        Those of :class:`~srh_clinic.rscd.restoration.RSCDSettings`, :class:`~srh_clinic.rscd.baselines.CCDFSettings`,
        :class:`~srh_clinic.rscd.baselines.RRDSettings`, :class:`~srh_clinic.restorers.learned.LearnedSettings`,
        :class:`~srh_clinic.restorers.learned.ConditionalDiffusionSettings`,
        :class:`~srh_clinic.restorers.deep_image_prior.DeepImagePriorSettings`, or the filter's in
        :mod:`srh_clinic.restorers.classical`.

    Raises
    ------
    InputError
        When the name, a setting or its value is unknown; the message lists what there is.

    Examples
    --------
    >>> import numpy as np
    >>> speckled = np.full((1, 2, 8, 8), 1000, dtype=np.uint16)
    >>> speckled[0, 0, 4, 4] = 60000
    >>> int(create_restorer("median", size=3).restore(speckled).counts.max())
    1000
    """
    if name not in TABLE:
        raise InputError(f"the restorer {name!r}", f"one of {', '.join(RESTORERS)}")
    entry = TABLE[name]
    return entry.create(bundle, device, parse_settings(name, entry.settings, settings))


def parse_settings(name: str, model: type[Settings], given: dict[str, Any]) -> Settings:
    """Settings of a restorer; what pydantic refuses becomes one sentence about the first thing that is wrong."""
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none at all"
            raise InputError(f"the setting {setting!r} for the restorer {name!r}", f"one of its settings: {known}") from error
        needed = first.get("ctx", {}).get("expected") or first["msg"].removeprefix("Input should be ")
        raise InputError(f"{setting} = {first['input']!r} for the restorer {name!r}", needed) from error
