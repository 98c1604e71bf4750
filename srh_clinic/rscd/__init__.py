"""Restorative Step-Calibrated Diffusion: schedule, samplers, networks, calibrator, and Algorithm 1 over a stream of tiles.

The names are loaded when they are used, so that importing one of them does not load the networks' libraries for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from srh_clinic.rscd.baselines import CCDF, RRD
    from srh_clinic.rscd.calibrator import StepCalibrator, q_sample, two_region
    from srh_clinic.rscd.networks import CompactUNet, OverlapUNet, create_calibrator, create_denoiser
    from srh_clinic.rscd.noise import block_noise
    from srh_clinic.rscd.noise_level import index_of_noise, noise_level
    from srh_clinic.rscd.restoration import RSCD
    from srh_clinic.rscd.sampler import ancestral, ddim, mean_only
    from srh_clinic.rscd.schedule import Schedule, create_schedule
    from srh_clinic.rscd.settings import CCDFSettings, RRDSettings, RSCDSettings
    from srh_clinic.rscd.tile import RestoredTile, Tile

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

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baselines": ["CCDF", "RRD"],
        "calibrator": ["StepCalibrator", "q_sample", "two_region"],
        "networks": ["CompactUNet", "OverlapUNet", "create_calibrator", "create_denoiser"],
        "noise": ["block_noise"],
        "noise_level": ["index_of_noise", "noise_level"],
        "restoration": ["RSCD"],
        "sampler": ["ancestral", "ddim", "mean_only"],
        "schedule": ["Schedule", "create_schedule"],
        "settings": ["CCDFSettings", "RRDSettings", "RSCDSettings"],
        "tile": ["RestoredTile", "Tile"],
    },
)
