"""Restorers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts
from srh_clinic.restorers import classical
from srh_clinic.restorers.protocol import Restorer
from srh_clinic.rscd.restoration import RSCDSettings

Settings = TypeVar("Settings", bound=BaseModel)

FILTERS: dict[str, tuple[type[classical.FilterSettings], Callable[..., Counts]]] = {
    "none": (classical.NoneSettings, lambda counts, settings: counts.copy()),
    "median": (classical.MedianSettings, classical.median),
    "gaussian": (classical.GaussianSettings, classical.gaussian),
    "nlm": (classical.NonLocalMeansSettings, classical.non_local_means),
}
"""Settings and function of each filter."""

RESTORERS = ("rscd", *FILTERS)
"""Every name that :func:`create_restorer` knows."""


def create_restorer(name: str, bundle: str = "phantom-demo", device: str = "auto", **settings: Any) -> Restorer:
    """A restorer by name.

    Parameters
    ----------
    name
        ``rscd``, or a filter: ``none``, ``median`` (``size``), ``gaussian`` (``sigma``), ``nlm`` (``patch_size``,
        ``patch_distance``, ``cut_off``).
    bundle
        Name or folder of the bundle whose networks ``rscd`` uses; filters need none.
    device
        ``auto``, or a torch device for the networks.
    settings
        For ``rscd`` those of :class:`~srh_clinic.rscd.restoration.RSCDSettings`, for a filter those named above.

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
    if name == "rscd":
        chosen = parse_settings(name, RSCDSettings, settings)
        # The networks' libraries take seconds to load, which no filter has to wait for.
        from srh_clinic.restorers.rscd import create_rscd

        return create_rscd(bundle, device, chosen)
    if name not in FILTERS:
        raise InputError(f"the restorer {name!r}", f"one of {', '.join(RESTORERS)}")
    model, function = FILTERS[name]
    parsed = parse_settings(name, model, settings)
    return classical.FilterRestorer(name, parsed.model_dump(), partial(function, settings=parsed))


def parse_settings(name: str, model: type[Settings], given: dict[str, Any]) -> Settings:
    """Settings of a restorer; what pydantic refuses becomes one sentence about the first thing that is wrong."""
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none at all"
            raise InputError(f"the setting {setting!r} for the restorer {name!r}", f"settings among: {known}") from error
        needed = first.get("ctx", {}).get("expected") or first["msg"].removeprefix("Input should be ")
        raise InputError(f"{setting} = {first['input']!r} for the restorer {name!r}", needed) from error
