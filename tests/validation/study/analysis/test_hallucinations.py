"""Hallucinations: against known truths and hand-made answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from analysed import table

from srh_clinic.metrics import Interval, Undefined
from srh_clinic.validation.study.analysis.hallucinations import (
    cochran_table,
    corrected_bound,
    detected,
    marks,
    sensitivity,
)
from srh_clinic.validation.study.analysis.views import views
from srh_clinic.validation.study.records import Region


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
    # A box around everything holds the place and finds nothing.
    assert marks(region((x - 4 * radius, y - 4 * radius, x + 4 * radius, y + 4 * radius)), (x, y, radius))
    assert not marks(region((x - 4 * radius, y - 4 * radius, x + 4.1 * radius, y + 4 * radius)), (x, y, radius))
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


def test_each_p_stands_beside_the_interval_that_it_inverts(sections):
    of_tasks = of_ratings = 0
    for row in table(sections["study_hallucinations"], "Hallucinations against").rows:
        if row["share"] is not None:
            assert (row["p"] < 0.05) == (not row["share"].low <= 0.5 <= row["share"].high)
            of_tasks += 1
        assert (row["p_difference"] < 0.05) == (not row["difference"].low <= 0 <= row["difference"].high)
        of_ratings += 1
    assert of_tasks >= 8
    assert of_ratings == 10


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
