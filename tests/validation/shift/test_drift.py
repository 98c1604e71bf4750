"""Sites of a cohort against a reference made of the other sites."""

import numpy as np
import pytest

from srh_clinic.estimates import Interval, Undefined, proportion
from srh_clinic.trust.drift import CaseProfile
from srh_clinic.validation.shift.drift import ProfiledCase, drift_table, site_drift


def profile(rng, gain=1.0):
    counts = gain * rng.lognormal(0, 0.3, (2, 1)) * np.sort(rng.gamma(8.0, 1500.0, (2, 5)), axis=1)
    steps = np.sort(rng.gamma(5.0, 10.0, 2))
    return CaseProfile(tuple(map(tuple, counts.tolist())), tuple(steps.tolist()), tuple(rng.normal(size=6).tolist()))


def cohort(rng, gains, patients=10, cases=2):
    return [
        ProfiledCase(f"{site}{number}-{case}", f"{site}{number}", site, profile(rng, gain))
        for site, gain in gains.items()
        for number in range(patients)
        for case in range(cases)
    ]


@pytest.fixture(scope="module")
def found():
    return site_drift(cohort(np.random.default_rng(0), {"A": 1.0, "B": 1.0, "C": 40.0}), level=0.05)


def test_a_site_with_another_scanner_is_flagged_by_brightness_and_its_patients_are_counted_once(found):
    assert [(one.site, one.patients, one.reference_patients) for one in found] == [("A", 10, 20), ("B", 10, 20), ("C", 10, 20)]
    other = found[2]
    # All ten lie outside of both other sites; the interval is that of ten patients, not of twenty cases.
    assert other.by_quantity["intensity"] == other.flagged == proportion(10, 10)
    assert other.by_quantity["embedding"].value <= 0.1


def test_a_site_like_the_others_is_flagged_at_the_promised_rate():
    rng, shares = np.random.default_rng(1), []
    for _ in range(20):
        shares += [one.flagged for one in site_drift(cohort(rng, {"A": 1.0, "B": 1.0, "C": 1.0}, cases=1), level=0.1)]
    # A level of 0.1 over 20 patients elsewhere: ranks of 21 cases, so exactly 2 in 21. The 600 patients are judged by shared
    # references; three standard errors of twice the independent variance are allowed.
    assert np.mean([share.value for share in shares]) == pytest.approx(2 / 21, abs=3 * np.sqrt(2 * 2 / 21 * 19 / 21 / 600))


def test_too_few_patients_elsewhere_are_said():
    cases = cohort(np.random.default_rng(2), {"A": 1.0, "B": 1.0}, patients=10)
    (first, _) = site_drift(cases, level=0.05)
    assert isinstance(first.flagged, Undefined)
    assert "needs 19" in first.flagged.why
    table = drift_table(site_drift(cases, level=0.05))
    assert table.rows[0]["flagged"] is None
    assert "needs 19" in table.note
    assert isinstance(site_drift(cases, level=0.1)[0].flagged, Interval)


def test_a_patient_of_the_site_takes_no_part_in_its_reference():
    rng = np.random.default_rng(3)
    cases = cohort(rng, {"A": 1.0, "B": 1.0}, patients=20, cases=1)
    cases.append(ProfiledCase("elsewhere", "A0", "B", profile(rng)))
    assert [(one.patients, one.reference_patients) for one in site_drift(cases)] == [(20, 20), (21, 19)]


def test_cases_without_tissue_take_no_part():
    cases = cohort(np.random.default_rng(4), {"A": 1.0, "B": 1.0}, patients=20, cases=1)
    bare = CaseProfile(None, None, None)
    cases[0] = ProfiledCase("bare", "A0", "A", bare)
    assert site_drift(cases)[0].patients == 19
    only = [ProfiledCase("bare", "A0", "A", bare), *cases[20:]]
    assert "no case of the site" in site_drift(only)[0].flagged.why


def test_a_quantity_that_nobody_has_is_undefined_and_the_others_are_told():
    cases = [
        ProfiledCase(one.case, one.patient, one.site, CaseProfile(one.profile.intensity, None, one.profile.embedding))
        for one in cohort(np.random.default_rng(5), {"A": 1.0, "B": 1.0}, patients=20, cases=1)
    ]
    one = site_drift(cases)[0]
    assert isinstance(one.by_quantity["steps"], Undefined)
    assert isinstance(one.by_quantity["intensity"], Interval)


def test_the_table_tells_what_was_found(found):
    table = drift_table(found)
    cells = [[column.cell(row) for column in table.columns] for row in table.rows]
    assert cells[2][:4] == ["C", "10", "20", "1.00 [0.69, 1.00]"]  # Clopper-Pearson of 10 in 10: 0.025 ** (1 / 10)
    assert "0.05" in table.note
