"""Returns: what a rater's viewer exports, and whether it is all there and as it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from srh_clinic.errors import InputError, first_fault
from srh_clinic.files import parsed_json
from srh_clinic.validation.study.records import Closing, Rating, canonical, first_hash, line_hash

RECEIPT = 8
"""Hexadecimal digits of the last line's hash that the viewer shows when a rater has finished."""


@dataclass(frozen=True)
class Return:
    """What came back from one rater, in the order of the answers.

    ``sha256`` is that of the file, ``receipt`` the code that the viewer showed at the end.
    """

    rater_id: str
    ratings: tuple[Rating, ...]
    closed: bool
    sha256: str
    receipt: str


def read_return(path: str | Path, study_id: str, secret: str = "") -> Return:
    """Read a return and verify its chain of hashes.

    Each line carries the hash of the line before it, so a line that was changed, taken out, put in or moved is found, and so
    is an end that is missing, since a finished return ends with a closing line. What mail and editors do to a file, a byte
    order mark and lines that end as on Windows or on old Macs, changes no line.

    Parameters
    ----------
    secret
        Of the page that it has to come from; empty in studies of earlier versions.

    Raises
    ------
    InputError
        When the file cannot be read, is of another study or page, or a line is not as the viewer wrote it; the message names
        the line.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        lines = text.rstrip("\n").split("\n") if text.strip() else []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a file that is not readable text ({error})", "a return as the viewer exports it", path) from error
    records: list[Rating | Closing] = []
    expected = ""
    for number, line in enumerate(lines, start=1):
        record = _record(line, number, path)
        if record.study_id != study_id:
            raise InputError(f"a return of the study {record.study_id}", f"one of {study_id}", path)
        if number == 1:
            expected = first_hash(study_id, record.rater_id, secret)
        elif record.rater_id != records[0].rater_id:
            raise InputError(
                f"answers of {record.rater_id} among those of {records[0].rater_id}", "the return of one rater", path
            )
        if record.prev_hash != expected:
            before = f"line {number - 1}"
            if number == 1:
                before = "the file's beginning"
                before += f" (lines are missing, or another page than that of {record.rater_id} wrote them)" if secret else ""
            raise InputError(f"line {number}, which does not follow {before}", "the lines as the viewer wrote them", path)
        if records and isinstance(records[-1], Closing):
            raise InputError(f"line {number} after the closing line", "the lines as the viewer wrote them", path)
        records.append(record)
        expected = line_hash(line, secret)
    if not records:
        raise InputError("no answers", "a return as the viewer exports it", path)
    ratings = tuple(record for record in records if isinstance(record, Rating))
    last = records[-1]
    if isinstance(last, Closing) and last.ratings != len(ratings):
        raise InputError(f"{len(ratings)} ratings", f"{last.ratings}, as its closing line states", path)
    closed = isinstance(last, Closing)
    return Return(last.rater_id, ratings, closed, hashlib.sha256(content).hexdigest(), expected[:RECEIPT])


def require_whole(returned: Return, tasks: Collection[str], path: str | Path) -> None:
    """Refuse a return that does not answer each of a rater's tasks once.

    Raises
    ------
    InputError
        With what is missing, answered twice, or not a task of this rater.
    """
    answered = [rating.task_id for rating in returned.ratings]
    twice = {task for task in answered if answered.count(task) > 1}
    foreign = set(answered) - set(tasks)
    missing = set(tasks) - set(answered)
    if twice or foreign:
        what = f"{len(twice)} tasks answered twice" if twice else f"answers to {len(foreign)} tasks of another rater"
        raise InputError(what, f"one answer to each task of {returned.rater_id}", path)
    if missing or not returned.closed:
        found = f"{len(answered)} of {len(tasks)} tasks answered" + ("" if returned.closed else " and no closing line")
        raise InputError(found, f"the finished return of {returned.rater_id}", path)


def write_return(
    ratings: Collection[Mapping[str, object]], study_id: str, rater_id: str, secret: str = "", *, closed: bool = True
) -> str:
    """A return as the viewer writes it: ratings without ``prev_hash``, as lines that are chained, closed when complete."""
    previous, lines = first_hash(study_id, rater_id, secret), []
    named = {"study_id": study_id, "rater_id": rater_id}
    rows = [{"record": "rating", "schema_version": 1, **rating} for rating in ratings]
    if closed:
        rows.append({"record": "closing", "ratings": len(rows)})
    for row in rows:
        lines.append(canonical({**row, **named, "prev_hash": previous}).decode())
        previous = line_hash(lines[-1], secret)
    return "".join(f"{line}\n" for line in lines)


def _record(line: str, number: int, path: Path) -> Rating | Closing:
    model = Closing if '"record":"closing"' in line else Rating
    try:
        parsed_json(line, _each_once)
        return model.model_validate_json(line, strict=True)  # true is no 1
    except ValueError as error:  # pydantic's ValidationError is one
        why = first_fault(error) if isinstance(error, ValidationError) else error
        raise InputError(
            f"line {number}, which is not an answer ({why})", "a return as the viewer exports it", path
        ) from error


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a name that is there twice, of which a reader of JSON takes the last without a word."""
    named = dict(pairs)
    if len(named) < len(pairs):
        raise json.JSONDecodeError("a question answered twice", "", 0)
    return named
