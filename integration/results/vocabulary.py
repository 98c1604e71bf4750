"""The coded concepts of the result objects: public ones where a dictionary has them, else ours, and their colours."""

from __future__ import annotations

from highdicom.color import CIELabColor
from pydicom.sr.coding import Code

from srh_clinic.diagnosis import CLASS_WORDS, CLASSES
from srh_clinic.display import CLASS_COLOURS
from srh_clinic.integration.optical_path import RESTORED, SCHEME

CLASS_CODES: dict[str, Code] = {
    "tumor": Code("108369006", "SCT", "Neoplasm"),
    "normal": Code("17621005", "SCT", "Normal"),
    "nondiagnostic": Code("RID14", "RADLEX", "Non-diagnostic quality"),
}
"""Each class as a finding."""

DIAGNOSTIC_QUALITY = Code("RID12", "RADLEX", "Diagnostic quality")
LIMITED_QUALITY = Code("RID13", "RADLEX", "Limited quality")
IMAGE_QUALITY = Code("111101", "DCM", "Image Quality")
MORPHOLOGY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
PROBABILITY = Code("122157", "DCM", "Probability")
COMMENT = Code("121106", "DCM", "Comment")
FINDING = Code("121071", "DCM", "Finding")
MEAN = Code("373098007", "SCT", "Mean")
NO_UNITS = Code("1", "UCUM", "no units")
PROCESSING = Code("109102", "DCM", "Processing Equipment")
AI = Code("123110", "DCM", "Artificial Intelligence")
DEVICE = Code("121007", "DCM", "Device")

# No public dictionary speaks of a restoration's steps or of what a guard hears, so the rest is ours.
STEPS = Code("SRH-STEPS", SCHEME, "Reverse steps of restoration predicted")
TRUST = Code("SRH-TRUST", SCHEME, "Strength of the guards in thresholds")
SUPPORT = Code("SRH-SUPPORT", SCHEME, "Mean patch probability of the diagnosis")
AS_SCANNED = Code("SRH-SCANNED", SCHEME, "Slide as scanned")
AS_RESTORED = Code(*RESTORED)
STATE = Code("SRH-STATE", SCHEME, "Image that was classified")
LIMITS = Code("SRH-LIMITS", SCHEME, "Limits of use")
CHANNEL_ORDER = Code("SRH-CHANNELS", SCHEME, "Channel order")
POLICY = Code("SRH-POLICY", SCHEME, "Decision of the policy")
DOUBT = Code("SRH-DOUBT", SCHEME, "Doubt about the diagnosis")
WARNING = Code("SRH-WARNING", SCHEME, "Warning about the image")
NOTE = Code("SRH-NOTE", SCHEME, "Note about the reading")
QUALITY_NUMBERS: dict[str, Code] = {
    "median": Code("SRH-STEPS-50", SCHEME, "Median of predicted steps"),
    "p90": Code("SRH-STEPS-90", SCHEME, "90th percentile of predicted steps"),
    "largest": Code("SRH-STEPS-MAX", SCHEME, "Largest number of predicted steps"),
    "restored": Code("SRH-RESTORED-N", SCHEME, "Tiles restored"),
    "skipped": Code("SRH-SKIPPED-N", SCHEME, "Tiles left alone"),
    "capped": Code("SRH-CAPPED-N", SCHEME, "Tiles beyond what the restorer knows"),
    "flagged": Code("SRH-FLAGGED-N", SCHEME, "Tiles that the guards flag"),
}
REGION_CODES: dict[str, Code] = {
    "added_nucleus": Code("SRH-ADDED", SCHEME, "Nucleus that the input does not support"),
    "removed_nucleus": Code("SRH-REMOVED", SCHEME, "Nucleus of the input that is gone"),
    "one_channel": Code("SRH-ONE-CHANNEL", SCHEME, "Change in one channel alone"),
    "brightness": Code("SRH-BRIGHTNESS", SCHEME, "Change of brightness"),
    "structure": Code("SRH-STRUCTURE", SCHEME, "Structure among what was taken away"),
    "steps_left": Code("SRH-STEPS-LEFT", SCHEME, "Noise that is left"),
    "lattice": Code("SRH-LATTICE", SCHEME, "Pattern of a grid that the input lacks"),
    "rescan": Code("SRH-RESCAN", SCHEME, "Region worth rescanning"),
}
"""What a marked region is, by its kind."""

CLASS_PROBABILITY: dict[str, Code] = {
    name: Code(f"SRH-P-{name[:6].upper()}", SCHEME, f"Probability of {CLASS_WORDS[name]}") for name in CLASSES
}
"""The probability of each class, where several stand beside each other."""

COLOURS: dict[str, CIELabColor] = {
    **{name: CIELabColor.from_rgb(*map(float, rgb)) for name, rgb in zip(CLASSES, CLASS_COLOURS, strict=True)},
    "flagged": CIELabColor.from_rgb(230.0, 159.0, 0.0),
    "rescan": CIELabColor.from_rgb(240.0, 228.0, 66.0),
}
"""The colour of each class, as everywhere, of flagged regions and of those worth rescanning."""
