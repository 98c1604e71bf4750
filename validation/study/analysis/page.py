"""The analysis of an unblinded study, as the reports of one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.validation.reporting.page import write_reports
from srh_clinic.validation.reporting.report import Figure, Report, Table, provenance
from srh_clinic.validation.study.analysis.figures import figure_6
from srh_clinic.validation.study.analysis.hallucinations import (
    bounds_table,
    cochran_table,
    focus_table,
    guard_table,
    hallucination_rows,
    hallucination_table,
    mcnemar_table,
    missed_table,
    sentinel_table,
)
from srh_clinic.validation.study.analysis.paper import write_paper_tables
from srh_clinic.validation.study.analysis.preference import (
    bradley_terry_table,
    groups_table,
    preference_rows,
    preference_table,
    strata_table,
)
from srh_clinic.validation.study.analysis.raters import (
    agreement_table,
    blinding_table,
    pairs_table,
    raters_table,
    repeats_table,
    sides_table,
    time_table,
)
from srh_clinic.validation.study.analysis.views import ASPECTS, Row, Views, views
from srh_clinic.validation.study.conduct import balance
from srh_clinic.validation.study.unblinding import Unblinded

INTERIM = "INTERIM"

LOOKED = "AFTER AN EARLY LOOK"
"""Before the titles of a study whose key was opened before all returns were in, for good."""

EARLY_COSTS = "looking early makes every p-value smaller than it should be"


def analyse(unblinded: Unblinded, seed: int = 0) -> list[Report]:
    """Everything that a study's answers say, headline first.

    Headline numbers are of real tasks; repeats and sentinels enter only the tables about them. What a study did not ask, or
    ratings do not determine, is left out or a dash with its reason in the table's note. An analysis without all returns
    carries INTERIM at the top of every section, and one after
    an early look says so for good. The same answers and seed give the same numbers.
    """
    sorted_answers = views(unblinded)
    preference = unblinded.protocol.kind == "preference"
    reports = [_headline(unblinded, sorted_answers, seed)] if preference else []
    reports.append(_hallucinations(unblinded, sorted_answers, seed))
    reports.append(_guards(unblinded, sorted_answers, seed))
    reports.append(_raters(unblinded, sorted_answers, seed))
    return reports


def write_analysis(unblinded: Unblinded, out: str | Path, seed: int = 0) -> list[Path]:
    """Write the analysis as ``out/analysis.html``, section by section as Markdown, JSON, CSV and PNG, and for a manuscript.

    All tables are in ``tables.tex`` for LaTeX with booktabs, all numbers in ``tidy.csv``.

    Returns
    -------
    The page first.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    protocol = unblinded.protocol
    reports = analyse(unblinded, seed)
    written = write_reports(
        reports,
        Path(out),
        "analysis",
        _marked(unblinded, f"{protocol.title} ({protocol.study_id})"),
        " ".join(one for one in (_missing(unblinded), protocol.notice) if one),
    )
    written += write_paper_tables(reports, out)
    for earlier in {*Path(out).glob("study_*.*"), *Path(out).glob("figures/study_*.*")} - set(written):
        earlier.unlink()  # of an earlier analysis, which has what this one lacks
    return written


def _headline(unblinded: Unblinded, of: Views, seed: int) -> Report:
    asked = [aspect for aspect in ASPECTS if of.choices(aspect)]
    rows: dict[str, Sequence[Row]] = {aspect: preference_rows(of, aspect, seed) for aspect in asked}
    tables = [preference_table(of, aspect, rows[aspect]) for aspect in asked]
    tables += [bradley_terry_table(of, aspect, seed) for aspect in asked]
    tables += [table for table in (strata_table(of), groups_table(of)) if table is not None]
    figures = []
    if asked:
        figures.append(figure_6(of.protocol.test, rows, hallucination_rows(of), interim=unblinded.interim))
    summary = (
        f"{_extent(unblinded, of)} {of.protocol.test} against {len(of.protocol.baselines)} baselines, both restorations of "
        "the same image side by side, sides at random. Quality and fidelity are two questions."
    )
    return _report(unblinded, "study_preference", "Figure 6: preference", summary, tables, seed, figures)


def _hallucinations(unblinded: Unblinded, of: Views, seed: int) -> Report:
    tables = [hallucination_table(of)]
    figures = []
    if of.protocol.kind == "preference":
        tables += [mcnemar_table(of), cochran_table(of, seed)]
    elif of.sights():
        figures.append(figure_6(of.protocol.test, {}, hallucination_rows(of), interim=unblinded.interim))
    tables += [sentinel_table(of), bounds_table(of)]
    summary = f"{_extent(unblinded, of)} What raters called hallucinated, and how much of what was planted they noticed."
    return _report(unblinded, "study_hallucinations", "Hallucinations", summary, tables, seed, figures)


def _guards(unblinded: Unblinded, of: Views, seed: int) -> Report:
    tables = [table for table in (focus_table(of), guard_table(of), missed_table(of)) if table is not None]
    summary = f"{_extent(unblinded, of)} What raters marked against what the guards had flagged, unseen by the raters."
    return _report(unblinded, "study_guards", "Guards against experts", summary, tables, seed)


def _raters(unblinded: Unblinded, of: Views, seed: int) -> Report:
    tables = [raters_table(of), agreement_table(of), pairs_table(of), repeats_table(of)]
    if of.protocol.kind == "preference":
        tables += [blinding_table(of), sides_table(of)]
    tables.append(time_table(of))
    summary = f"{_extent(unblinded, of)} Every rater, agreement between raters and with themselves, blinding, time."
    return _report(unblinded, "study_raters", "Raters", summary, tables, seed)


def _report(
    unblinded: Unblinded,
    name: str,
    title: str,
    summary: str,
    tables: Sequence[Table],
    seed: int,
    figures: Sequence[Figure] = (),
) -> Report:
    protocol = unblinded.protocol
    made = provenance(
        seed=seed,
        study=protocol.study_id,
        preset=protocol.preset,
        returns=", ".join(f"{rater}: {sha256}" for rater, sha256 in sorted(unblinded.returns.items())) or None,
        notice=protocol.notice or None,
        log=unblinded.log or None,
    )
    summary = " ".join(one for one in (_missing(unblinded), summary) if one)
    return Report(name, _marked(unblinded, title), summary, tuple(tables), made, figures)


def _marked(unblinded: Unblinded, title: str) -> str:
    if unblinded.interim:
        return f"{INTERIM}: {title}"
    return f"{LOOKED}: {title}" if unblinded.early else title


def _missing(unblinded: Unblinded) -> str:
    """What is missing, who dropped out, and whether somebody looked early."""
    said = [f"{rater} dropped out ({when_and_why})." for rater, when_and_why in sorted(unblinded.dropped.items())]
    said += [f"{rater} was added by an amendment ({when_and_why})." for rater, when_and_why in sorted(unblinded.added.items())]
    if said:
        said.append(_balance(unblinded))
    if looks := [] if unblinded.interim else sorted(set(unblinded.early)):
        said.append(f"The key was opened before all returns were in ({', '.join(looks)}): {EARLY_COSTS}.")
    return " ".join([_interim(unblinded), *said]).strip()


def _balance(unblinded: Unblinded) -> str:
    """How even the design still is, by the real tasks that were answered."""
    real = [answer for answer in unblinded.answers if answer.key.kind == "real"]
    return f"Of the design remain {balance([(answer.key, answer.rating.rater_id) for answer in real], unblinded.protocol)}."


def _interim(unblinded: Unblinded) -> str:
    if not unblinded.interim:
        return ""
    raters = [rater.rater_id for rater in unblinded.protocol.raters]
    absent = [rater for rater in raters if rater not in unblinded.returns and rater not in unblinded.dropped]
    missing = f"the returns of {', '.join(absent)} are missing" if absent else "not every task is answered"
    return f"{INTERIM} analysis: {missing}, and {EARLY_COSTS}."


def _extent(unblinded: Unblinded, of: Views) -> str:
    images = len({answer.key.case_id for answer in of.real})
    raters = len({answer.rating.rater_id for answer in of.real})
    return (
        f"{len(of.real)} ratings of {images} images by {raters} of {len(unblinded.protocol.raters)} raters, beside "
        f"{len(of.repeats)} repeats and {len(of.sentinels)} sentinels."
    )
