"""What MONAI's own tools look for in a bundle.

``python -m monai.bundle verify_metadata`` compares ``configs/metadata.json`` with a schema; ``python -m monai.bundle run``
runs ``configs/inference.json``, whose values a caller replaces (``--case``, ``--output_dir``, ...).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

from srh_clinic.diagnosis import CLASSES

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""Of MONAI, for a bundle's metadata."""

REQUIRED_PACKAGES = ("timm", "safetensors", "pydicom", "highdicom")
"""Packages beside MONAI's own that a bundle does not run without."""

WORKFLOW: dict[str, Any] = {
    "bundle_root": ".",
    "case": "case.dcm",
    "output_dir": "result",
    "dicom_out": None,
    "restorer": "rscd",
    "device": "auto",
    "seed": 0,
    "result": {
        "_target_": "srh_clinic.case.workflow.diagnose_case",
        "bundle": "@bundle_root",
        "case": "@case",
        "output_dir": "@output_dir",
        "restorer": "@restorer",
        "device": "@device",
        "seed": "@seed",
        "dicom_out": "@dicom_out",
    },
    "run": ["$print(@result)"],
}
"""What ``configs/inference.json`` holds beside the descriptions of networks: a case in, the folder of its result out."""


def metadata_for_monai(description: Mapping[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """What MONAI's schema asks of a bundle's metadata beside what ours say."""
    return {
        "schema": SCHEMA,
        "required_packages_version": {name: version(name) for name in REQUIRED_PACKAGES},
        "data_type": description.get("data_type", "DICOM whole slide, or two-channel TIFF"),
        "intended_use": description.get("intended_use", f"{description['demonstration']}; not a medical device"),
        "network_data_format": _data_format(parts),
    }


def _data_format(parts: Collection[str]) -> dict[str, Any]:
    """An image of counts in, of any size; counts out, and from a classifier the probability of each class."""
    counts = {
        "type": "image",
        "format": "magnitude",
        "modality": "SRH",
        "num_channels": 2,
        "spatial_shape": ["*", "*"],
        "dtype": "uint16",
        "value_range": [0, 65_535],
        "is_patch_data": False,
        "channel_def": {"0": "CH2, 2845 cm-1", "1": "CH3, 2930 cm-1"},
    }
    probabilities = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(CLASSES),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(place): name for place, name in enumerate(CLASSES)},
    }
    outputs = {} if set(parts) <= {"classifier"} else {"restored": counts}
    return {"inputs": {"image": counts}, "outputs": outputs | ({"pred": probabilities} if "classifier" in parts else {})}
