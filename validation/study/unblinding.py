"""Unblinding: the commitment, the returns, and what was asked of whom, together for the first time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of, write_whole
from srh_clinic.validation.study.folder import Sealed, persons, read_protocol, read_sealed, read_viewers
from srh_clinic.validation.study.log import EARLIER_LOG, Event, log_event, log_head, read_log
from srh_clinic.validation.study.records import KeyEntry, Rating, StudyProtocol, Task, canonical
from srh_clinic.validation.study.return_checks import find_return, require_known, require_sound
from srh_clinic.validation.study.returns import Return, read_return, require_whole

UNBLINDED = "unblinded.json"

STILL_BLINDED = "an unblinded study (srh-clinic study unblind)"

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

    Attributes
    ----------
    returns
        SHA-256 of each rater's return.
    interim
        Whether some were missing or unfinished.
    early
        The days on which the key was opened although returns were missing, this time or before: whoever has looked early may
        have stopped or changed something because of what there was to see.
    dropped
        Raters who dropped out, each with the day and the reason.
    added
        What amendments added, each with the day and the reason: raters, with whose tasks they have, and images.
    log
        The hash of the log's last line.
    """

    protocol: StudyProtocol
    answers: tuple[Answer, ...]
    returns: Mapping[str, str]
    interim: bool = False
    early: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    log: str = ""


def unblind(study: str | Path, *, interim: bool = False, receipts: Mapping[str, str] | None = None) -> Unblinded:
    """Open the sealed key of a study whose returns are in, and put answers and key together.

    Verified are: each return's chain of hashes, that it comes from the page of its rater and answers each task of the rater
    once, the code that a rater's viewer showed at the end where it is given in ``receipts``, and that key and protocol are
    those that the export committed to. Only then is the key read. Each opening is an event of the study's log. What is
    unblinded is written to ``unblinded.json`` to be read; nothing here reads it.

    Parameters
    ----------
    interim
        Go on although returns are missing or unfinished; it is logged, and every result is marked from then on.

    Raises
    ------
    InputError
        When a return is missing, unfinished or not as it was written, or the key is not the one committed to.
    """
    study = Path(study)
    protocol, sha256 = read_protocol(study)
    tasks, secrets = _asked(study, protocol)
    require_known(study, list(tasks))
    # The log is read before the returns are told to be missing: it says who dropped out.
    dropped = _dropped(read_log(study, _salt(study)))
    dropped |= {page: dropped[rater] for page, rater in persons(study).items() if rater in dropped}
    returns = _returns(study, protocol, tasks, secrets, dropped, interim=interim, receipts=receipts or {})
    sealed = _verified_key(study, protocol, sha256, secrets)
    awaited = {rater.rater_id for rater in protocol.raters} - set(dropped)
    partial = not awaited <= set(returns) or any(not returns[rater].closed for rater in awaited & set(returns))
    log_event(
        study,
        sealed.salt,
        "opened",
        what="interim: returns are missing or unfinished" if partial else "all returns are in",
        interim=partial,
        returns={rater: returned.sha256 for rater, returned in returns.items()},
    )
    opened = _opened(study, protocol, tasks, returns, sealed)
    _write(study, opened)
    return opened


def load_unblinded(study: str | Path) -> Unblinded:
    """A study as it was unblinded last, put together anew from its returns, its key and its log.

    Raises
    ------
    InputError
        When the study was not unblinded, or a return, the key or the log was changed since.
    """
    study = Path(study)
    if not (study / "public").is_dir() or not (study / "sealed").is_dir():
        raise InputError("a study that is still blinded", STILL_BLINDED, study)
    protocol, sha256 = read_protocol(study)
    tasks, secrets = _asked(study, protocol)
    sealed = _verified_key(study, protocol, sha256, secrets)
    openings = [event for event in read_log(study, sealed.salt, required=sealed.logged) if event.event == "opened"]
    if not openings:
        raise InputError("a study that is still blinded", STILL_BLINDED, study)
    returns = {}
    opened = openings[-1].returns
    for rater, kept in ((rater, opened[rater]) for rater in tasks if rater in opened):
        path = find_return(study, rater)
        if path is None or sha256_of(path) != kept:
            raise InputError(
                "a return that has changed since it was unblinded",
                "the same return, or another srh-clinic study unblind",
                path or study / "returned" / f"{rater}.jsonl",
            )
        returns[rater] = _read(path, protocol, rater, tasks[rater], secrets[rater])
    return _opened(study, protocol, tasks, returns, sealed)


def _asked(study: Path, protocol: StudyProtocol) -> tuple[dict[str, list[Task]], dict[str, str]]:
    """Each rater's tasks and the secret of each rater's page."""
    viewers = read_viewers(study, protocol)
    return {rater: tasks for rater, (_, tasks) in viewers.items()}, {
        rater: page.secret for rater, (page, _) in viewers.items()
    }


def _salt(study: Path) -> bytes:
    path = study / "sealed" / "salt"
    return path.read_bytes() if path.is_file() else b""


def _read(path: Path, protocol: StudyProtocol, rater: str, tasks: list[Task], secret: str) -> Return:
    returned = read_return(path, protocol.study_id, secret)
    require_sound(returned, rater, tasks, path, sizes=bool(secret))
    return returned


def _returns(
    study: Path,
    protocol: StudyProtocol,
    tasks: Mapping[str, list[Task]],
    secrets: Mapping[str, str],
    dropped: Collection[str],
    *,
    interim: bool,
    receipts: Mapping[str, str],
) -> dict[str, Return]:
    """Verified returns by rater; none of them opens the key."""
    found = {}
    missing = []
    for rater in tasks:
        path = find_return(study, rater)
        if path is None:
            missing += [rater] if rater not in dropped else []
            continue
        returned = _read(path, protocol, rater, tasks[rater], secrets[rater])
        if rater in receipts and receipts[rater].lower() != returned.receipt:
            raise InputError(f"a return with the code {returned.receipt}", f"{receipts[rater]}, which {rater} was shown", path)
        if not interim and rater not in dropped:
            require_whole(returned, [task.task_id for task in tasks[rater]], path)
        found[rater] = returned
    if (missing and not interim) or not found:
        needed = "all returns before the key is opened, --interim, or srh-clinic study drop-out for who gave up"
        raise InputError(f"no return of {', '.join(missing) or 'anybody'}", needed, study / "returned")
    return found


def _verified_key(study: Path, protocol: StudyProtocol, protocol_sha256: str, secrets: Mapping[str, str]) -> Sealed:
    sealed = read_sealed(study)
    if sealed.study_id != protocol.study_id or sealed.protocol_sha256 != protocol_sha256:
        raise InputError("a protocol that the key was not sealed with", "the one that study export wrote", study)
    if sealed.pages and dict(sealed.pages) != dict(secrets):
        raise InputError("pages that the key was not sealed with", "those that study export wrote", study / "public")
    return sealed


def _dropped(events: Collection[Event]) -> dict[str, str]:
    return {event.rater: f"{event.day}: {event.what}" for event in events if event.event == "dropped out"}


def _opened(
    study: Path,
    protocol: StudyProtocol,
    tasks: Mapping[str, list[Task]],
    returns: Mapping[str, Return],
    sealed: Sealed,
) -> Unblinded:
    """Answers, key and log together."""
    events = read_log(study, sealed.salt, required=sealed.logged)
    openings = [event for event in events if event.event == "opened"]
    early = [event.day for event in openings if event.interim]
    if (study / EARLIER_LOG).is_file():
        lines = (study / EARLIER_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        early = [line[:10] for line in lines if " interim: " in line] + early
    if (study / "returned" / REHEARSAL).is_file() or any(event.event == "rehearsed" for event in events):
        said = f"REHEARSAL with simulated raters: nothing here was measured. {protocol.notice}"
        protocol = protocol.model_copy(update={"title": f"REHEARSAL: {protocol.title}", "notice": said})
    asked = {task.task_id: task for mine in tasks.values() for task in mine}
    whose = persons(study)
    protocol = protocol.model_copy(update={"raters": tuple(one for one in protocol.raters if one.rater_id not in whose)})
    answers = tuple(
        _answer(asked[rating.task_id], sealed.entries[rating.task_id], rating, whose)
        for one in returns.values()
        for rating in one.ratings
    )
    hashes = {rater: returned.sha256 for rater, returned in returns.items()}
    interim = bool(openings) and openings[-1].interim
    amended = [event for event in events if event.event == "amended"]
    added = {
        event.rater or f"amendment {number}": f"{event.day}, {event.what}" for number, event in enumerate(amended, start=1)
    }
    return Unblinded(protocol, answers, hashes, interim, tuple(early), _dropped(events), added, log_head(study))


def _answer(task: Task, entry: KeyEntry, rating: Rating, whose: Mapping[str, str]) -> Answer:
    """An answer under the name of the rater who gave it, on whichever page."""
    rater = {"rater_id": whose.get(rating.rater_id, rating.rater_id)}
    return Answer(task, entry.model_copy(update=rater), rating.model_copy(update=rater))


def _write(study: Path, opened: Unblinded) -> None:
    content = {
        "protocol": opened.protocol.model_dump(mode="json"),
        "returns": dict(opened.returns),
        "interim": opened.interim,
        "early": list(opened.early),
        "dropped": dict(opened.dropped),
        "added": dict(opened.added),
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
