"""Unblinding: the commitment, the returns, and what was asked of whom, together for the first time."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of, write_whole
from srh_clinic.validation.study.folder import commitment, read_protocol, read_secrets, read_viewers
from srh_clinic.validation.study.records import KeyEntry, Rating, StudyProtocol, Task, canonical
from srh_clinic.validation.study.returns import Return, read_return, require_whole

UNBLINDED = "unblinded.json"
LOG = "unblinding.log"

REHEARSAL = "REHEARSAL.txt"
"""Lies among returns that simulated raters wrote."""


@dataclass(frozen=True)
class Answer:
    """A rating and what it was of."""

    task: Task
    key: KeyEntry
    rating: Rating


@dataclass(frozen=True)
class Unblinded:
    """A study with its sealed key opened.

    ``returns`` maps raters to the SHA-256 of their returns; ``interim`` says that some are missing.
    """

    protocol: StudyProtocol
    answers: tuple[Answer, ...]
    returns: Mapping[str, str]
    interim: bool = False


def unblind(study: str | Path, *, interim: bool = False, receipts: Mapping[str, str] | None = None) -> Unblinded:
    """Open the sealed key of a study whose returns are in, and put answers and key together.

    Verified are: each return's chain of hashes and that it answers each task of its rater once, the code that a rater's
    viewer showed at the end where it is given in ``receipts``, and that key and protocol are those that the export committed
    to. Only then is the key read. What is unblinded is kept in ``unblinded.json`` and each opening in ``unblinding.log``.

    Parameters
    ----------
    interim
        Go on although returns are missing or unfinished; it is logged, and every result is marked.

    Raises
    ------
    InputError
        When a return is missing, unfinished or not as it was written, or the key is not the one committed to.
    """
    study = Path(study)
    protocol, sha256 = read_protocol(study)
    returns = _returns(study, protocol, interim, receipts or {})
    tasks = {task.task_id: task for _, mine in read_viewers(study, protocol).values() for task in mine}
    for rater, returned in returns.items():
        mine = [task_id for task_id, task in tasks.items() if task.rater_id == rater]
        if not interim:
            require_whole(returned, mine, _path(study, rater))
        elif foreign := {rating.task_id for rating in returned.ratings} - set(mine):
            raise InputError(
                f"answers to {len(foreign)} tasks of another rater", f"answers to the tasks of {rater}", _path(study, rater)
            )
    key = _key(study, protocol, sha256)
    if (study / "returned" / REHEARSAL).is_file():
        said = f"REHEARSAL with simulated raters: nothing here was measured. {protocol.notice}"
        protocol = protocol.model_copy(update={"title": f"REHEARSAL: {protocol.title}", "notice": said})
    answers = tuple(
        Answer(tasks[rating.task_id], key[rating.task_id], rating) for one in returns.values() for rating in one.ratings
    )
    partial = set(returns) < {rater.rater_id for rater in protocol.raters} or any(not one.closed for one in returns.values())
    hashes = {rater: returned.sha256 for rater, returned in returns.items()}
    opened = Unblinded(protocol, answers, hashes, partial)
    _keep(study, opened)
    return opened


def load_unblinded(study: str | Path) -> Unblinded:
    """What :func:`unblind` has kept.

    Raises
    ------
    InputError
        When the study was not unblinded, or a return was changed since.
    """
    study = Path(study)
    path = study / UNBLINDED
    if not path.is_file():
        raise InputError("a study that is still blinded", "an unblinded study (srh-clinic study unblind)", study)
    try:
        kept = json.loads(path.read_bytes())
        answers = tuple(
            Answer(Task.model_validate(one["task"]), KeyEntry.model_validate(one["key"]), Rating.model_validate(one["rating"]))
            for one in kept["answers"]
        )
        protocol = StudyProtocol.model_validate(kept["protocol"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InputError("no unblinded study", "the file that srh-clinic study unblind writes", path) from error
    for rater, sha256 in kept["returns"].items():
        returned = _path(study, rater)
        if not returned.is_file() or sha256_of(returned) != sha256:
            raise InputError(
                "a return that has changed since it was unblinded",
                "the same return, or another srh-clinic study unblind",
                returned,
            )
    return Unblinded(protocol, answers, kept["returns"], kept["interim"])


def _path(study: Path, rater: str) -> Path:
    return study / "returned" / f"{rater}.jsonl"


def _returns(study: Path, protocol: StudyProtocol, interim: bool, receipts: Mapping[str, str]) -> dict[str, Return]:
    """Verified returns by rater; none of them opens the key."""
    names = [rater.rater_id for rater in protocol.raters]
    missing = [name for name in names if not _path(study, name).is_file()]
    if missing and (not interim or len(missing) == len(names)):
        raise InputError(
            f"no return of {', '.join(missing)}", "all returns before the key is opened, or --interim", study / "returned"
        )
    found = {}
    for name in names:
        if name in missing:
            continue
        returned = read_return(_path(study, name), protocol.study_id)
        if returned.rater_id != name:
            raise InputError(f"the return of {returned.rater_id}", f"that of {name}", _path(study, name))
        if name in receipts and receipts[name].lower() != returned.receipt:
            raise InputError(
                f"a return with the code {returned.receipt}", f"{receipts[name]}, which {name} was shown", _path(study, name)
            )
        found[name] = returned
    return found


def _key(study: Path, protocol: StudyProtocol, protocol_sha256: str) -> dict[str, KeyEntry]:
    content, salt = read_secrets(study)
    path = study / "public" / "commitment.txt"
    try:
        committed = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"no readable commitment ({error})", "the one that study export wrote", path) from error
    if not hmac.compare_digest(committed, commitment(content, salt)):
        raise InputError(
            "a key that does not fit its commitment", f"the key that {path.name} was made from", study / "sealed" / "key.json"
        )
    key: dict[str, Any] = json.loads(content)
    if key["study_id"] != protocol.study_id or key["protocol_sha256"] != protocol_sha256:
        raise InputError("a protocol that the key was not sealed with", "the one that study export wrote", study)
    return {entry["task_id"]: KeyEntry.model_validate(entry) for entry in key["entries"]}


def _keep(study: Path, opened: Unblinded) -> None:
    content = {
        "protocol": opened.protocol.model_dump(mode="json"),
        "returns": dict(opened.returns),
        "interim": opened.interim,
        "answers": [
            {
                "task": a.task.model_dump(mode="json"),
                "key": a.key.model_dump(mode="json"),
                "rating": a.rating.model_dump(mode="json"),
            }
            for a in opened.answers
        ],
    }
    write_whole(study / UNBLINDED, canonical(content) + b"\n")
    log = study / LOG
    kept = log.read_text(encoding="utf-8") if log.is_file() else ""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    what = "interim: returns are missing or unfinished" if opened.interim else "all returns are in"
    lines = "".join(f"  {rater} {sha256}\n" for rater, sha256 in opened.returns.items())
    write_whole(log, f"{kept}{when} {what}\n{lines}")
