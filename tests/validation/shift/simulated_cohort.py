"""A simulated cohort as a report takes it, which several tests share."""

from __future__ import annotations

import numpy as np

from srh_clinic.diagnosis import CLASSES
from srh_clinic.validation.shift.records import Cohort, Prediction, ShiftCase
from srh_clinic.validation.shift.simulated import Scenario, simulate


def simulated_cohort(scenario: Scenario, seed: int = 0) -> Cohort:
    """What :func:`simulate` draws with this seed, case by case."""
    drawn = simulate(scenario, np.random.default_rng(seed))
    said = drawn.probabilities.argmax(axis=-1)
    cases = []
    for at, patient in enumerate(drawn.patients):
        before, after = (
            Prediction(CLASSES[said[when, at]], (float(p[0]), float(p[1]), float(p[2])))
            for when, p in enumerate(drawn.probabilities[:, at])
        )
        cases.append(ShiftCase(f"case-{at:04d}", f"patient-{patient:03d}", CLASSES[drawn.truth[at]], before, after))
    return Cohort(tuple(cases))
