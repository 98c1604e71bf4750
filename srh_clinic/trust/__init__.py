"""How far the guards may be trusted."""

from srh_clinic.trust.conformal import conformal_threshold, fewest_cases, miss_rate
from srh_clinic.trust.policy import Promise, TrustPolicy, calibrated_policy

__all__ = [
    "Promise",
    "TrustPolicy",
    "calibrated_policy",
    "conformal_threshold",
    "fewest_cases",
    "miss_rate",
]
