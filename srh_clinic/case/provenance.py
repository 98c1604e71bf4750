"""What a result depends on, and what a bundle states about itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srh_clinic import __version__
from srh_clinic.errors import InputError, first_fault

if TYPE_CHECKING:
    from srh_clinic.bundles import Bundle
    from srh_clinic.restorers import Restorer
    from srh_clinic.trust import GuardPolicy


def drift_made_with(bundle: Bundle, restorer: Restorer, conservative: bool) -> dict[str, str]:
    """What a drift reference and the cases that are compared with it must have in common."""
    settings = {name: value for name, value in restorer.settings.items() if name != "batch_size"}
    return {
        "weights_sha256": bundle.weights_sha256,
        "restorer": restorer.name,
        "settings": json.dumps({**settings, "conservative": conservative}, sort_keys=True),
    }


def guard_policy_of(bundle: Bundle) -> GuardPolicy | None:
    """What a bundle states about its guards; None when it states nothing, or its networks are others than it was said of.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from pydantic import ValidationError

    from srh_clinic.trust import GuardPolicy

    stated = bundle.metadata.get("trust")
    if stated is None:
        return None
    try:
        policy = GuardPolicy.model_validate(stated)
    except ValidationError as error:
        raise InputError(
            f"trust.{first_fault(error)}", "what srh-clinic bundle calibrate writes", bundle.path / "configs/metadata.json"
        ) from error
    return policy if policy.calibration.get("weights_sha256") == bundle.weights_sha256 else None


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
    sentence = "Research software, not a medical device."
    return f"{demonstration[0].upper()}{demonstration[1:]}. {sentence}" if demonstration else sentence
