"""Simulated stimulated Raman histology with known truth: tissue, signal, degradation, phantoms, training pools."""

from srh_clinic.simulation.degradation import Degraded, Sources, degrade, draw_sources
from srh_clinic.simulation.phantom import CLASSES, Phantom, simulate_case, simulate_patch
from srh_clinic.simulation.pools import (
    PROTOCOL_SEED,
    VALIDATION_SEED,
    classifier_pool,
    classifier_sample,
    clean_sample,
    training_pool,
)
from srh_clinic.simulation.texture import generic_texture
from srh_clinic.simulation.tissue import DIAGNOSIS_OF_KIND, KINDS_OF_DIAGNOSIS, UM_PER_PX

__all__ = [
    "CLASSES",
    "DIAGNOSIS_OF_KIND",
    "KINDS_OF_DIAGNOSIS",
    "PROTOCOL_SEED",
    "UM_PER_PX",
    "VALIDATION_SEED",
    "Degraded",
    "Phantom",
    "Sources",
    "classifier_pool",
    "classifier_sample",
    "clean_sample",
    "degrade",
    "draw_sources",
    "generic_texture",
    "simulate_case",
    "simulate_patch",
    "training_pool",
]
