"""What is said of a patient, of whom several cases may say different things."""

from __future__ import annotations

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.validation.shift.records import Cohort, Prediction, ShiftCase, patient_outcomes, patient_said


def cases(*said: tuple[str, str, str]) -> tuple[ShiftCase, ...]:
    sure = Prediction("nondiagnostic", (0.0, 0.0, 1.0))
    return tuple(
        ShiftCase(str(at), patient, truth, sure, Prediction(after, (1 / 3, 1 / 3, 1 / 3)))
        for at, (patient, truth, after) in enumerate(said)
    )


def test_a_patient_is_its_most_frequent_outcome_and_a_divided_one_its_worst() -> None:
    cohort = Cohort(
        cases(
            *[("a", "tumor", "tumor")] * 2,
            ("a", "tumor", "normal"),
            ("b", "tumor", "tumor"),
            ("b", "normal", "tumor"),
            ("c", "tumor", "nondiagnostic"),
            ("c", "tumor", "tumor"),
            ("d", "tumor", "nondiagnostic"),
            ("d", "tumor", "normal"),
        )
    )
    found = [OUTCOMES[one] for one in patient_outcomes(cohort, "after")]
    assert found == ["correct", "wrong", "nondiagnostic", "wrong"]
    assert [OUTCOMES[one] for one in patient_outcomes(cohort, "before")] == ["nondiagnostic"] * 4


def test_a_divided_patient_has_no_diagnosis() -> None:
    cohort = Cohort(
        cases(
            *[("a", "tumor", "normal")] * 2,
            ("a", "tumor", "tumor"),
            ("b", "tumor", "tumor"),
            ("b", "tumor", "normal"),
        )
    )
    assert patient_said(cohort, "after").tolist() == [1, 2]
