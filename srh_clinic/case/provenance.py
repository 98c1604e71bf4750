"""What a result depends on, and what a bundle states about itself."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from srh_clinic import __version__
from srh_clinic.case.record import RESULT, CaseOrigin, Made
from srh_clinic.errors import InputError, first_fault
from srh_clinic.notebook import RESEARCH
from srh_clinic.slide import Slide, pixels_sha256

if TYPE_CHECKING:
    from pydantic import BaseModel

    from srh_clinic.bundles import Bundle
    from srh_clinic.restorers import Restorer
    from srh_clinic.trust import GuardPolicy, SelectivePolicy

Model = TypeVar("Model", bound="BaseModel")

LIBRARIES = ("torch", "monai", "timm", "numpy", "scipy", "scikit-image", "pydicom", "tifffile")
"""Those whose versions a result states."""


def origin_of(slide: Slide, *, identity: bool = True) -> CaseOrigin:
    """Whose a slide is; reads all of it once. Without ``identity`` only its pixels and the order of its channels are told.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    said = slide.identity
    return CaseOrigin(
        source=(said.source or None) if identity else None,
        patient_id=(said.patient_id or None) if identity else None,
        specimen_id=(said.specimen_id or None) if identity else None,
        study_uid=(said.study_uid or None) if identity else None,
        series_uid=(said.series_uid or None) if identity else None,
        sop_uids=said.sop_uids if identity else (),
        channel_order=said.channel_order or None,
        pixels_sha256=pixels_sha256(slide),
    )


def told_case(slide: Slide, *, identity: bool) -> tuple[Slide, CaseOrigin]:
    """A slide as results may tell of it, and whose it is: with ``identity`` as it stands, without it nameless.

    Raises
    ------
    InputError
        Without ``identity``, as :func:`srh_clinic.integration.deidentify.nameless`.
    """
    from srh_clinic.integration.deidentify import nameless

    told = slide if identity else nameless(slide)
    return told, origin_of(told, identity=identity)


def require_own_folder(out: Path, origin: CaseOrigin, name: str = RESULT) -> None:
    """Refuse a folder that holds the result of another case; one of the same case is replaced, whatever its settings.

    Parameters
    ----------
    name
        Of the file that says whose it is.

    Raises
    ------
    InputError
        When it does, or its result does not say whose it is.
    """
    file = out / name
    if not file.exists():
        return
    needed = "another folder (--out), or none of this name"
    try:
        case = json.loads(file.read_bytes())["case"]
        whose, pixels = case["source"] or case["patient_id"] or "nameless", case["pixels_sha256"]
    except OSError as error:
        raise InputError(error.strerror or str(error), "a readable result", file) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("a result that does not say whose it is", needed, file) from error
    if pixels != origin.pixels_sha256:
        raise InputError(f"the result of another case ({whose})", needed, file)


def made_now() -> Made:
    """The time, and what this process computes with."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Made(
        at=datetime.now().astimezone().isoformat(timespec="seconds"),
        platform=platform.platform(),
        python=platform.python_version(),
        libraries=found,
    )


def drift_made_with(bundle: Bundle, restorer: Restorer, conservative: bool) -> dict[str, str]:
    """What a drift reference and the cases that are compared with it must have in common."""
    from srh_clinic.rscd.settings import ROUNDING

    settings = {name: value for name, value in restorer.settings.items() if name not in ROUNDING}
    return {
        "weights_sha256": bundle.weights_sha256,
        "restorer": restorer.name,
        "settings": json.dumps({**settings, "conservative": conservative}, sort_keys=True),
    }


def guard_policy_of(bundle: Bundle) -> GuardPolicy | None:
    """What a bundle states about its guards; None when it states nothing, or its networks or guards are others by now.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from srh_clinic.guards import NUCLEUS_VERSION
    from srh_clinic.trust import GuardPolicy

    policy = _stated(bundle, "trust", GuardPolicy, "calibrate")
    if policy is None or policy.calibration.get("weights_sha256") != bundle.weights_sha256:
        return None
    measured = policy.calibration.get("version of nucleus", 1)
    return policy if "nucleus" not in policy.scales or measured == NUCLEUS_VERSION else None


def selective_policy_of(bundle: Bundle) -> SelectivePolicy | None:
    """The policy that a bundle carries (``bundle policy``), made with whatever weights; None when it carries none.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from srh_clinic.trust import SelectivePolicy

    return _stated(bundle, "policy", SelectivePolicy, "policy")


def _stated(bundle: Bundle, name: str, model: type[Model], command: str) -> Model | None:
    """What stands in a bundle's metadata under a name, as ``srh-clinic bundle COMMAND`` writes it."""
    from pydantic import ValidationError

    stated = bundle.metadata.get(name)
    if stated is None:
        return None
    try:
        return model.model_validate(stated)
    except ValidationError as error:
        needed, path = f"what srh-clinic bundle {command} writes", bundle.path / "configs/metadata.json"
        raise InputError(f"{name}.{first_fault(error)}", needed, path) from error


def provenance(bundle: Bundle, restorer: Restorer, seed: int, **settings: Any) -> dict[str, Any]:
    """Enough to compute a result again: version, bundle, sha256 of the weights, seed, and every setting."""
    return {
        "version": __version__,
        "bundle": bundle.name,
        "weights_sha256": bundle.weights_sha256,
        "seed": seed,
        "settings": {
            "restorer": restorer.name,
            **restorer.settings,
            "um_per_px": bundle.metadata["um_per_px"],
            **settings,
        },
        "notice": notice(bundle),
    }


def notice(bundle: Bundle) -> str:
    """What must be said of everything that a bundle computes."""
    demonstration = bundle.metadata.get("demonstration")
    return f"{demonstration[0].upper()}{demonstration[1:]}. {RESEARCH}" if demonstration else RESEARCH
