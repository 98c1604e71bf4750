"""Simulated stimulated Raman histology with known truth: tissue, signal, degradation, phantoms, training pools."""

from srh_clinic.diagnosis import CLASSES
from srh_clinic.simulation.cohort import CohortImage, simulate_cohort
from srh_clinic.simulation.degradation import Degraded, Sources, degrade, draw_sources
from srh_clinic.simulation.pairs import NearRegisteredPair, simulate_pair
from srh_clinic.simulation.phantom import Phantom, simulate_case, simulate_patch
from srh_clinic.simulation.pools import (
    PROTOCOL_SEED,
    VALIDATION_SEED,
    classifier_pool,
    classifier_sample,
    clean_sample,
    degraded_pool,
    degraded_sample,
    training_pool,
)
from srh_clinic.simulation.texture import generic_texture
from srh_clinic.simulation.tissue import DIAGNOSIS_OF_KIND, KINDS_OF_DIAGNOSIS
from srh_clinic.simulation.z_stack import ATTENUATION_UM, ZStack, simulate_z_stack
from srh_clinic.slide import UM_PER_PX

__all__ = [
    "ATTENUATION_UM",
    "CLASSES",
    "DIAGNOSIS_OF_KIND",
    "KINDS_OF_DIAGNOSIS",
    "PROTOCOL_SEED",
    "UM_PER_PX",
    "VALIDATION_SEED",
    "CohortImage",
    "Degraded",
    "NearRegisteredPair",
    "Phantom",
    "Sources",
    "ZStack",
    "classifier_pool",
    "classifier_sample",
    "clean_sample",
    "degrade",
    "degraded_pool",
    "degraded_sample",
    "draw_sources",
    "generic_texture",
    "simulate_case",
    "simulate_cohort",
    "simulate_pair",
    "simulate_patch",
    "simulate_z_stack",
    "training_pool",
]
