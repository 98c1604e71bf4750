"""The analysis as a whole: the same under its seed, and honest about what is missing."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
from analysed import TRUTH, table, with_answers
from simulated_study import simulated_unblinded

from srh_clinic.estimates import Interval
from srh_clinic.validation.reporting.page import page
from srh_clinic.validation.study.analysis.page import analyse, write_analysis


@pytest.fixture(scope="module")
def reports(small):
    """Of a small study, made while a library's warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return analyse(small, seed=2)


def test_the_analysis_is_the_same_under_its_seed(small, reports):
    first, again = reports, analyse(small, seed=2)
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


def test_no_library_warns_of_a_study_and_no_interval_has_no_width(small, reports):
    alike = with_answers(small, halluc_A="none", halluc_B="none", pref_quality="A", pref_fidelity="tie", method_guess="unsure")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_alike = analyse(alike)
    seen = 0
    for report in (*reports, *of_alike):
        for one in report.tables:
            for row in one.rows:
                for column in one.columns:
                    found = row.get(column.key)
                    if isinstance(found, Interval):
                        assert found.high - found.low > 1e-9, (report.name, one.title, column.key)
                        seen += 1
    assert seen > 100


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


def test_what_an_earlier_analysis_had_and_this_one_lacks_is_gone(written):
    folder = written[0].parent
    found = {path for path in folder.rglob("*") if path.is_file()}
    assert found - set(written) == {folder / "notes.txt"}
