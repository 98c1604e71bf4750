"""Restorers by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from srh_clinic.bundles import BASELINES
from srh_clinic.errors import InputError, refused_setting
from srh_clinic.restorers.restorer import Restorer
from srh_clinic.restorers.settings import (
    ConditionalDiffusionSettings,
    DeepImagePriorSettings,
    GaussianSettings,
    LearnedSettings,
    MedianSettings,
    NoneSettings,
    NonLocalMeansSettings,
    WaveletSettings,
)
from srh_clinic.rscd.settings import CCDFSettings, RRDSettings, RSCDSettings

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True)
class Kind:
    """A restorer that can be had by name.

    Its module is imported when one is made: the networks' libraries take seconds, and no filter and no help waits for them.
    """

    settings: type[BaseModel]
    module: str
    factory: str
    """Called with its name, the bundle's name or folder, the device's name and the settings."""
    parts: tuple[str, ...] = ()
    """The bundle's networks that it uses."""
    seeded: bool = False
    """Whether certainty can be asked of it: each seed draws another sample of the restorations that the input allows."""


def _filter(settings: type[BaseModel]) -> Kind:
    return Kind(settings, "srh_clinic.restorers.classical", "create_filter")


def _learned(name: str) -> Kind:
    module = "srh_clinic.restorers.learned"
    if name == "conditional_diffusion":
        return Kind(ConditionalDiffusionSettings, module, "create_conditional_diffusion", (name,), seeded=True)
    return Kind(LearnedSettings, module, "create_regression_restorer", (name,))


_DIFFUSION = "srh_clinic.restorers.diffusion"

KINDS: dict[str, Kind] = {
    "rscd": Kind(RSCDSettings, _DIFFUSION, "create_rscd", ("denoiser", "calibrator"), seeded=True),
    "none": _filter(NoneSettings),
    "median": _filter(MedianSettings),
    "gaussian": _filter(GaussianSettings),
    "nlm": _filter(NonLocalMeansSettings),
    "wavelet": _filter(WaveletSettings),
    "deep_image_prior": Kind(DeepImagePriorSettings, "srh_clinic.restorers.deep_image_prior", "create_deep_image_prior"),
    "ccdf": Kind(CCDFSettings, _DIFFUSION, "create_reverse_diffusion", ("denoiser",)),
    "rrd": Kind(RRDSettings, _DIFFUSION, "create_reverse_diffusion", ("denoiser",)),
    **{name: _learned(name) for name in BASELINES},
}
"""Every restorer by name, without loading a network library."""

RESTORERS = tuple(KINDS)
"""Every name that :func:`create_restorer` knows."""

FILTERS = tuple(name for name, kind in KINDS.items() if kind.factory == "create_filter")
"""Those that need no network: whoever has the package can apply them."""

SEEDED = tuple(name for name, kind in KINDS.items() if kind.seeded)
"""Those that certainty over seeds can be asked of."""


def create_restorer(name: str, bundle: str | Path = "phantom-demo", device: str = "auto", **settings: Any) -> Restorer:
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
        Those of :class:`~srh_clinic.rscd.settings.RSCDSettings`, :class:`~srh_clinic.rscd.settings.CCDFSettings`,
        :class:`~srh_clinic.rscd.settings.RRDSettings`, or the restorer's in :mod:`srh_clinic.restorers.settings`.

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
    if name not in KINDS:
        raise InputError(f"the restorer {name!r}", f"one of {', '.join(RESTORERS)}")
    kind = KINDS[name]
    chosen = parse_settings(name, kind.settings, settings)
    made: Restorer = getattr(import_module(kind.module), kind.factory)(name, bundle, device, chosen)
    return made


def parse_settings(name: str, model: type[Settings], given: dict[str, Any]) -> Settings:
    """Settings of a restorer; what pydantic refuses becomes one sentence about the first thing that is wrong."""
    try:
        return model(**given)
    except ValidationError as error:
        raise refused_setting(error, f"the restorer {name!r}", model.model_fields) from error
