"""How far the guards may be trusted."""

from srh_clinic.trust.conformal import MissRate, conformal_threshold, fewest_cases, miss_rate
from srh_clinic.trust.policy import Promise, TrustPolicy, calibrated_policy

__all__ = [
    "MissRate",
    "Promise",
    "TrustPolicy",
    "calibrated_policy",
    "conformal_threshold",
    "fewest_cases",
    "miss_rate",
]
