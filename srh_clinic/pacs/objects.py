"""Objects as an archive knows them: by their UIDs, as files here and as instances there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from pydicom import dcmread

from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of
from srh_clinic.integration.dicom_file import quiet_pydicom
from srh_clinic.integration.places import is_left_by_system, kind_of
from srh_clinic.progress import Progress

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

NEEDED = "DICOM files, or a folder of them such as diagnose --dicom-out writes"

NAME = 16
"""Hexadecimal digits of the name that a file or folder gets of a UID, which itself tells whose it is."""


WAITING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
"""Answers beside 5xx after which the same request may find the service in a better state."""


@dataclass(frozen=True, order=True)
class Instance:
    """An instance that an archive says it has; ``sop_class`` is empty where it does not say."""

    study: str
    series: str
    sop: str
    sop_class: str = ""


@dataclass(frozen=True)
class ObjectFile:
    """A DICOM file, and what it is known by elsewhere."""

    path: Path
    instance: Instance
    syntax: str
    size: int


@dataclass(frozen=True)
class Wanted:
    """What is asked of an archive: whatever is given must be so. ``modalities`` of series; none for all."""

    study: str = ""
    series: str = ""
    patient: str = ""
    accession: str = ""
    modalities: tuple[str, ...] = ("SM",)

    def __post_init__(self) -> None:
        if not (self.study or self.series or self.patient or self.accession):
            raise InputError("nothing to fetch", "--study, --series, --patient or --accession")
        for uid in (self.study, self.series):
            if uid:
                checked_uid(uid)
        if set("*?\\") & set(self.patient + self.accession):
            raise InputError("a wildcard, which would fetch whatever there is", "one patient or accession number as it is")

    def is_of(self, series: str, modality: str) -> bool:
        """Whether a series of what is asked for is wanted."""
        return self.series in ("", series) and (not self.modalities or modality in self.modalities)


class ServiceError(InputError):
    """The other side does not do what it is asked to; ``status`` is that of HTTP, None without an answer or by DIMSE.

    ``after`` are the seconds after which it asks to be asked again.
    """

    def __init__(
        self, found: str, needed: str, where: str, status: int | None = None, answer: bytes = b"", after: float = 0.0
    ) -> None:
        super().__init__(found, needed, where)
        self.status, self.answer, self.after = status, answer, after

    @property
    def word(self) -> str:
        """What a log says of it."""
        return "no-answer" if self.status is None else f"answer-{self.status}"

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in WAITING or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Archive(Protocol):
    """The other side, whatever it speaks."""

    def store(self, objects: Sequence[ObjectFile], progress: Progress) -> dict[str, str]:
        """Send objects; why each that was refused was, by SOP instance UID."""

    def held(self, objects: Sequence[ObjectFile]) -> set[str]:
        """SOP instance UIDs of those that are there, asked anew."""

    def announced(self, wanted: Wanted) -> list[Instance]:
        """What is there of what is wanted."""

    def fetch(self, instances: Sequence[Instance], folder: Path, progress: Progress) -> None:
        """Bring instances to :func:`place_of`; each file is whole when it is there. What does not come is not there then."""


def checked_uid(uid: str) -> str:
    """The UID itself (PS3.5, 9), never anything that means more in a URL, a query or a file's name.

    Raises
    ------
    InputError
        When it is none.
    """
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InputError("a UID that is none", "digits and dots, up to 64 of them")
    return uid


def name_of(uid: str) -> str:
    """What files and folders here are called after an object, which does not tell its UID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:NAME]


def place_of(instance: Instance, folder: Path) -> Path:
    """The file of an instance: a folder for each series, so that each is a case of ``cohort run``."""
    return folder / name_of(instance.series) / f"{name_of(instance.sop)}.dcm"


def is_whole(path: Path, instance: Instance) -> bool:
    """Whether a file is an instance's: what was fetched is renamed into place, so one that is there is all there."""
    try:
        return _read(path).instance.sop == instance.sop
    except (InputError, OSError):
        return False


def objects_in(places: Iterable[Path]) -> list[ObjectFile]:
    """The DICOM objects of files and folders, each once, series by series.

    In a folder what is no DICOM is passed over; a file that is named must be one.

    Raises
    ------
    InputError
        When there is none, a file cannot be read, or two that differ have one SOP instance UID.
    """
    found: dict[str, ObjectFile] = {}
    for path, named in _files(places):
        if not named and (kind_of(path, NEEDED) != "dicom" or path.name.upper() == "DICOMDIR"):
            continue
        one = _read(path)
        other = found.setdefault(one.instance.sop, one)
        if other is not one and (other.size != one.size or sha256_of(other.path) != sha256_of(path)):
            raise InputError(f"another object with the SOP instance UID of {other.path.name}", "a UID of its own", path)
    if not found:
        raise InputError("no DICOM object", NEEDED, next(iter(places), None))
    return sorted(found.values(), key=lambda one: (one.instance.study, one.instance.series, str(one.path)))


def _files(places: Iterable[Path]) -> Iterable[tuple[Path, bool]]:
    for place in places:
        if not place.is_dir():
            yield place, True
            continue
        for root, _, names in sorted(os.walk(place)):
            yield from ((Path(root) / name, False) for name in sorted(names) if not is_left_by_system(name) and name[0] != ".")


def _read(path: Path) -> ObjectFile:
    """A file by its header."""
    if (kind := kind_of(path, NEEDED)) != "dicom":
        raise InputError(kind, NEEDED, path)
    wanted = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    try:
        with quiet_pydicom():
            header = dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            study, series, sop = (
                checked_uid(str(header.get(name, ""))) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            )
            syntax, sop_class = (checked_uid(str(uid)) for uid in (header.file_meta.TransferSyntaxUID, header.SOPClassUID))
    except Exception as error:  # pydicom raises what its parts raise
        needed = "one with SOP class, transfer syntax and UIDs"
        raise InputError("a DICOM file that cannot be sent as it is", needed, path) from error
    return ObjectFile(path, Instance(study, series, sop, sop_class), syntax, path.stat().st_size)
