"""What is told of a run: its results as a table, its state, metrics for Prometheus, and a log.

Metrics and log call a case by its name in the ledger, which says nothing of whose it is, and give reasons in one word of ours:
no path, no identifier, no library's sentence stands there. The table and ``why`` are for whoever has the cases anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from srh_clinic.case.record import CaseRecord, read_result
from srh_clinic.cohort.cases import Listed, Shard
from srh_clinic.cohort.ledger import BEAT, STATES, Entry, Ledger, Move, count_states
from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.escaping import csv_text
from srh_clinic.files import append_lines, write_whole

SAID = ("diagnosis", *CLASSES, "support")
COLUMNS = (
    *("case", "name", "state", *SAID, *(f"before_{column}" for column in SAID), "policy"),
    *("steps_median", "steps_largest", "tiles", "restored", "capped", "flagged"),
    *("doubts", "warnings", "pixels_sha256", "reason"),
)
"""Of the table of results."""


def results_rows(cases: Sequence[Listed], entries: Iterable[Entry], results: Path) -> list[tuple[Any, ...]]:
    """A row of :data:`COLUMNS` for each case, in their order; nothing in it tells when or by whom it was done.

    Parameters
    ----------
    results
        Folder with a result's folder for each case that is done.
    """
    known = {entry.name: entry for entry in entries}
    return [_row(case, known[case.name], results) for case in cases]


def _row(case: Listed, entry: Entry, results: Path) -> tuple[Any, ...]:
    first = (case.title, case.name, entry.state)
    record = None
    if entry.state == "done":
        try:
            record = read_result(results / case.name)
        except InputError as error:
            return (*first, *[""] * (len(COLUMNS) - len(first) - 1), str(error))
    if record is None:
        reason = entry.why if entry.state == "parked" else entry.kind if entry.state == "failed" else ""
        return (*first, *[""] * (len(COLUMNS) - len(first) - 1), reason)
    return (*first, *_numbers(record), entry.pixels, "")


def _numbers(record: CaseRecord) -> tuple[Any, ...]:
    codes = [";".join(flag.partition(":")[0] for flag in flags) for flags in (record.doubts, record.warnings)]
    said = [
        (one.diagnosis, *(getattr(one.probabilities, name) for name in CLASSES), one.support)
        for one in (record, record.before)
    ]
    policy = "" if record.decision is None else record.decision.diagnosis
    tiles = (record.tiles.total, record.tiles.restored, record.tiles.capped, record.trust.flagged)
    return (*said[0], *said[1], policy, record.steps.median, record.steps.largest, *tiles, *codes)


def write_results(cases: Sequence[Listed], shard: Shard, entries: Iterable[Entry], out: Path, results: Path) -> Path | None:
    """Write the table of a shard's cases and, when those of all shards are there, that of all ``cases``.

    Returns
    -------
    The table of all cases; None while one is missing.
    """
    own = [case for case in cases if case in shard]
    write_whole(_table(out, shard), csv_text([COLUMNS, *results_rows(own, entries, results)]), "the results")
    if shard.of == 1:
        return _table(out, shard)
    lines: dict[str, str] = {}
    for number in range(1, shard.of + 1):
        try:
            text = _table(out, Shard(number, shard.of)).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        part = [case for case in cases if case in Shard(number, shard.of)]
        rows = _records(text)[1:]
        if len(rows) != len(part):
            return None  # of other cases: that shard has yet to be done for these
        lines |= {case.name: row for case, row in zip(part, rows, strict=True)}
    table = _table(out, Shard())
    write_whole(table, csv_text([COLUMNS]) + "".join(lines[case.name] for case in cases), "the results")
    return table


def _table(out: Path, shard: Shard) -> Path:
    return out / f"results{shard.suffix}.csv"


def _records(text: str) -> list[str]:
    """The records of a CSV as they are written; a cell in quotes may hold line ends."""
    records, begun = [], ""
    for line in text.splitlines(keepends=True):
        begun += line
        if begun.count('"') % 2 == 0:
            records.append(begun)
            begun = ""
    return records


def status_record(entries: Sequence[Entry], settings: str, deliveries: Mapping[str, int]) -> dict[str, Any]:
    """What ``status --json`` prints: cases by state, and of each what the ledger says, without its files and reasons.

    ``deliveries`` are those of :func:`~srh_clinic.cohort.deliveries.count_deliveries`.
    """
    return {
        "counts": count_states(entries),
        "deliveries": dict(deliveries),
        "settings": settings,
        "cases": [
            {
                "name": entry.name,
                "state": entry.state,
                "reason": entry.kind,
                "stage": entry.stage,
                "attempts": entry.attempts,
                "seconds": round(entry.seconds, 3),
                "changed": moment(entry.changed),
                "pixels_sha256": entry.pixels,
                "outputs_sha256": entry.outputs,
            }
            for entry in entries
        ],
    }


def health_of(ledger: Ledger) -> tuple[bool, str]:
    """Whether all is well with a run, and a sentence: somebody watches over the cases that are open, or over a door.

    Cases that are parked or failed are no illness: they wait for a person, see :func:`metrics_text`.
    """
    counts, _ = ledger.overview()
    what, watched = ledger.watched(STILL)
    still_open = counts["waiting"] + counts["running"]
    told = f"{counts['waiting']} cases wait, {counts['running']} are in hand"
    if watched:
        return True, f"healthy: {told}"
    if what == "listens":
        return False, f"nobody listens: {told}"
    return not still_open, f"nobody works: {told}" if still_open else "healthy: every case is at an end"


STILL = 4 * BEAT
"""Seconds after which one who has said nothing does not watch any more."""


def metrics_text(entries: Sequence[Entry], deliveries: Mapping[str, int], workers: int | None = None) -> str:
    """The state of a run in the text format of Prometheus; ``workers`` are those that live, where it is known.

    ``deliveries`` are those of :func:`~srh_clinic.cohort.deliveries.count_deliveries`.
    """
    counts, done = count_states(entries), [entry.seconds for entry in entries if entry.state == "done"]
    by_state = [f'{{state="{state}"}} {counts[state]}' for state in STATES]
    changed = max((entry.changed for entry in entries), default=0.0)
    lines = [
        *_metric("cases", "gauge", "Cases by state.", *by_state),
        *_metric("attempts_total", "counter", "Times that a case was begun.", f" {sum(entry.attempts for entry in entries)}"),
        *_metric(
            *("case_seconds", "summary", "Seconds of the attempts that finished a case."),
            *(f"_sum {sum(done):.3f}", f"_count {len(done)}"),
        ),
        *_metric(
            *("deliveries", "gauge", "Results on their way to a PACS by state."),
            *(f'{{state="{state}"}} {number}' for state, number in deliveries.items()),
        ),
        *_metric("last_move_timestamp_seconds", "gauge", "When a case last changed its state.", f" {changed:.3f}"),
        *(() if workers is None else _metric("workers", "gauge", "Worker processes that live.", f" {workers}")),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, help_text: str, *values: str) -> list[str]:
    name = f"srh_clinic_{name}"
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *(f"{name}{value}" for value in values)]


def log_lines(moves: Iterable[Move]) -> str:
    """Moves of cases as JSON, one a line."""
    return "".join(
        json.dumps(
            {
                "at": moment(move.at),
                "case": move.name,
                "from": move.was,
                "to": move.state,
                "attempt": move.attempt,
                "reason": move.kind,
                "seconds": round(move.seconds, 3),
            }
        )
        + "\n"
        for move in moves
    )


def append_log(file: Path, ledger: Ledger) -> None:
    """Append what has happened since the log was last written, by any run; a line may come twice, none is lost.

    Raises
    ------
    InputError
        When the log cannot be written.
    """
    moves = ledger.history(after=ledger.logged())
    if not moves:
        return
    try:
        append_lines(file, log_lines(moves))
    except OSError as error:
        raise InputError(error.strerror or str(error), "a log that can be written", file) from error
    ledger.log_up_to(moves[-1].number)


def moment(seconds: float) -> str:
    """A time of the ledger, ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
