"""Classification of SRH as tumor, normal or non-diagnostic: patches, then the slide."""

from srh_clinic.classifiers.aggregation import (
    HOLLON_2020_CLASSES,
    SlideDiagnosis,
    aggregate,
    collapse_hollon_2020,
)
from srh_clinic.classifiers.network import PatchClassifier, create_classifier, fit_temperature, load_classifier
from srh_clinic.diagnosis import CLASSES, Diagnosis

__all__ = [
    "CLASSES",
    "HOLLON_2020_CLASSES",
    "Diagnosis",
    "PatchClassifier",
    "SlideDiagnosis",
    "aggregate",
    "collapse_hollon_2020",
    "create_classifier",
    "fit_temperature",
    "load_classifier",
]
