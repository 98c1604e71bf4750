"""Preferences: against known truths, and strengths against an independent likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from analysed import TRUTH, with_answers
from scipy.optimize import minimize
from simulated_study import simulated_unblinded

from srh_clinic.metrics import Undefined
from srh_clinic.validation.statistics.bradley_terry import davidson as davidson_fit
from srh_clinic.validation.study.analysis.preference import BradleyTerry, bradley_terry, preference_rows
from srh_clinic.validation.study.analysis.views import Choice, views
from srh_clinic.validation.study.simulated_raters import Truth


def choices_of(counts: dict[str, tuple[int, int, int]]) -> list[Choice]:
    """Choices with these numbers of wins of the method under test, ties and losses, each of an image of its own."""
    return [
        Choice("r0", "", f"{baseline} {at}", f"{baseline} {at}", baseline, "", "A", chosen)
        for baseline, numbers in counts.items()
        for at, chosen in enumerate(np.repeat(("test", "tie", "baseline"), numbers))
    ]


def davidson(counts: dict[str, tuple[int, int, int]]) -> tuple[dict[str, float], float]:
    """Log strengths against the method under test and the tie parameter by maximising the likelihood directly."""
    names = list(counts)

    def loss(x):
        total = 0.0
        for strength, (wins, ties, losses) in zip(x[:-1], counts.values(), strict=True):
            pi, v = np.exp(strength), np.exp(x[-1])
            whole = np.log(1 + pi + 2 * v * np.sqrt(pi))
            total -= wins * -whole + losses * (strength - whole) + ties * (np.log(2 * v) + strength / 2 - whole)
        return total

    found = minimize(loss, np.zeros(len(names) + 1), method="BFGS", options={"gtol": 1e-9}).x
    return dict(zip(names, found[:-1], strict=True)), float(np.exp(found[-1]))


def test_bradley_terry_strengths_maximise_the_likelihood():
    counts = {"a": (50, 30, 20), "b": (60, 2, 10), "c": (9, 4, 30)}
    found = bradley_terry(choices_of(counts), resamples=20)
    assert isinstance(found, BradleyTerry)
    strengths, tie = davidson(counts)
    # BFGS ends within 1e-5 of the maximum.
    assert {name: one.value for name, one in found.strength.items()} == pytest.approx(strengths, abs=1e-4)
    assert found.tie == pytest.approx(tie, abs=1e-4)


@pytest.mark.parametrize("counts", [(10, 5, 10), (50, 30, 20), (3, 40, 1), (0.5, 7.25, 12)])
def test_two_methods_have_their_strengths_in_closed_form(counts):
    wins, ties, losses = counts
    found = davidson_fit(*(np.array([one], float) for one in counts))
    assert found.chance[0] == pytest.approx(losses / (wins + losses), rel=1e-9)
    # 10 wins, 5 ties, 10 losses: 0.25, since 5 / 25 is 2 v / (2 + 2 v).
    assert found.tie == pytest.approx(ties / (2 * np.sqrt(wins * losses)), rel=1e-9)


def test_a_likelihood_that_grows_without_end_has_no_maximum():
    # Only wins and ties: the strength is 0 and ties ever likelier.
    assert davidson_fit(np.array([8.0]), np.array([3.0]), np.array([0.0])) is None


def test_without_ties_strengths_are_the_log_odds():
    found = bradley_terry(choices_of({"a": (50, 0, 20), "b": (60, 0, 10)}), resamples=20)
    assert found.strength["a"].value == pytest.approx(np.log(20 / 50), abs=1e-6)
    assert found.strength["b"].value == pytest.approx(np.log(10 / 60), abs=1e-6)
    assert found.tie == 0


def test_a_baseline_that_never_won_has_no_finite_strength_and_leaves_the_others_alone():
    found = bradley_terry(choices_of({"a": (50, 5, 20), "b": (60, 0, 0)}), resamples=20)
    assert isinstance(found.strength["b"], Undefined)
    assert found.chance["b"].value == 0
    # None of 60 images: 1 - .025 ** (1 / 60).
    assert found.chance["b"].high == pytest.approx(1 - 0.025 ** (1 / 60))
    alone = bradley_terry(choices_of({"a": (50, 5, 20)}), resamples=20)
    assert found.strength["a"].value == pytest.approx(alone.strength["a"].value, abs=1e-6)


def test_ties_only_leave_strengths_undefined():
    assert isinstance(bradley_terry(choices_of({"a": (0, 20, 0)})), Undefined)


def test_preference_rates_are_found_again(study):
    rows = {row["baseline"]: row for row in preference_rows(views(study), "quality", 0)}
    for baseline, rate in TRUTH.preference.items():
        row = rows[baseline]
        assert row["test"] + row["tie"] + row["against"] == row["ratings"] == 180
        assert row["rate"].value == pytest.approx((row["test"] + row["tie"] / 2) / 180)
        # One draw of six raters: four standard errors.
        assert row["rate"].value == pytest.approx(rate, abs=0.2)
    assert rows["all baselines"]["ratings"] == 900


def test_holms_p_values_are_those_of_holm(study):
    rows = [row for row in preference_rows(views(study), "fidelity", 0) if row["baseline"] != "all baselines"]
    ordered = sorted(rows, key=lambda row: row["p"])
    adjusted, highest = {}, 0.0
    for place, row in enumerate(ordered):
        highest = max(highest, min(1.0, (len(rows) - place) * row["p"]))
        adjusted[row["baseline"]] = highest
    assert {row["baseline"]: row["p_holm"] for row in rows} == pytest.approx(adjusted)


def test_repeats_and_sentinels_do_not_move_the_headline(study):
    real = with_answers(study, lambda one: one.key.kind == "real")
    assert preference_rows(views(real), "quality", 0) == preference_rows(views(study), "quality", 0)


def test_a_side_bias_does_not_look_like_a_preference():
    even = Truth(dict.fromkeys("abcde", 0.5), side_bias=1.5, image_sd=0, rater_sd=0)
    of = views(simulated_unblinded(even, seed=2))
    rate = next(row for row in preference_rows(of, "quality", 0) if row["baseline"] == "all baselines")["rate"]
    assert rate.low < 0.5 < rate.high
    sides = [one.side for one in of.choices("quality") if one.side != "tie"]
    # expit(1.5) = .82
    assert sides.count("A") / len(sides) == pytest.approx(0.82, abs=0.05)
