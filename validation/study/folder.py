"""A study's folder as the export writes it: its protocol, its tasks, its sealed key."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from srh_clinic.errors import InputError, first_fault
from srh_clinic.validation.study.log import read_log
from srh_clinic.validation.study.records import Amendment, KeyEntry, StudyProtocol, Task
from srh_clinic.validation.study.viewer import ViewerContents, read_viewer


def read_protocol(study: Path) -> tuple[StudyProtocol, str]:
    """The protocol of a study, with what amendments added, and the SHA-256 of its file.

    A further page of a rater (:attr:`Amendment.pages`) counts as a rater here, since it is answered and returned by itself;
    :func:`persons` puts them together.

    Raises
    ------
    InputError
        When the folder holds no study.
    """
    path = study / "public" / "protocol.json"
    try:
        content = path.read_bytes()
        protocol = StudyProtocol.model_validate_json(content)
        made = amendments(study)
        more = {
            "raters": protocol.raters + tuple(rater for amendment in made for rater in amendment.added),
            "images": protocol.images + sum(amendment.images for amendment in made),
            "tasks": protocol.tasks + sum(amendment.tasks for amendment in made),
        }
        return protocol.model_copy(update=more), hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise InputError(f"no readable protocol ({error.strerror})", "the folder of an exported study", study) from error
    except ValidationError as error:
        raise InputError(first_fault(error), "the protocol of an exported study", path) from error


def amendments(study: Path) -> list[Amendment]:
    """The amendments of a study in their order, without gaps.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    found: list[Amendment] = []
    while (path := study / "public" / f"amendment-{len(found) + 1}.json").is_file():
        try:
            found.append(Amendment.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise InputError(first_fault(error), "an amendment as study amend writes it", path) from error
    return found


def persons(study: Path) -> dict[str, str]:
    """Whose each further page is: the rater's id by the page's name, for the pages that amendments added images on.

    Raises
    ------
    InputError
        When an amendment cannot be read.
    """
    return {page: rater.rater_id for amendment in amendments(study) for page, rater in amendment.pages.items()}


def viewer_path(study: Path, rater: str) -> Path:
    """Where a rater's viewer lies."""
    return study / "public" / rater / "viewer.html"


def read_viewers(study: Path, protocol: StudyProtocol) -> dict[str, tuple[ViewerContents, list[Task]]]:
    """Each rater's viewer and its tasks.

    Raises
    ------
    InputError
        When one cannot be read, or holds something that is no task.
    """
    return {rater.rater_id: read_tasks(viewer_path(study, rater.rater_id)) for rater in protocol.raters}


def read_tasks(path: Path) -> tuple[ViewerContents, list[Task]]:
    """A viewer and its tasks.

    Raises
    ------
    InputError
        When it cannot be read, or holds something that is no task.
    """
    contents = read_viewer(path)
    try:
        return contents, [Task.model_validate(row) for row in contents.tasks]
    except ValidationError as error:
        raise InputError("a task with unknown fields", "a viewer as study export writes it", path) from error


@dataclass(frozen=True)
class Sealed:
    """What is sealed: the salt, and the key that was committed to.

    ``pages`` has the secret of each rater's page; empty in studies of earlier versions, which have no log either.
    """

    salt: bytes
    study_id: str
    protocol_sha256: str
    entries: Mapping[str, KeyEntry]
    pages: Mapping[str, str]

    @property
    def logged(self) -> bool:
        """Whether the export began a log."""
        return bool(self.pages)


def read_sealed(study: Path) -> Sealed:
    """The sealed key, which the commitment fits.

    Raises
    ------
    InputError
        When key, salt or commitment are not there, or do not fit.
    """
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
    entries = {entry["task_id"]: KeyEntry.model_validate(entry) for entry in key["entries"]}
    pages = dict(key.get("pages", {}))
    signed = {event.commitment for event in read_log(study, salt) if event.event == "amended"}
    for amendment in amendments(study):
        added = read_amended(study, amendment)
        if amendment.commitment not in signed or not hmac.compare_digest(amendment.commitment, commitment(added, salt)):
            found = f"the amendment {amendment.number}, which the study's log has not signed"
            raise InputError(found, "amendments as study amend makes them", study)
        more = json.loads(added)
        entries |= {entry["task_id"]: KeyEntry.model_validate(entry) for entry in more["entries"]}
        pages |= more["pages"]
    return Sealed(salt, key["study_id"], key["protocol_sha256"], entries, pages)


def read_amended(study: Path, amendment: Amendment) -> bytes:
    """The sealed part of an amendment.

    Raises
    ------
    InputError
        When it is not there.
    """
    path = study / "sealed" / f"amendment-{amendment.number}.json"
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"no readable sealed amendment ({error.strerror})", "what study amend has sealed", path) from error


def read_secrets(study: Path) -> tuple[bytes, bytes]:
    """The sealed key's bytes and the salt.

    Raises
    ------
    InputError
        When they are not there or cannot be read.
    """
    try:
        return (study / "sealed" / "key.json").read_bytes(), (study / "sealed" / "salt").read_bytes()
    except OSError as error:
        raise InputError(f"no readable sealed key ({error.strerror})", "a study as study export makes it", study) from error


def commitment(key: bytes, salt: bytes) -> str:
    """HMAC-SHA256 of the key's bytes under the salt: published now, it proves later that the key was not changed."""
    return hmac.new(salt, key, hashlib.sha256).hexdigest()
