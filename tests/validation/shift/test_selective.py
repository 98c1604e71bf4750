"""A policy chosen on some patients and tried on others."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.diagnosis import CLASSES, OUTCOMES
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.trust import ALWAYS, NEVER
from srh_clinic.validation.shift.records import Cohort, Prediction, ShiftCase
from srh_clinic.validation.shift.selective import (
    SelectiveStudy,
    decision_curve,
    observations_of,
    study_policy,
    try_policy,
)


def prediction(said: str, p: float) -> Prediction:
    shares = [(1 - p) / 2] * 3
    shares[CLASSES.index(said)] = p
    first, second, third = shares
    return Prediction(said, (first, second, third))


def case(
    number: int, patient: int, truth: str, before: str, after: str, p: float = 0.9, trust: float | None = 0.5
) -> ShiftCase:
    return ShiftCase(f"case {number}", f"P{patient}", truth, prediction(before, 0.8), prediction(after, p), trust=trust)


def inventive(patients: int, seed: int = 0) -> Cohort:
    """Three slides a patient: one that restoration saves, one that was right already, one in which it invents a tumor."""
    rng = np.random.default_rng(seed)
    cases = []
    for patient in range(patients):
        truth = str(rng.choice(["tumor", "normal"]))
        cases.append(case(3 * patient, patient, truth, "nondiagnostic", truth, trust=rng.uniform(0, 0.9)))
        cases.append(case(3 * patient + 1, patient, truth, truth, truth, p=0.95, trust=rng.uniform(0, 0.9)))
        cases.append(
            case(3 * patient + 2, patient, "nondiagnostic", "nondiagnostic", "tumor", p=0.92, trust=rng.uniform(2, 3))
        )
    return Cohort(tuple(cases))


@pytest.fixture(scope="module")
def study() -> SelectiveStudy:
    found = study_policy(inventive(48), seed=3, made_by={"weights_sha256": "0" * 64}, resamples=500)
    assert isinstance(found, SelectiveStudy)
    return found


def value(found: object) -> float:
    assert isinstance(found, Interval)
    return found.value


def test_on_held_out_patients_the_policy_is_less_often_wrong_and_as_often_correct(study: SelectiveStudy) -> None:
    shares = {row["policy"]: {kind: value(row[kind]) for kind in OUTCOMES} for row in study.comparison}
    third = pytest.approx(1 / 3)
    # As scanned each patient has one that was right, one rightly non-diagnostic and one needlessly so.
    assert shares["never"] == {"correct": pytest.approx(2 / 3), "wrong": 0, "nondiagnostic": third}
    assert shares["always"] == {"correct": pytest.approx(2 / 3), "wrong": third, "nondiagnostic": 0}
    assert shares["selective"] == {"correct": 1, "wrong": 0, "nondiagnostic": 0}
    than_always = study.differences[0]
    assert than_always["policy"] == "selective - always"
    assert value(than_always["wrong"]) == pytest.approx(-1 / 3)
    assert than_always["wrong"].high < 0
    assert than_always["correct"].low > 0


def test_no_patient_is_on_both_sides(study: SelectiveStudy) -> None:
    sides = [{one.patient for one in cohort.cases} for cohort in (study.calibration, study.held_out)]
    assert [len(side) for side in sides] == [24, 24]
    assert not sides[0] & sides[1]
    assert study.policy.bound is not None
    assert study.policy.bound.patients == 12
    with pytest.raises(ValueError, match="among calibration and held-out patients"):
        try_policy(ALWAYS, study.calibration, study.calibration)


def test_what_held_out_patients_show_has_no_part_in_the_policy(study: SelectiveStudy) -> None:
    held_out = {one.patient for one in study.held_out.cases}
    cases = inventive(48).cases
    lied = [
        one if one.patient not in held_out else case(i, 0, "normal", "tumor", "tumor", trust=9) for i, one in enumerate(cases)
    ]
    named = [
        ShiftCase(one.case, old.patient, one.truth, one.before, one.after, trust=one.trust)
        for one, old in zip(lied, cases, strict=True)
    ]
    other = study_policy(Cohort(tuple(named)), seed=3, made_by={"weights_sha256": "0" * 64}, resamples=500)
    assert isinstance(other, SelectiveStudy)
    assert other.policy == study.policy
    assert other.comparison != study.comparison


def test_the_policy_remembers_what_it_was_calibrated_on(study: SelectiveStudy) -> None:
    stated = study.policy.calibration
    assert (stated["level"], stated["seed"], stated["patients"], stated["cases"]) == ("slide", 3, 24, 72)
    assert stated["weights_sha256"] == "0" * 64


def test_net_benefit_weighs_wrong_diagnoses(study: SelectiveStudy) -> None:
    rows = {row["harm"]: row for row in study.net_benefit}
    assert list(rows) == [1, 2, 5, 10]
    for harm, row in rows.items():
        assert row["always"] == pytest.approx(2 / 3 - harm / 3)
        assert row["never"] == pytest.approx(2 / 3)
        assert row["selective"] == 1
        assert value(row["difference"]) == pytest.approx(1 / 3 + harm / 3)


def test_the_decision_curve_is_the_shares_at_each_limit() -> None:
    cohort = Cohort(
        (
            case(0, 0, "tumor", "nondiagnostic", "tumor", p=0.85, trust=0.2),
            case(1, 1, "normal", "normal", "tumor", p=0.75, trust=1.2),
            case(2, 2, "nondiagnostic", "nondiagnostic", "tumor", p=0.65, trust=4.0),
            case(3, 3, "tumor", "normal", "nondiagnostic", trust=None),
        )
    )
    rows = {(row["limit"], row["at"], row["otherwise"]): row for row in decision_curve(cohort)}

    def shares(*key: object) -> tuple[float, float, float]:
        row = rows[key]  # type: ignore[index]
        return row["correct"], row["wrong"], row["nondiagnostic"]

    assert shares("certainty", 0.0, "nondiagnostic") == (0.25, 0.5, 0.25)
    assert shares("certainty", 0.7, "nondiagnostic") == (0.5, 0.25, 0.25)
    assert shares("certainty", 0.8, "nondiagnostic") == (0.5, 0.0, 0.5)
    assert shares("certainty", 0.8, "original") == (0.75, 0.25, 0.0)  # the fourth falls back to a wrong original
    assert shares("certainty", 0.9, "nondiagnostic") == (0.25, 0.0, 0.75)
    assert shares("trust", 1.0, "original") == (0.75, 0.25, 0.0)
    assert shares("trust", 3.0, "nondiagnostic") == (0.5, 0.25, 0.25)
    assert shares("trust", None, "nondiagnostic") == shares("certainty", 0.0, "nondiagnostic")
    assert rows["trust", 1.0, "nondiagnostic"]["used"] == 0.5  # the first, and the word of non-diagnostic


def test_without_guards_there_is_no_curve_over_their_threshold() -> None:
    cohort = Cohort((case(0, 0, "tumor", "nondiagnostic", "tumor", trust=None),))
    assert {row["limit"] for row in decision_curve(cohort)} == {"certainty"}


def test_risk_and_coverage_end_at_the_share_that_is_diagnosed(study: SelectiveStudy) -> None:
    for found, covered, risk in ((study.restored, 1.0, 1 / 3), (study.original, 1 / 3, 0.0)):
        assert not isinstance(found, Undefined)
        assert found.coverage[-1] == pytest.approx(covered)
        assert found.risk[-1] == pytest.approx(risk)
    restored = study.restored
    assert not isinstance(restored, Undefined)
    assert restored.risk[len(restored.risk) // 3 - 1] == 0  # the surest third was right already


def test_what_was_said_becomes_evidence_in_order() -> None:
    cases = inventive(2).cases
    observations = observations_of(Cohort(tuple(cases)))
    assert observations.restored.tolist() == [one.after.said for one in cases]
    assert NEVER.said(observations).tolist() == [one.before.said for one in cases]
    assert observations.p_restored.tolist() == [one.after.certainty for one in cases]
    assert observations.trust.tolist() == [one.trust for one in cases]
    assert np.isnan(observations.steps).all()


def test_too_few_patients_choose_nothing() -> None:
    found = study_policy(inventive(15))
    assert found == Undefined("a policy needs 16 patients or more to be chosen and tried; there are 15")
