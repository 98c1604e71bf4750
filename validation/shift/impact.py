"""What a change of the model changes: the same cases under the previous bundle and the new one, as a page.

The three parts are those of a predetermined change control plan (FDA 2024): what is changed, how the change is evaluated,
and its impact. What only the manufacturer can say of them is left to him, and named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srh_clinic.diagnosis import CLASSES
from srh_clinic.files import write_whole
from srh_clinic.validation.reporting.page import page
from srh_clinic.validation.reporting.report import Column, Section, Table, plain
from srh_clinic.validation.shift.records import Cohort, ShiftCase
from srh_clinic.validation.shift.sections.outcomes import change_rows, harm, outcomes, subgroups, transitions
from srh_clinic.validation.shift.subgroups import screen

if TYPE_CHECKING:
    from srh_clinic.validation.shift.running import Run

TITLE = "What does the change of the model change?"

PREVIOUS, NEW = "previous", "new"

WORDS = {"as scanned": "previous", "As scanned": "Previous", "restored": "new", "Restored": "New", "restoration": "the change"}
"""Words of the shift report's sections, whose before is here the previous model and whose after the new one."""


def write_impact(previous: Run, new: Run, manifest_sha256: str, out: Path, seed: int) -> list[Path]:
    """Write ``impact.html`` and ``impact.json``: who changes class, net harm, subgroups and drift, both restored.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    sections = impact_sections(previous, new, manifest_sha256, seed)
    numbers = {
        section.name: {
            "text": list(section.text),
            "tables": {table.title: [plain(row) for row in table.rows] for table in section.tables},
        }
        for section in sections
    }
    notice = str(new.provenance.get("notice", ""))
    content = json.dumps(numbers, indent=2, allow_nan=False, default=str) + "\n"
    return [
        write_whole(out / "impact.html", page(sections, TITLE, notice)),
        write_whole(out / "impact.json", content),
    ]


def impact_sections(previous: Run, new: Run, manifest_sha256: str, seed: int) -> list[Section]:
    """The page's sections; its cohort are the cases that both models could read, before the change and after it."""
    cohort = changed(previous.slides, new.slides)
    found = [outcomes(cohort, change_rows(cohort, seed)), transitions(cohort), harm(cohort, seed)]
    found.append(subgroups(screen(cohort, seed)))
    return [
        _description(previous, new),
        _protocol(cohort, manifest_sha256, seed),
        _impact(cohort),
        *(_renamed(section) for section in found),
        _drift(previous.slides, new.slides),
    ]


def changed(previous: Cohort, new: Cohort) -> Cohort:
    """The cases of both: before is what the previous model says restored, after what the new one does."""
    was = {case.case: case.after for case in previous.cases}
    return Cohort(tuple(replace(case, before=was[case.case]) for case in new.cases if case.case in was), new.level)


SETTING = "setting "
"""Before the name of a setting, which is told where it differs."""


def _description(previous: Run, new: Run) -> Section:
    stated = {when: _stated(run) for when, run in ((PREVIOUS, previous), (NEW, new))}
    keys = [key for key in {*stated[NEW], *stated[PREVIOUS]} if not key.startswith(SETTING) or _differs(stated, key)]
    rows = [{"what": key, **{when: said.get(key, "") for when, said in stated.items()}} for key in keys]
    columns = (Column("what", ""), Column(PREVIOUS, "Previous"), Column(NEW, "New"))
    same = previous.provenance.get("weights_sha256") == new.provenance.get("weights_sha256")
    text = [
        f"The weights {'are the same' if same else 'differ'}; {_settings(stated)}.",
        "Why it is changed is for the manufacturer to say.",
    ]
    return Section("modification", "1. Description of the modification", text, [Table("Bundles", columns, rows)])


def _stated(run: Run) -> dict[str, str]:
    """What a run says of its model, in words: first what is always told, then each setting."""
    changes: Mapping[str, str] = run.metadata.get("changelog", {})
    settings: Mapping[str, Any] = run.provenance.get("settings", {})
    return {
        "bundle": str(run.provenance.get("bundle", "")),
        "version of the bundle": str(run.metadata.get("version", "")),
        "weights_sha256": str(run.provenance.get("weights_sha256", "")),
        "changelog": "; ".join(f"{version}: {said}" for version, said in changes.items()),
        "srh-clinic": str(run.provenance.get("version", "")),
        **{f"{SETTING}{name}": str(value) for name, value in settings.items()},
    }


def _settings(stated: Mapping[str, Mapping[str, str]]) -> str:
    differ = any(_differs(stated, key) for key in {*stated[NEW], *stated[PREVIOUS]} if key.startswith(SETTING))
    return "settings differ" if differ else "the settings are the same"


def _differs(stated: Mapping[str, Mapping[str, str]], key: str) -> bool:
    return stated[PREVIOUS].get(key) != stated[NEW].get(key)


def _protocol(cohort: Cohort, manifest_sha256: str, seed: int) -> Section:
    patients = len(set(cohort.patients.tolist()))
    text = [
        f"Both models restored and classified the same {len(cohort)} cases of {patients} patients (manifest "
        f"{manifest_sha256}), under seed {seed}. Outcomes are compared within cases, with intervals over patients; subgroups "
        "by the screen of the shift report, with Holm's correction.",
        "How it was trained is in the bundles' model cards. Criteria of acceptance, the way to users and back, and who is "
        "told are for the manufacturer to state before he looks.",
    ]
    return Section("protocol", "2. Modification protocol", text)


def _impact(cohort: Cohort) -> Section:
    """Net harm, and who changes class."""
    was, now = (np.array([getattr(case, f"outcome_{when}") for case in cohort.cases]) for when in ("before", "after"))
    newly, no_longer = int(((was != "wrong") & (now == "wrong")).sum()), int(((was == "wrong") & (now != "wrong")).sum())
    moved = [case for case in cohort.cases if case.before.said != case.after.said]
    text = [
        f"{len(moved)} of {len(cohort)} cases change class. {newly} are newly wrong and {no_longer} no longer: a net harm of "
        f"{newly - no_longer:+d} cases."
    ]
    rows = [
        {"case": case.case, "patient": case.patient, "truth": case.truth, PREVIOUS: case.before.said, NEW: case.after.said}
        for case in sorted(moved, key=lambda one: (one.outcome_after != "wrong", CLASSES.index(one.truth), one.case))
    ]
    columns = tuple(Column(key, key.capitalize()) for key in ("case", "patient", "truth", PREVIOUS, NEW))
    moved_tables = [Table("Who changes class, newly wrong ones first", columns, rows)] if rows else []
    return Section("impact", "3. Impact assessment", text, moved_tables)


def _drift(previous: Cohort, new: Cohort) -> Section:
    """What the networks ask for and how sure they are, before the change and after it."""
    quantities: Mapping[str, Callable[[ShiftCase], float | None]] = {
        "Steps asked for, median of the slides": lambda case: case.steps_predicted,
        "Certainty of what is said, median": lambda case: case.after.certainty,
        "The guards' strongest word, median": lambda case: case.trust,
    }
    rows = []
    for name, value in quantities.items():
        row: dict[str, Any] = {"what": name}
        for when, cohort in ((PREVIOUS, previous), (NEW, new)):
            found = [one for one in map(value, cohort.cases) if one is not None]
            row[when] = float(np.median(found)) if found else None
        rows.append(row)
    columns = (Column("what", ""), Column(PREVIOUS, "Previous", ".3g"), Column(NEW, "New", ".3g"))
    note = "A reference for diagnose --reference holds for the weights that made it: write it anew with this validation."
    return Section("drift", "Drift", tables=[Table("What the networks ask for and say", columns, rows, note)])


def _renamed(section: Section) -> Section:
    """A section of the shift report in the words of this page, without its plots, which say as scanned and restored."""
    tables = [
        replace(
            table,
            title=_words(table.title),
            note="",
            columns=tuple(replace(column, title=_words(column.title)) for column in table.columns),
        )
        for table in section.tables
    ]
    return replace(section, tables=tables, figures=(), text=())


def _words(text: str) -> str:
    for word, ours in WORDS.items():
        text = text.replace(word, ours)
    return text
