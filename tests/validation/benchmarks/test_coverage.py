"""Simulated cohorts and studies have the effect they were given, and intervals cover it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_cohort import simulated_cohort

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.validation.benchmarks import coverage
from srh_clinic.validation.benchmarks.agreement_coverage import AgreementTruth, agreement_coverage, simulated_codes
from srh_clinic.validation.benchmarks.coverage import (
    HARM,
    SHIFT_TRUTHS,
    PreferenceTruth,
    run_shift_coverage,
    shift_coverage,
    study_coverage,
)
from srh_clinic.validation.shift.simulated import Scenario, simulate


@pytest.mark.parametrize("scenario", SHIFT_TRUTHS, ids=lambda one: one.name)
def test_a_large_cohort_shows_the_truth_that_it_was_given(scenario: Scenario) -> None:
    large = Scenario(**{**scenario.__dict__, "patients": 40_000})
    drawn = simulate(large, np.random.default_rng(0))
    (before, after), wrong, nondiagnostic = drawn.right, drawn.wrong, drawn.nondiagnostic
    # 140,000 cases of 40,000 patients: standard errors of shares are at most .003.
    assert nondiagnostic.mean(axis=1) == pytest.approx(scenario.nondiagnostic, abs=0.01)
    assert wrong.mean(axis=1) == pytest.approx(scenario.wrong, abs=0.01)
    assert after.mean() - before.mean() == pytest.approx(scenario.shift, abs=0.01)
    newly = (wrong[1] * nondiagnostic[0]).sum() / nondiagnostic[0].sum()
    assert newly == pytest.approx(scenario.newly_wrong, abs=0.005)


def test_the_scenarios_are_the_ones_asked_for() -> None:
    null, paper, rare, rarer = SHIFT_TRUTHS
    assert null.shift == 0
    before, after = (1 - paper.nondiagnostic[k] - paper.wrong[k] for k in (0, 1))
    assert before < 0.24 < 0.75 < after
    assert (rare.newly_wrong, rarer.newly_wrong) == pytest.approx((0.04, 0.02), abs=0.004)


def test_a_simulated_cohort_says_its_likeliest_class() -> None:
    scenario = SHIFT_TRUTHS[1]
    cohort, drawn = simulated_cohort(scenario, 3), simulate(scenario, np.random.default_rng(3))
    for place, when in enumerate(("before", "after")):
        assert cohort.outcomes(when).tolist() == drawn.outcomes[place].tolist()
        assert cohort.probabilities(when).sum(axis=1) == pytest.approx(1)
    assert set(drawn.outcomes.ravel()) == set(range(len(OUTCOMES)))
    assert cohort.patients.tolist() == drawn.patients.tolist()


@pytest.fixture
def _rough_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    # The AUC's truth takes a large cohort; no statement of these tests is about it.
    monkeypatch.setattr(coverage, "REFERENCE_PATIENTS", 1000)


@pytest.mark.usefixtures("_rough_auc")
def test_intervals_over_patients_cover_where_those_over_rows_do_not() -> None:
    strong = Scenario("strong", (0.3, 0.3), (0.2, 0.2), patient_sd=3.0, patient_correlation=0.0, patients=50)
    made = shift_coverage(60, scenarios=[strong])
    rows = {row["of"]: row for row in made.tables[1].rows}
    # Of 60 intervals that cover 94 %, fewer than 50 do with chance .002; of those over rows some 70 % cover.
    assert rows["difference in accuracy"]["coverage"].value >= 50 / 60
    assert rows["difference in accuracy"]["naive"].value <= 50 / 60
    assert rows["difference in accuracy"]["width"] > 1.4 * rows["difference in accuracy"]["naive_width"]
    assert rows[HARM]["coverage"].value >= 50 / 60


@pytest.mark.usefixtures("_rough_auc")
def test_the_report_is_written_and_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    heard: list[str] = []
    made = run_shift_coverage(tmp_path, cohorts=2, seed=5, report=lambda stage, done, total: heard.append(stage))
    written = json.loads((tmp_path / "shift_coverage.json").read_text())["tables"]
    assert len(heard) == len(SHIFT_TRUTHS)
    assert [len(table) for table in written.values()] == [4, 4 * len(SHIFT_TRUTHS)]
    again = shift_coverage(2, 5, scenarios=SHIFT_TRUTHS[:1])
    assert list(again.tables[1].rows) == list(made.tables[1].rows[:4])


def test_the_headline_interval_covers_where_the_naive_one_does_not() -> None:
    settings: dict[str, Any] = {"studies": 40, "seed": 1, "scenarios": (PreferenceTruth(0.75),), "bootstrap": 0}
    report = study_coverage(**settings)
    assert report.tables == study_coverage(**settings).tables
    one, everything = report.tables[1].rows
    assert one["n"] == 200
    # 200 dependent intervals: expected .96 and .77, with a standard error near .02 each.
    assert one["coverage"].value > 0.88 > one["naive"]
    assert everything["naive"] < 0.8
    assert 1 < one["width"] < 1.5


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("prevalence", [0.02, 0.5])
def test_simulated_raters_have_the_kappa_that_they_were_given(prevalence: float, kappa: float) -> None:
    truth = AgreementTruth(prevalence, kappa, 6, images=20_000)
    codes = simulated_codes(truth, 1, np.random.default_rng(0))[0].astype(float)
    # 20,000 images, of which 400 say yes at least: standard errors of about .02 and .001.
    assert np.corrcoef(codes.T)[0, 1] == pytest.approx(kappa, abs=0.06)
    assert codes.mean() == pytest.approx(prevalence, abs=0.006)
    assert truth.true["percent agreement"] == pytest.approx((codes[:, 0] == codes[:, 1]).mean(), abs=0.01)


def test_intervals_of_kappa_cover_where_a_percentile_bootstrap_covered_one_study_in_fifteen() -> None:
    truth = AgreementTruth(0.02, 0.0, 1)
    asked, table = agreement_coverage(60, 0, [truth])
    kappa = table.rows[0]
    assert kappa["n"] + kappa["undefined"] == 60
    sparse = agreement_coverage(20, 0, [AgreementTruth(0.005, 0.5, 1)])[1].rows[0]
    assert sparse["n"] >= 10
    assert sparse["undefined"] > sparse["n"]
    never = agreement_coverage(1, 0, [AgreementTruth(0.0001, 0.8, 1, images=20)])[1]
    assert [column.cell(never.rows[0]) for column in never.columns][3:6] == ["0", "10", "–"]
    # Of 55 intervals that cover 95 %, fewer than 47 do with chance .001.
    assert kappa["coverage"].value > 47 / 55
    assert kappa["width"] > 0.3
    assert [row["asked"] for row in asked] == [row["asked"] for row in agreement_coverage(60, 0, [truth])[0]]
    assert agreement_coverage(60, 0, [truth])[1] == table
