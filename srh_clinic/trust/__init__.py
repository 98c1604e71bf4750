"""How far the guards may be trusted.

The names are loaded when they are used: who loads a policy waits for no library that only making one needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from srh_clinic.trust.conformal import conformal_limit, conformal_threshold, fewest_cases, miss_rate
    from srh_clinic.trust.drift import CaseProfile, DriftReference, load_reference
    from srh_clinic.trust.guard_policy import GuardPolicy, Promise, calibrated_policy
    from srh_clinic.trust.selective_policy import (
        ALWAYS,
        NEVER,
        Decision,
        SelectivePolicy,
        choose_policy,
        load_policy,
        policy_named,
    )

__all__ = [
    "ALWAYS",
    "NEVER",
    "CaseProfile",
    "Decision",
    "DriftReference",
    "GuardPolicy",
    "Promise",
    "SelectivePolicy",
    "calibrated_policy",
    "choose_policy",
    "conformal_limit",
    "conformal_threshold",
    "fewest_cases",
    "load_policy",
    "load_reference",
    "miss_rate",
    "policy_named",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "conformal": ["conformal_limit", "conformal_threshold", "fewest_cases", "miss_rate"],
        "drift": ["CaseProfile", "DriftReference", "load_reference"],
        "guard_policy": ["GuardPolicy", "Promise", "calibrated_policy"],
        "selective_policy": ["ALWAYS", "NEVER", "Decision", "SelectivePolicy", "choose_policy", "load_policy", "policy_named"],
    },
)
