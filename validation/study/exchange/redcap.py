"""The questions of a study as a REDCap instrument, and the answers that a REDCap project exports.

Formats: REDCap's data dictionary, a CSV of 18 columns, and its data import and export template (REDCap, "Data Dictionary
Tutorial" and "Help & FAQ"; Harris et al., J Biomed Inform 2009). The images are seen in the viewer; REDCap takes the answers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.validation.study.exchange.answers import answer_row, one_rater
from srh_clinic.validation.study.questions import WORDING, wording
from srh_clinic.validation.study.records import CATEGORIES, SEVERITIES, Question, Rating, Region, Task

COLUMNS = (
    "Variable / Field Name",
    "Form Name",
    "Section Header",
    "Field Type",
    "Field Label",
    "Choices, Calculations, OR Slider Labels",
    "Field Note",
    "Text Validation Type OR Show Slider Number",
    "Text Validation Min",
    "Text Validation Max",
    "Identifier?",
    "Branching Logic (Show field only if...)",
    "Required Field?",
    "Custom Alignment",
    "Question Number (surveys only)",
    "Matrix Group Name",
    "Matrix Ranking?",
    "Field Annotation",
)
"""Of the data dictionary, in REDCap's order."""

SEPARATORS = (",", ";", "\t", "|", "^")
"""Between the cells of an export; REDCap asks which."""

INSTRUMENT = "rating"
COMPLETE = f"{INSTRUMENT}_complete"
"""REDCap's own field: 0 incomplete, 1 unverified, 2 complete."""

EXPORT = "a CSV data export of the REDCap project (raw or labels)"

EARLIER_LABELS = {
    "Which image is more faithful to the low-quality one?": "pref_fidelity",
    "How confident are you (1 guess, 5 certain)?": "confidence",
    "Does A show structure that the low-quality image does not support?": "halluc_a",
    WORDING["halluc_A"].text: "halluc_a",  # a review asked so before it asked of its frame
    "Does B show structure that the low-quality image does not support?": "halluc_b",
    "Which side do you take for the new method?": "method_guess",
}
"""Labels of the instrument as it was written before; projects that were made with it are still read."""

REGION = "SIDE box LEFT,TOP,RIGHT,BOTTOM CATEGORY SEVERITY or SIDE point X,Y CATEGORY SEVERITY, with a semicolon between two"

_NUMBER = r"\d+(?:\.\d+)?"
_REGION = re.compile(
    rf"(?P<side>[AB]) (?P<shape>box|point) (?P<xy>{_NUMBER}(?:,{_NUMBER})*) "
    rf"(?P<category>{'|'.join(map(re.escape, CATEGORIES))}) (?P<severity>{'|'.join(SEVERITIES)})"
)
_TIME = "%Y-%m-%d %H:%M:%S"


def redcap_export(tasks: Sequence[Task], out: Path, ratings: Sequence[Rating] = ()) -> tuple[Path, Path]:
    """Write the instrument as ``dictionary.csv`` and its records as ``data.csv``.

    A record is one task of one rater, its ``record_id`` ``RATER-NUMBER``. Categorical fields are radio buttons with the
    codes of :data:`~srh_clinic.validation.study.questions.WORDING`; regions are marked as text (see :func:`regions_text`),
    asked for where a hallucination is possible or definite. The time of showing is that at which the form is first opened
    (``@NOW-UTC``).

    Parameters
    ----------
    tasks
        Tasks of one or more raters, with the same questions.
    out
        The folder.
    ratings
        Answers to put into the data; a task without one is a template, to be answered in REDCap.

    Returns
    -------
    tuple of Path
        ``dictionary.csv`` and ``data.csv``.

    Raises
    ------
    InputError
        When there is no task, or tasks ask different questions.
    """
    questions = {task.questions for task in tasks}
    if len(questions) != 1:
        raise InputError(f"tasks with {len(questions)} sets of questions", "tasks of one kind")
    fields = _fields(tasks[0])
    dictionary = [{**dict.fromkeys(COLUMNS, ""), **field} for field in fields]
    answered = {rating.task_id: rating for rating in ratings}
    names = [field[COLUMNS[0]] for field in fields]
    data = [
        {"record_id": record_id(task), "task_number": task.seq, **_filled(task, answered.get(task.task_id))}
        for task in sorted(tasks, key=lambda task: (task.rater_id, task.seq))
    ]
    return (
        write_whole(out / "dictionary.csv", _csv(COLUMNS, dictionary)),
        write_whole(out / "data.csv", _csv([*names, COMPLETE], data)),
    )


def redcap_import(path: Path, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Read one rater's answers from a CSV data export, in the order of the tasks.

    Raw codes and labels are both understood, in the header and in the cells. Records of other raters and columns that are not
    of the instrument are passed over. REDCap keeps no time of the answer, so it repeats the time of showing.

    Parameters
    ----------
    path
        The export.
    tasks
        The tasks of this rater.

    Returns
    -------
    list of dict
        Ratings without the fields of the study and the chain: what
        :func:`~srh_clinic.validation.study.returns.write_return` takes.

    Raises
    ------
    InputError
        When the file is no such export, or a task is not answered, not answered in full, answered twice or not of this
        rater; the message names the task's number.
    """
    rater_id = one_rater(tasks)
    by_record = {record_id(task): task for task in tasks}
    records: dict[str, dict[str, str]] = {}
    for row in _rows(path, tasks[0]):
        record = row["record_id"]
        if record.rpartition("-")[0] != rater_id:
            continue
        if record not in by_record:
            raise InputError(
                f"a record {record}, which is not a task of {rater_id}", f"records of the rater's {len(tasks)} tasks", path
            )
        if record in records:
            raise InputError(f"task number {by_record[record].seq} twice", "each task once", path)
        records[record] = row
    rows = []
    for task in sorted(tasks, key=lambda task: task.seq):
        if record_id(task) not in records:
            raise InputError(f"no answer to task number {task.seq}", f"an answer to each of {len(tasks)} tasks", path)
        rows.append(_row(task, records[record_id(task)], path))
    return rows


def record_id(task: Task) -> str:
    """The record that takes a task's answers: ``RATER-NUMBER``."""
    return f"{task.rater_id}-{task.seq}"


def regions_text(regions: Sequence[Region]) -> str:
    """Regions as a rater writes them: ``A box 10,20,30,40 added nucleus minor; B point 5,6 other major``, in px."""
    return "; ".join(f"{one.side} {one.shape} {_numbers(one.xy)} {one.category} {one.severity}" for one in regions)


def _numbers(xy: Sequence[float]) -> str:
    return ",".join(format(round(number, 3), ".10g") for number in xy)


SET = "not by the rater:"
"""Before REDCap's tags, which it finds anywhere in an annotation: a cell that begins with @ is a spreadsheet's formula."""


def _fields(task: Task) -> list[dict[str, str]]:
    """Rows of the dictionary; a column that a row does not have is empty."""
    fields = [
        _field("record_id", "text", "Record"),
        _field("task_number", "text", "Task", {COLUMNS[7]: "integer", COLUMNS[8]: "0", COLUMNS[17]: f"{SET} @READONLY"}),
        _field(
            "t_shown", "text", "Shown (UTC)", {COLUMNS[7]: "datetime_seconds_ymd", COLUMNS[17]: f"{SET} @NOW-UTC @READONLY"}
        ),
    ]
    for question in task.questions:
        asked = wording(task.kind, question)
        choices = " | ".join(f"{choice.code}, {choice.label}" for choice in asked.choices)
        fields.append(_field(question.lower(), "radio", asked.text, {COLUMNS[5]: choices, COLUMNS[12]: "y"}))
    seen = [
        f"[{question.lower()}] <> '' and [{question.lower()}] <> '1'" for question in task.questions if "halluc" in question
    ]
    branching = {COLUMNS[11]: " or ".join(f"({one})" for one in seen)} if seen else {}
    fields.append(_field("regions", "notes", "Regions", {COLUMNS[6]: f"{REGION}; px", **branching}))
    fields.append(_field("comment", "notes", "Comment"))
    return fields


def _field(name: str, kind: str, label: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {COLUMNS[0]: name, COLUMNS[1]: INSTRUMENT, COLUMNS[3]: kind, COLUMNS[4]: label, **(more or {})}


def _filled(task: Task, rating: Rating | None) -> dict[str, object]:
    if rating is None:
        return {COMPLETE: 0}
    answers = {
        question.lower(): WORDING[question].code_of(getattr(rating, question))
        for question in task.questions
        if getattr(rating, question) is not None
    }
    shown = datetime.fromtimestamp(rating.t_shown / 1000, UTC).strftime(_TIME)
    return {**answers, "t_shown": shown, "regions": regions_text(rating.regions), "comment": rating.comment, COMPLETE: 2}


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _separator(text: str) -> str:
    """Of the separators that REDCap offers the one that is most often in the header; a comma where there is none."""
    header = text.partition("\n")[0]
    return max(SEPARATORS, key=header.count)


def _rows(path: Path, task: Task) -> list[dict[str, str]]:
    """Rows by variable, whether the header has variables or labels."""
    try:
        # An export may start with a byte order mark, for Excel.
        text = path.read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text)))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"a file that is not readable CSV ({error})", EXPORT, path) from error
    header, *rows = [line for line in lines if line] or [[]]
    fields = _fields(task)
    variables = {**EARLIER_LABELS, **{field[COLUMNS[4]]: field[COLUMNS[0]] for field in fields}}
    named = [variables.get(column.strip(), column.strip()) for column in header]
    twice = sorted({name for name in named if named.count(name) > 1 and name in {field[COLUMNS[0]] for field in fields}})
    if twice:
        raise InputError(f"two columns {twice[0]}", "each column once", path)
    if len(named) == 1:
        found = f"a header of one column ({named[0][:40]!r})"
        raise InputError(found, f"{EXPORT}, columns separated by {' '.join(map(repr, SEPARATORS))}", path)
    for field in fields:
        if field[COLUMNS[0]] not in named:
            raise InputError(f"no column {field[COLUMNS[0]]}", EXPORT, path)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{len(row)} cells in row {number}", f"{len(header)}, as in the header", path)
    return [dict(zip(named, row, strict=True)) for row in rows]


def _row(task: Task, cells: Mapping[str, str], path: Path) -> dict[str, Any]:
    answers: dict[Question, str] = {}
    for question in task.questions:
        if cell := cells[question.lower()].strip():
            codes = {str(choice.code): str(choice.value) for choice in WORDING[question].choices}
            answers[question] = codes.get(cell) or WORDING[question].value_of(cell)
    shown = _milliseconds(cells["t_shown"].strip(), task, path)
    return answer_row(
        task,
        answers,
        _regions(cells["regions"], task, path),
        comment=cells["comment"],
        t_shown=shown,
        t_answered=shown,
        path=path,
    )


def _regions(text: str, task: Task, path: Path) -> list[dict[str, Any]]:
    regions = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _REGION.fullmatch(" ".join(part.split()))
        xy = [float(number) for number in match["xy"].split(",")] if match else []
        if match is None or len(xy) != (2 if match["shape"] == "point" else 4):
            raise InputError(f"a region {part!r} in task number {task.seq}", REGION, path)
        parts = {name: match[name] for name in ("side", "shape", "category", "severity")}
        regions.append({**parts, "xy": xy})
    return regions


def _milliseconds(cell: str, task: Task, path: Path) -> int:
    try:
        shown = datetime.fromisoformat(cell)
    except ValueError as error:
        found = f"t_shown {cell!r} in task number {task.seq}"
        raise InputError(found, "a date and time as REDCap exports them, YYYY-MM-DD HH:MM:SS", path) from error
    return round(1000 * shown.replace(tzinfo=UTC).timestamp())
