"""How far the guards may be trusted."""

from srh_clinic.trust.conformal import conformal_threshold, fewest_cases, miss_rate
from srh_clinic.trust.drift import CaseProfile, DriftReference, load_reference
from srh_clinic.trust.guard_policy import GuardPolicy, Promise, calibrated_policy
from srh_clinic.trust.selective_policy import ALWAYS, NEVER, Decision, SelectivePolicy, choose_policy, load_policy

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
    "conformal_threshold",
    "fewest_cases",
    "load_policy",
    "load_reference",
    "miss_rate",
]
