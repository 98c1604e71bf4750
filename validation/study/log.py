"""A study's log: what happened to it from its export on, each line chained to the one before and sealed with the salt.

A line that was changed, taken out or put in is found, and so is an end that was cut off: the sealed folder holds the hash of
the last line. Who has the salt and rewrites both can forge it; every report states the last line's hash for that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from srh_clinic.errors import InputError, first_fault
from srh_clinic.files import claimed, write_whole
from srh_clinic.validation.study.records import Hash, Record, canonical, line_hash

LOG = "study.log"
HEAD = "log.head"
"""In the sealed folder: the hash of the log's last line."""

EARLIER_LOG = "unblinding.log"
"""Where studies of earlier versions note that they were opened."""

NEEDED = "the log as the commands of srh-clinic study write it"


class Event(Record):
    """What happened to a study."""

    event: Literal["exported", "opened", "dropped out", "amended", "rehearsed"]
    when: str
    what: str = ""
    """In words."""
    interim: bool = False
    """Whether the key was opened although returns were missing or unfinished."""
    returns: Mapping[str, Hash] = Field(default_factory=dict)
    """SHA-256 of the returns, by rater, that the key was opened for."""
    rater: str = ""
    """Who dropped out or was added."""
    commitment: str = ""
    """To the key as it is from here on."""
    prev_hash: Hash
    seal: Hash

    @property
    def day(self) -> str:
        return self.when[:10]


def log_event(study: Path, salt: bytes, event: str, **more: Any) -> Event:
    """Add a line to a study's log.

    Raises
    ------
    InputError
        When the log is not what it was, cannot be written, or somebody else writes to it.
    """
    with claimed(study / LOG):
        return _log_event(study, salt, event, more)


def _log_event(study: Path, salt: bytes, event: str, more: Mapping[str, Any]) -> Event:
    path = study / LOG
    before = read_log(study, salt)
    kept = path.read_text(encoding="utf-8") if path.is_file() else ""
    previous = line_hash(kept.splitlines()[-1]) if before else hashlib.sha256(b"").hexdigest()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    fields = Event(event=event, when=when, prev_hash=previous, seal="0" * 64, **more).model_dump(mode="json")  # type: ignore[arg-type]
    made = fields | {"seal": _seal(fields, salt)}
    line = canonical(made).decode()
    write_whole(path, f"{kept}{line}\n", "the study's log")
    write_whole(study / "sealed" / HEAD, f"{line_hash(line)}\n", "the study's log").chmod(0o600)
    return Event.model_validate(made)


def read_log(study: Path, salt: bytes, *, required: bool = False) -> tuple[Event, ...]:
    """What happened to a study, in order.

    Parameters
    ----------
    required
        Whether a log has to be there: every export of this version begins one.

    Raises
    ------
    InputError
        When a line was changed, taken out or put in.
    """
    path, head = study / LOG, study / "sealed" / HEAD
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        last = head.read_text(encoding="ascii").strip() if head.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a log that cannot be read ({error})", NEEDED, path) from error
    events = []
    previous, hashes = hashlib.sha256(b"").hexdigest(), [""]
    for number, line in enumerate(lines, start=1):
        try:
            event = Event.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"line {number}, which is no event ({first_fault(error)})", NEEDED, path) from error
        if event.prev_hash != previous or not hmac.compare_digest(event.seal, _seal(event.model_dump(mode="json"), salt)):
            raise InputError(f"line {number}, which was not written by this study", NEEDED, path)
        events.append(event)
        previous = line_hash(line)
        hashes.append(previous)
    # A cut between the two files leaves the head one line behind.
    if (required and not (events and last)) or (last and last not in hashes[-2:]):
        raise InputError(f"a log of {len(events)} lines, from which some were taken", NEEDED, path)
    return tuple(events)


def log_head(study: Path) -> str:
    """The hash of the last line; empty without a log."""
    path = study / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return line_hash(lines[-1]) if lines else ""


def _seal(fields: Mapping[str, Any], salt: bytes) -> str:
    content = canonical({name: value for name, value in fields.items() if name != "seal"})
    return hmac.new(salt, b"srh-clinic study log\x01" + content, hashlib.sha256).hexdigest()
