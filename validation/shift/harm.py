"""The harm ledger: every case that is worse off for its restoration, and how often that happens.

Accuracy hides the worst of it. A case that was called non-diagnostic and is now confidently wrong was not correct before and
is not correct after; to the patient it is the difference between another biopsy and a wrong operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from srh_clinic.diagnosis import is_harm
from srh_clinic.estimates import Finding, Undefined, proportion
from srh_clinic.validation.shift.records import Cohort, ShiftCase
from srh_clinic.validation.statistics.clusters import clustered_proportion

Condition = Callable[[ShiftCase], bool]


@dataclass(frozen=True)
class Transition:
    """A way in which a case may change: which cases could change so, and which of them did.

    ``harm`` says whether the change is one for the worse.
    """

    name: str
    could: Condition
    did: Condition
    harm: bool


def _moved(before: str, after: str) -> Condition:
    return lambda case: case.outcome_before == before and case.outcome_after == after


TRANSITIONS: tuple[Transition, ...] = (
    Transition("correct → wrong", lambda c: c.outcome_before == "correct", _moved("correct", "wrong"), harm=True),
    Transition(
        "non-diagnostic → wrong",
        lambda c: c.outcome_before == "nondiagnostic",
        _moved("nondiagnostic", "wrong"),
        harm=True,
    ),
    Transition(
        "correct → non-diagnostic", lambda c: c.outcome_before == "correct", _moved("correct", "nondiagnostic"), harm=True
    ),
    Transition(
        "tumor called tumor → normal",
        lambda c: c.truth == "tumor" and c.before.said == "tumor",
        lambda c: c.truth == "tumor" and c.before.said == "tumor" and c.after.said == "normal",
        harm=True,
    ),
    Transition(
        "tumor not called normal → normal",
        lambda c: c.truth == "tumor" and c.before.said != "normal",
        lambda c: c.truth == "tumor" and c.before.said != "normal" and c.after.said == "normal",
        harm=True,
    ),
    Transition("wrong → correct", lambda c: c.outcome_before == "wrong", _moved("wrong", "correct"), harm=False),
    Transition(
        "non-diagnostic → correct",
        lambda c: c.outcome_before == "nondiagnostic",
        _moved("nondiagnostic", "correct"),
        harm=False,
    ),
    Transition("wrong → non-diagnostic", lambda c: c.outcome_before == "wrong", _moved("wrong", "nondiagnostic"), harm=False),
)
"""Harms first, then benefits. A lost tumor comes twice: of those that were found, and of all that were not called normal."""


def newly_wrong(case: ShiftCase) -> bool:
    """Whether a case is confidently wrong and was not before."""
    return case.outcome_after == "wrong" and case.outcome_before != "wrong"


def harmed(case: ShiftCase) -> bool:
    """Whether a case is worse off for its restoration: it was right and is not, or it is newly wrong."""
    return is_harm(case.outcome_before, case.outcome_after)


def harm_rows(cohort: Cohort, seed: int = 0) -> list[dict[str, Any]]:
    """Each of :data:`TRANSITIONS`: how many cases changed so of those that could.

    ``exact`` is the interval of Clopper and Pearson, right where cases are independent; ``clustered`` resamples patients.
    """
    patients = cohort.patients
    rows = []
    for transition in TRANSITIONS:
        could = np.array([transition.could(case) for case in cohort.cases], dtype=bool)
        did = np.array([transition.did(case) for case in cohort.cases], dtype=bool)
        count, of = int(did.sum()), int(could.sum())
        none = Undefined("no case could change so")
        clustered: Finding = clustered_proportion(did, patients, of=could, seed=seed) if of else none
        rows.append(
            {
                "transition": transition.name,
                "harm": "harm" if transition.harm else "benefit",
                "count": count,
                "of": of,
                "patients": len(set(patients[did].tolist())),
                "exact": proportion(count, of) if of else none,
                "clustered": clustered,
            }
        )
    return rows


def ledger(cohort: Cohort) -> list[ShiftCase]:
    """Harmed cases, the gravest first: tumors called normal, then other newly wrong ones, then diagnoses that were lost.

    Within these the surest come first.
    """

    def gravity(case: ShiftCase) -> tuple[int, float, str]:
        if newly_wrong(case) and case.truth == "tumor" and case.after.said == "normal":
            rank = 0
        else:
            rank = 1 if newly_wrong(case) else 2
        return rank, -case.after.certainty, case.case

    return sorted((case for case in cohort.cases if harmed(case)), key=gravity)


def ledger_rows(cases: Sequence[ShiftCase]) -> list[Mapping[str, Any]]:
    """What the ledger says of each harmed case."""
    return [
        {
            "case": case.case,
            "patient": case.patient,
            "site": case.site or None,
            "truth": case.truth,
            "before": f"{case.before.said} ({case.before.certainty:.2f})",
            "after": f"{case.after.said} ({case.after.certainty:.2f})",
            "change": f"{case.outcome_before} → {case.outcome_after}",
            "t_pred": case.steps_predicted,
            "trust": case.trust,
        }
        for case in cases
    ]
