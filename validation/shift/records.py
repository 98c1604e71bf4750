"""What an accuracy-shift report is made of: cases with known truth, and what was said of them before and after restoration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srh_clinic.diagnosis import CLASSES, OUTCOMES, Outcome, outcome

When = Literal["before", "after"]

WHEN: tuple[When, ...] = ("before", "after")
"""As scanned, and restored."""

STRATA = ("site", "depth", "subtype", "severity")
"""Columns of a manifest that a case may be broken down by."""


@dataclass(frozen=True)
class ManifestRow:
    """A row as it stands: its line in the file, and its cells by column."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of a case: a class, and probabilities in the order of ``CLASSES``.

    A slide's class need not be its likeliest: see :func:`srh_clinic.classifiers.aggregate`. ``support`` is the mean of its
    patches' probabilities of that class, None where nobody says.
    """

    said: str
    probabilities: tuple[float, float, float]
    support: float | None = None

    @property
    def certainty(self) -> float:
        """The support of what was said where it is known, else its probability."""
        return self.probabilities[CLASSES.index(self.said)] if self.support is None else self.support


@dataclass(frozen=True)
class ShiftCase:
    """One patch or slide: its truth, and what was said of it as scanned and restored.

    Parameters
    ----------
    case
        Its name, unique within a level.
    patient
        Whom it is of; cases of one patient are not independent.
    truth
        One of ``CLASSES``.
    site, depth, subtype, severity
        What it is broken down by; "" where the manifest does not say.
    steps_predicted
        Median of the steps that the calibrator asked for; None where nobody asked.
    trust
        The strongest word of the guards against it, in thresholds: 1 is just flagged. None where nobody examined it.
    agreement
        Share of further restorations that say the same class; None where none was made.
    slide
        Name of the slide that a patch is of; a slide's own name.
    folder
        Where its result lies, with pictures and its page if they were drawn; None where predictions were given.
    """

    case: str
    patient: str
    truth: str
    before: Prediction
    after: Prediction
    site: str = ""
    depth: str = ""
    subtype: str = ""
    severity: str = ""
    steps_predicted: float | None = None
    trust: float | None = None
    agreement: float | None = None
    slide: str = ""
    folder: Path | None = None

    @property
    def outcome_before(self) -> Outcome:
        """What came of it as scanned."""
        return outcome(self.truth, self.before.said)

    @property
    def outcome_after(self) -> Outcome:
        """What came of it restored."""
        return outcome(self.truth, self.after.said)


@dataclass(frozen=True)
class Exclusion:
    """A row of the manifest that takes no part, and why."""

    case: str
    why: str


@dataclass(frozen=True, eq=False)
class Cohort:
    """Cases of one level, patches or slides, in the order of the manifest.

    Attributes
    ----------
    level
        ``"slide"`` or ``"patch"``.
    excluded
        Rows that took no part.
    warnings
        What a reader must know of the manifest: a patient in two sites, one class only.
    """

    cases: tuple[ShiftCase, ...]
    level: Literal["slide", "patch"] = "slide"
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def patients(self) -> NDArray[np.int64]:
        """Number of each case's patient, from 0 in the order of their first case, ``(N,)``."""
        number = {name: place for place, name in enumerate(dict.fromkeys(case.patient for case in self.cases))}
        return np.array([number[case.patient] for case in self.cases], dtype=np.int64)

    @property
    def truth(self) -> NDArray[np.int64]:
        """Place of each truth in ``CLASSES``, ``(N,)``."""
        return np.array([CLASSES.index(case.truth) for case in self.cases], dtype=np.int64)

    def probabilities(self, when: When) -> NDArray[np.float64]:
        """``(N, 3)`` in the order of ``CLASSES``."""
        return np.array([getattr(case, when).probabilities for case in self.cases], dtype=np.float64).reshape(-1, 3)

    def said(self, when: When) -> NDArray[np.int64]:
        """Place of each class said in ``CLASSES``, ``(N,)``."""
        return np.array([CLASSES.index(getattr(case, when).said) for case in self.cases], dtype=np.int64)

    def outcomes(self, when: When) -> NDArray[np.int64]:
        """Place of each outcome in :data:`OUTCOMES`, ``(N,)``."""
        return np.array([OUTCOMES.index(getattr(case, f"outcome_{when}")) for case in self.cases], dtype=np.int64)

    def correct(self, when: When) -> NDArray[np.bool_]:
        """Which cases are correct, ``(N,)``."""
        return np.array([getattr(case, f"outcome_{when}") == "correct" for case in self.cases], dtype=bool)

    def only(self, wanted: Callable[[ShiftCase], bool]) -> Cohort:
        """Those of the cases that are wanted."""
        return Cohort(tuple(case for case in self.cases if wanted(case)), self.level)


LEAST_FAVOURABLE = tuple(OUTCOMES.index(one) for one in ("wrong", "nondiagnostic", "correct"))
"""Order in which the outcomes of a divided patient are taken."""


def patient_outcomes(cohort: Cohort, when: When) -> NDArray[np.int64]:
    """One outcome a patient, the most frequent of its cases, as a place in ``OUTCOMES``, in the order of ``cohort.patients``.

    A divided patient takes the least favourable of its most frequent outcomes: wrong before nondiagnostic before correct. The
    rule must be the same before and after, or a tie would count as a change where there is no effect. It is taken from
    outcomes and not from what was said most often, as a patient's cases need not share one truth.
    """
    found = _counts(cohort.patients, cohort.outcomes(when), len(OUTCOMES))[:, LEAST_FAVOURABLE]
    return np.array(LEAST_FAVOURABLE, dtype=np.int64)[found.argmax(axis=1)]


def patient_said(cohort: Cohort, when: When) -> NDArray[np.int64]:
    """One class a patient, said of most of its cases, as a place in ``CLASSES``, in the order of ``cohort.patients``.

    Of a divided patient nothing is diagnosed: every tie is ``nondiagnostic``.
    """
    found = _counts(cohort.patients, cohort.said(when), len(CLASSES))
    tied = (found == found.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return np.where(tied, CLASSES.index("nondiagnostic"), found.argmax(axis=1)).astype(np.int64)


def _counts(patients: NDArray[np.int64], kinds: NDArray[np.int64], of: int) -> NDArray[np.int64]:
    """How many cases of each patient are of each kind, ``(P, of)``."""
    number = int(patients.max()) + 1 if len(patients) else 0
    return np.bincount(patients * of + kinds, minlength=number * of).reshape(number, of)
