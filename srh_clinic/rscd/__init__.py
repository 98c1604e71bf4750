"""Restorative Step-Calibrated Diffusion: schedule, samplers, networks, calibrator, and Algorithm 1 over a stream of tiles.

The names are loaded when they are used, so that importing one of them does not load the networks' libraries for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srh_clinic.rscd.baselines import CCDF, RRD, CCDFSettings, RRDSettings
    from srh_clinic.rscd.calibrator import StepCalibrator, q_sample, two_region
    from srh_clinic.rscd.networks import CompactUNet, OverlapUNet, create_calibrator, create_denoiser
    from srh_clinic.rscd.noise import block_noise
    from srh_clinic.rscd.noise_level import index_of_noise, noise_level
    from srh_clinic.rscd.restoration import RSCD, RestoredTile, RSCDSettings, Tile
    from srh_clinic.rscd.sampler import ancestral, ddim, mean_only
    from srh_clinic.rscd.schedule import Schedule, create_schedule

__all__ = [
    "CCDF",
    "RRD",
    "RSCD",
    "CCDFSettings",
    "CompactUNet",
    "OverlapUNet",
    "RRDSettings",
    "RSCDSettings",
    "RestoredTile",
    "Schedule",
    "StepCalibrator",
    "Tile",
    "ancestral",
    "block_noise",
    "create_calibrator",
    "create_denoiser",
    "create_schedule",
    "ddim",
    "index_of_noise",
    "mean_only",
    "noise_level",
    "q_sample",
    "two_region",
]

_MODULES = {
    "baselines": ("CCDF", "RRD", "CCDFSettings", "RRDSettings"),
    "calibrator": ("StepCalibrator", "q_sample", "two_region"),
    "networks": ("CompactUNet", "OverlapUNet", "create_calibrator", "create_denoiser"),
    "noise": ("block_noise",),
    "noise_level": ("index_of_noise", "noise_level"),
    "restoration": ("RSCD", "RSCDSettings", "RestoredTile", "Tile"),
    "sampler": ("ancestral", "ddim", "mean_only"),
    "schedule": ("Schedule", "create_schedule"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
