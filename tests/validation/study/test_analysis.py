"""The analysis of a study: against known truths, hand-made answers and an independent likelihood."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from srh_clinic.metrics import Interval, Undefined
from srh_clinic.validation.reporting.page import page
from srh_clinic.validation.study.analysis.hallucinations import (
    cochran_table,
    corrected_bound,
    detected,
    marks,
    sensitivity,
)
from srh_clinic.validation.study.analysis.page import analyse, write_analysis
from srh_clinic.validation.study.analysis.preference import BradleyTerry, bradley_terry, preference_rows
from srh_clinic.validation.study.analysis.raters import bang_index, blinding_table, repeats_table
from srh_clinic.validation.study.analysis.views import CHOSEN, Choice, views
from srh_clinic.validation.study.records import Region
from srh_clinic.validation.study.returns import read_return, require_whole, write_return
from srh_clinic.validation.study.simulated import (
    Truth,
    simulated_answers,
    simulated_ratings,
    simulated_study,
    simulated_unblinded,
)
from srh_clinic.validation.study.unblinding import Unblinded

TRUTH = Truth(
    {"care": 0.75, "ddpm": 0.6, "gan": 0.85, "noise2void": 0.9, "<b>$x_1$</b>": 0.7},
    hallucination={"rscd": 0.03, "ddpm": 0.15, "gan": 0.4},
    side_bias=0.3,
    sensitivity={"r0": 0.95, "r1": 0.3, "r2": 0.8, "r3": 0.8, "r4": 0.8, "r5": 0.8},
)


@pytest.fixture(scope="module")
def study() -> Unblinded:
    return simulated_unblinded(TRUTH, seed=1)


@pytest.fixture(scope="module")
def sections(study):
    return {section.name: section for section in analyse(study)}


@pytest.fixture(scope="module")
def small() -> Unblinded:
    return simulated_unblinded(TRUTH, images=24, repeats=3, sentinels=2, seed=1)


def table(section, title):
    return next(one for one in section.tables if one.title.startswith(title))


def with_answers(study: Unblinded, keep=lambda answer: True, **changes) -> Unblinded:
    """The study with changed ratings of the answers that are kept."""
    answers = tuple(
        dataclasses.replace(one, rating=one.rating.model_copy(update=changes)) for one in study.answers if keep(one)
    )
    return dataclasses.replace(study, answers=answers)


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


def test_answers_to_a_repeat_are_compared_by_method_and_not_by_side():
    constant = dataclasses.replace(TRUTH, consistency=1.0)
    rows = {row["question"]: row for row in repeats_table(views(simulated_unblinded(constant, seed=3))).rows}
    assert rows["quality"]["same"].value == 1
    assert rows["quality"]["pairs"] == 90


def test_a_rater_who_overlooks_nuclei_has_a_low_sensitivity(study, sections):
    rows = {row["rater"]: row["sensitivity"] for row in table(sections["study_raters"], "Raters").rows}
    assert rows["r1"].value < rows["r0"].value
    planted = [one for one in study.answers if one.key.sentinel in ("added", "removed")]
    assert sensitivity(views(study)).value == pytest.approx(np.mean([detected(one) for one in planted]))


def test_a_mark_at_the_planted_place_counts_as_noticed(study):
    answer = next(one for one in study.answers if one.key.sentinel == "added")
    side, (x, y, radius) = answer.key.sentinel_side, answer.key.planted

    def region(where, on=side):
        shape = "point" if len(where) == 2 else "box"
        return Region(side=on, shape=shape, xy=where, category="other", severity="minor")

    assert marks(region((x + 1.9 * radius, y)), (x, y, radius))
    assert not marks(region((x + 2.1 * radius, y)), (x, y, radius))
    assert marks(region((x + 0.9 * radius, y, x + 40, y + 40)), (x, y, radius))
    assert not marks(region((x + 1.1 * radius, y, x + 40, y + 40)), (x, y, radius))
    silent = answer.rating.model_copy(update={"halluc_A": "none", "halluc_B": "none", "regions": ()})
    assert not detected(dataclasses.replace(answer, rating=silent))
    for on, noticed in ((side, True), ("B" if side == "A" else "A", False)):
        marked = silent.model_copy(update={"regions": (region((x, y), on),)})
        assert detected(dataclasses.replace(answer, rating=marked)) == noticed


def test_the_corrected_bound_is_the_bound_over_the_least_sensitivity():
    called = Interval(0.0, 0.0, 0.02, 150)
    assert corrected_bound(called, Interval(0.8, 0.5, 0.9, 10)) == pytest.approx(0.04)
    assert corrected_bound(called, Interval(0.8, 0.01, 0.9, 10)) == 1
    assert isinstance(corrected_bound(called, Undefined("none")), Undefined)


def test_mcnemars_pairs_are_the_tasks_of_a_baseline(study, sections):
    from scipy.stats import binomtest

    rows = [
        row for row in table(sections["study_hallucinations"], "Hallucinations against").rows if row["least"] == "definite"
    ]
    assert [row["tasks"] for row in rows] == [90] * 5
    row = next(row for row in rows if row["baseline"] == "gan")
    called: dict[str, list[bool]] = {}
    for one in study.answers:
        sides = {one.key.side_A_method: one.rating.halluc_A, one.key.side_B_method: one.rating.halluc_B}
        if one.key.kind == "real" and "gan" in sides:
            pair = called.setdefault(one.key.case_id, [False, False])
            pair[0] |= sides["rscd"] == "definite"
            pair[1] |= sides["gan"] == "definite"
    ours, theirs = (sum(a and not b for a, b in called.values()), sum(b and not a for a, b in called.values()))
    assert (row["test"], row["other"]) == (ours, theirs)
    assert row["p"] == pytest.approx(binomtest(ours, ours + theirs).pvalue)


def test_an_incomplete_design_says_why_there_is_no_cochran(sections):
    found = table(sections["study_hallucinations"], "All methods at once")
    assert all(row["q"] is None for row in found.rows)
    assert "incomplete" in found.note
    assert "4 of 6" in found.note


def test_a_complete_design_has_cochrans_q(study):
    # Six images, each shown under all six methods by renaming cases: every method's rating of image k is of case k % 6.
    cases = {}
    kept = []
    for one in study.answers:
        baseline = next((m for m in (one.key.side_A_method, one.key.side_B_method) if m != "rscd"), None)
        place = cases.setdefault(baseline, [])
        if one.key.kind == "real" and one.key.case_id not in place and len(place) < 6:
            place.append(one.key.case_id)
            kept.append(dataclasses.replace(one, key=one.key.model_copy(update={"case_id": f"case {len(place)}"})))
    complete = dataclasses.replace(study, answers=tuple(kept))
    found = cochran_table(views(complete), 0)
    assert [row["images"] for row in found.rows] == [6, 6]
    assert "incomplete" not in found.note


def test_bangs_index_is_his_example():
    # CRISP: 82 of 277 guessed the drug they took, 25 placebo, 170 did not know (Bang, Ni and Davis 2004).
    found = bang_index(82, 25, 170)
    assert found.value == pytest.approx(0.206, abs=5e-4)
    p, q = 82 / 277, 25 / 277
    variance = (p * (1 - p) + q * (1 - q) + 2 * p * q) / 277
    assert (found.high - found.value) / 1.96 == pytest.approx(np.sqrt(variance))
    assert isinstance(bang_index(0, 0, 0), Undefined)


def test_raters_who_know_the_method_are_not_blind():
    known = views(simulated_unblinded(dataclasses.replace(TRUTH, recognition=1.0), seed=1))
    row = blinding_table(known).rows[-1]
    assert (row["right"], row["wrong"], row["unsure"]) == (900, 0, 0)
    assert row["index"].value == 1
    assert 0.8 < row["index"].low < 1


def test_the_analysis_is_the_same_under_its_seed(small):
    first, again = analyse(small, seed=2), analyse(small, seed=2)
    assert [s.tables for s in again] == [s.tables for s in first]
    assert again[0].figures == first[0].figures


def test_markup_in_names_is_shown_as_text(sections):
    html = page([one.section for one in sections.values()], "<i>title</i>", "")
    assert "<b>$x_1$</b>" not in html
    assert "&lt;b&gt;$x_1$&lt;/b&gt;" in html
    assert "<i>title" not in html


def test_an_interim_analysis_says_so_at_the_top(small, tmp_path):
    early = dataclasses.replace(small, interim=True, returns={"r0": "0" * 64})
    kept = with_answers(early, lambda one: one.rating.rater_id == "r0")
    written = write_analysis(kept, tmp_path)
    assert written[0] == tmp_path / "analysis.html"
    for markdown in tmp_path.glob("*.md"):
        lines = markdown.read_text().splitlines()
        assert lines[0].startswith("# INTERIM")
        assert lines[2].startswith("INTERIM analysis: the returns of r1, r2, r3, r4, r5 are missing")
    assert "<h1>INTERIM" in written[0].read_text()
    assert "NaN" not in "".join(one.read_text() for one in tmp_path.glob("*.json"))
    # With one rater there is nobody to agree with.
    assert "no unit was rated by two raters" in (tmp_path / "study_raters.md").read_text()


def test_a_study_without_any_answer_says_so_everywhere(study):
    nobody = dataclasses.replace(study, answers=(), returns={}, interim=True)
    for section in analyse(nobody):
        for one in section.tables:
            assert one.note


def test_unanimous_raters_leave_no_number_undetermined_without_a_reason(small):
    alike = with_answers(small, pref_quality="tie", pref_fidelity="tie", halluc_A="none", halluc_B="none", regions=())
    named = {section.name: section for section in analyse(alike)}
    rows = table(named["study_preference"], "Preference for rscd, quality").rows
    assert all(row["rate"].value == 0.5 and row["p"] == 1 for row in rows)
    assert "every comparison is a tie" in table(named["study_preference"], "Bradley-Terry").note
    agreement = table(named["study_raters"], "Agreement")
    assert "only one category was used" in agreement.note
    assert all(row["percent"].value == 1 and row["fleiss"] is None for row in agreement.rows)
    bounds = table(named["study_hallucinations"], "Upper bounds")
    assert "may be 0" in bounds.note


def test_a_review_has_no_preferences_and_tells_what_the_guards_missed():
    review = simulated_unblinded(TRUTH, kind="review", images=60, seed=4)
    sections = {section.name: section for section in analyse(review)}
    assert "study_preference" not in sections
    titles = [one.title for section in sections.values() for one in section.tables]
    assert not any("Preference" in title or "Blinding" in title or "Side bias" in title for title in titles)
    rows = {row["what"]: row for row in table(sections["study_guards"], "Flagged regions reviewed").rows}
    flagged, missed = rows["flagged (confirmed: precision)"], rows["not flagged (missed by the guards)"]
    # A flagged region is real in 60 %, and .75 of those are noticed.
    assert flagged["definite or possible"].value == pytest.approx(0.45, abs=0.12)
    assert missed["definite or possible"].value < 0.15
    assert flagged["of"] + missed["of"] == 360


def test_regions_that_overlap_a_flag_confirm_it(study, sections):
    rows = {row["what"]: row for row in table(sections["study_guards"], "Guards against").rows}
    flags = [one for one in study.answers if one.key.kind == "real" for _ in one.key.flagged]
    row = rows["flags that raters marked (precision of the guards)"]
    assert row["of"] == len(flags)
    hits = [
        any(r.side == f[0] and f[1] <= r.xy[0] <= f[1] + f[3] and f[2] <= r.xy[1] <= f[2] + f[4] for r in one.rating.regions)
        for one in flags
        for f in one.key.flagged
    ]
    assert row["share"].value == pytest.approx(np.mean(hits))


def test_images_of_one_patient_are_one_cluster(study):
    answers = tuple(
        dataclasses.replace(one, key=one.key.model_copy(update={"patient_hash": f"{int(one.key.seed) % 30:064x}"}))
        for one in study.answers
    )
    of = views(dataclasses.replace(study, answers=answers))
    assert of.by_patient
    assert not views(study).by_patient
    row = preference_rows(of, "quality", 0)[-1]
    assert row["images"] == 30


def test_simulated_answers_return_as_the_viewer_writes_them(tmp_path):
    protocol, tasks, key = simulated_study(TRUTH, images=20, repeats=2, sentinels=1)
    rows = simulated_ratings(tasks, key, TRUTH, protocol.test, seed=5)
    assert rows == simulated_ratings(tasks, key, TRUTH, protocol.test, seed=5)
    assert rows != simulated_ratings(tasks, key, TRUTH, protocol.test, seed=6)
    answers = simulated_answers(tasks, key, TRUTH, protocol.test, seed=5)
    for rater, own in rows.items():
        path = tmp_path / f"{rater}.jsonl"
        path.write_text(write_return(own, protocol.study_id, rater))
        returned = read_return(path, protocol.study_id)
        require_whole(returned, [task.task_id for task in tasks if task.rater_id == rater], path)
        said = [one.rating.pref_quality for one in answers if one.rating.rater_id == rater]
        assert [one.pref_quality for one in returned.ratings] == said


def test_a_choice_counts_one_a_half_or_nothing():
    assert [Choice("r", "", "i", "i", "b", "", "A", one).score for one in CHOSEN] == [1.0, 0.5, 0.0]
