"""How far the guards may be trusted."""

from srh_clinic.trust.conformal import MissRate, conformal_threshold, fewest_cases, miss_rate

__all__ = ["MissRate", "conformal_threshold", "fewest_cases", "miss_rate"]
