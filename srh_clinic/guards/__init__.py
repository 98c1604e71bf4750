"""What a restored image shows that its input does not support."""

from srh_clinic.guards.agreement import Agreement, seed_agreement
from srh_clinic.guards.channels import ChannelCheck, channel_flags, check_channels, look_at_channels
from srh_clinic.guards.evidence import Evidence, Place, one_channel_change, residual_evidence
from srh_clinic.guards.examination import GUARDS, NUCLEUS_VERSION, Examination, GuardName, examine
from srh_clinic.guards.faithfulness import brightness_drift, residual_structure, steps_left
from srh_clinic.guards.lattice import GridPattern, grid_pattern
from srh_clinic.guards.residual import Residual

__all__ = [
    "GUARDS",
    "NUCLEUS_VERSION",
    "Agreement",
    "ChannelCheck",
    "Evidence",
    "Examination",
    "GridPattern",
    "GuardName",
    "Place",
    "Residual",
    "brightness_drift",
    "channel_flags",
    "check_channels",
    "examine",
    "grid_pattern",
    "look_at_channels",
    "one_channel_change",
    "residual_evidence",
    "residual_structure",
    "seed_agreement",
    "steps_left",
]
