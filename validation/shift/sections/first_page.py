"""The first page of an accuracy-shift report: the change, the harm, and whom it harms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.validation.reporting.report import Figure
from srh_clinic.validation.shift.harm import TRANSITIONS, harmed, newly_wrong
from srh_clinic.validation.shift.records import Cohort
from srh_clinic.validation.shift.sections.outcomes import bars
from srh_clinic.validation.shift.subgroups import Subgroup

NAMED = 5
"""Cases that a sentence of the first page names; the section on the flow of cases has all."""


@dataclass(frozen=True, eq=False)
class FirstPage:
    """What a reader sees first: rows that took no part, the change, the harm, alarms, and what is missing."""

    left_out: tuple[str, ...]

    sentences: tuple[str, ...]
    numbers: tuple[Mapping[str, str], ...]
    alarms: tuple[str, ...]
    calm: str
    warnings: tuple[str, ...]
    missing: tuple[str, ...]
    figure: Figure


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_page(
    cohort: Cohort, changes: Sequence[Mapping[str, Any]], found: Sequence[Subgroup], missing: Sequence[str]
) -> FirstPage:
    """The change, the harm and whom it harms, in a few sentences; ``changes`` are :func:`change_rows`."""
    rows = dict(zip(OUTCOMES, changes, strict=True))
    correct, nondiagnostic, wrong = rows["correct"], rows["nondiagnostic"], rows["wrong"]
    patients = len(set(cohort.patients.tolist()))
    worse = [case for case in cohort.cases if harmed(case)]
    new = [case for case in worse if newly_wrong(case)]
    tumors = [case for case in new if case.truth == "tumor" and case.after.said == "normal"]
    sentences = (
        f"{_count(len(cohort), cohort.level)} of {_count(patients, 'patient')}, classified as scanned and after restoration.",
        f"{_proportion(correct, 'before')} were correct as scanned and {_proportion(correct, 'after')} restored: "
        f"{_change(correct)}. "
        f"Confidently wrong: {_proportion(wrong, 'before')}, then {_proportion(wrong, 'after')}. "
        f"Non-diagnostic where a diagnosis could be made: {_proportion(nondiagnostic, 'before')}, then "
        f"{_proportion(nondiagnostic, 'after')}.",
        f"{_count(len(worse), cohort.level)} {'is' if len(worse) == 1 else 'are'} worse off: {len(new)} newly and confidently "
        f"wrong, of them {_count(len(tumors), 'tumor')} now called normal, and {len(worse) - len(new)} that lost a correct "
        "diagnosis.",
    )
    could = {transition.name: sum(transition.could(case) for case in cohort.cases) for transition in TRANSITIONS}
    numbers = (
        {
            "value": _change(correct, short=True),
            "says": "change in accuracy, in points (95% interval over patients)",
        },
        {"value": f"{len(new)} of {len(cohort)}", "says": "newly and confidently wrong"},
        {
            "value": f"{sum(c.outcome_before == 'nondiagnostic' for c in new)} of {could['non-diagnostic → wrong']}",
            "says": "non-diagnostic as scanned and now wrong, which a test of accuracy hides",
        },
        {
            "value": f"{len(tumors)} of {could['tumor not called normal → normal']}",
            "says": "tumors that were not called normal and now are",
        },
    )
    alarms = [f"{one.name} ({one.cases} {cohort.level}s, {one.patients} patients): {one.alarm}." for one in found if one.alarm]
    if isinstance(correct["change"], Interval) and correct["change"].high < 0:
        alarms.insert(0, f"All {cohort.level}s: accuracy falls, {_change(correct)}.")
    if isinstance(wrong["change"], Interval) and wrong["change"].low > 0:
        alarms.insert(0, f"All {cohort.level}s: more are confidently wrong than as scanned.")
    calm = (
        "No subgroup is harmed beyond chance by the screen of the section Subgroups; it can see only what the manifest names, "
        "and in small subgroups only large harm."
    )
    return FirstPage(
        _left_out(cohort), sentences, numbers, tuple(alarms), calm, cohort.warnings, tuple(missing), bars(cohort, "first")
    )


def _left_out(cohort: Cohort) -> tuple[str, ...]:
    """Which rows of the manifest took no part, a sentence for each reason."""
    cases: dict[str, list[str]] = defaultdict(list)
    for one in cohort.excluded:
        cases[one.why].append(one.case)
    rows = len(cohort.excluded) + len(cohort)
    return tuple(
        f"{len(names)} of {rows} rows take no part: {why} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})."
        for why, names in cases.items()
    )


def _proportion(row: Mapping[str, Any], when: str) -> str:
    return f"{row[f'{when}_share']:.1%}"


def _change(row: Mapping[str, Any], *, short: bool = False) -> str:
    found = row["change"]
    if isinstance(found, Undefined):
        points = f"{100 * (row['after_share'] - row['before_share']):+.1f}"
        return points if short else f"a change of {points} points, without an interval because {found.why}"
    points = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return points if short else f"a change of {points} points"
