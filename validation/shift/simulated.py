"""Simulated cohorts with a known effect: patients differ, their cases resemble each other, and before is like after.

Each case has two latent quantities at each time: ``blur``, above 0 where no diagnosis can be made, and ``evidence``, above 0
where a diagnosis is right. Each is normal, with a part that the patient's cases share and a part of the case's own; both
parts are correlated between before and after. Rates are set on the probit scale, so the truth is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import softmax

from srh_clinic.diagnosis import CLASSES, OUTCOMES

TUMOUR_PATIENT = 0.8
"""Chance that a case of a patient with mostly tumour shows it; of the other half of the patients, 1 less that."""

SHARPNESS = 1.5
"""Of probabilities: the logit of a class against the other for each unit of evidence."""


@dataclass(frozen=True)
class Scenario:
    """A truth to simulate.

    Parameters
    ----------
    nondiagnostic, wrong
        Share of all cases with that outcome, before and after; the rest is correct.
    patient_sd
        Of a patient's part of blur and of evidence, where a case's own part has 1.
    patient_correlation, case_correlation
        Between before and after, of the patient's part and the case's own.
    patients, most_cases
        How many patients, each with one to ``most_cases`` cases, all numbers equally likely.
    """

    name: str
    nondiagnostic: tuple[float, float]
    wrong: tuple[float, float]
    patient_sd: float = 1.5
    patient_correlation: float = 0.3
    case_correlation: float = 0.3
    patients: int = 60
    most_cases: int = 6

    @property
    def correlation(self) -> float:
        """Between before and after, of the whole of blur or evidence."""
        shared = self.patient_sd**2
        return (shared * self.patient_correlation + self.case_correlation) / (shared + 1)

    @property
    def shift(self) -> float:
        """Accuracy after less before."""
        return sum(self.nondiagnostic) + sum(self.wrong) - 2 * (self.nondiagnostic[1] + self.wrong[1])

    @property
    def newly_wrong(self) -> float:
        """Share wrong after, of the cases that were nondiagnostic before."""
        before, after = stats.norm.ppf(self.nondiagnostic)
        both = stats.multivariate_normal([0, 0], [[1, self.correlation], [self.correlation, 1]]).cdf([before, after])
        return float(1 - both / self.nondiagnostic[0]) * self.wrong[1] / (1 - self.nondiagnostic[1])


@dataclass(frozen=True, eq=False)
class SimulatedCohort:
    """Cases of a simulated cohort, as arrays ``(N,)``, and ``(2, N, ...)`` for before and after.

    ``outcomes`` are places in ``OUTCOMES``, ``probabilities`` ``(2, N, 3)`` in the order of ``CLASSES``; the likeliest
    is said.
    """

    patients: NDArray[np.int64]
    truth: NDArray[np.int64]
    outcomes: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.float64]:
        """1 for a correct diagnosis, ``(2, N)``."""
        return (self.outcomes == OUTCOMES.index("correct")).astype(np.float64)

    @property
    def wrong(self) -> NDArray[np.float64]:
        """1 for a wrong one, ``(2, N)``."""
        return (self.outcomes == OUTCOMES.index("wrong")).astype(np.float64)

    @property
    def nondiagnostic(self) -> NDArray[np.float64]:
        """1 where no diagnosis is made, ``(2, N)``."""
        return (self.outcomes == OUTCOMES.index("nondiagnostic")).astype(np.float64)


def simulate(scenario: Scenario, random: np.random.Generator) -> SimulatedCohort:
    """A cohort of ``scenario``; every truth is tumor or normal."""
    tumour, normal, _ = (CLASSES.index(one) for one in ("tumor", "normal", "nondiagnostic"))
    sizes = random.integers(1, scenario.most_cases + 1, scenario.patients)
    patients = np.repeat(np.arange(scenario.patients), sizes)
    cases, whole = len(patients), np.hypot(scenario.patient_sd, 1)
    mostly = np.where(random.random(scenario.patients) < 0.5, TUMOUR_PATIENT, 1 - TUMOUR_PATIENT)
    truth = np.where(random.random(cases) < mostly[patients], tumour, normal)
    nondiagnostic, wrong = np.array(scenario.nondiagnostic), np.array(scenario.wrong)
    latent = []
    # A diagnosis is right with this chance, given that one is made; blur and evidence are independent.
    for proportion in (nondiagnostic, 1 - wrong / (1 - nondiagnostic)):
        of_patient = _correlated(random, scenario.patient_correlation, scenario.patients) * scenario.patient_sd
        of_case = _correlated(random, scenario.case_correlation, cases)
        latent.append(whole * stats.norm.ppf(proportion)[:, None] + of_patient[:, patients] + of_case)
    blur, evidence = latent
    outcomes = np.where(evidence > 0, OUTCOMES.index("correct"), OUTCOMES.index("wrong"))
    outcomes = np.where(blur > 0, OUTCOMES.index("nondiagnostic"), outcomes)
    for_tumour = np.where(truth == tumour, evidence, -evidence) * SHARPNESS / 2
    logits = np.empty((2, cases, len(CLASSES)))
    logits[..., tumour], logits[..., normal] = for_tumour, -for_tumour
    logits[..., CLASSES.index("nondiagnostic")] = np.abs(for_tumour) + blur  # likeliest just where blur is above 0
    return SimulatedCohort(patients, truth, outcomes, softmax(logits, axis=-1))


def _correlated(random: np.random.Generator, correlation: float, n: int) -> NDArray[np.float64]:
    """Standard normal before and after, ``(2, n)``."""
    before, own = random.normal(size=(2, n))
    return np.stack([before, correlation * before + np.sqrt(1 - correlation**2) * own])
