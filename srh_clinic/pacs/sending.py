"""Objects to an archive: sent, and believed to be there when it says so itself."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.pacs.archives import Calling, archive_at
from srh_clinic.pacs.credentials import Trust
from srh_clinic.pacs.destination import Destination, Sent, UnreachableError
from srh_clinic.pacs.objects import Archive, ObjectFile, ServiceError, objects_in
from srh_clinic.pacs.reasons import DUPLICATE
from srh_clinic.progress import Progress, silent

NOT_THERE = "taken, but not there when it is asked for"

SETTLING = (0.5, 1.0, 2.0, 4.0)
"""Seconds between questions for objects that were taken: an archive may file them after it has answered."""


def push(archive: Archive, objects: Sequence[ObjectFile], progress: Progress = silent) -> dict[ObjectFile, str]:
    """Send objects, and ask the archive for each of them; one that it had before is sent again, and no harm is done.

    Returns
    -------
    Why each that did not get there did not; nothing when all are there.

    Raises
    ------
    ServiceError
        When the archive does not answer, or answers with no word about objects.
    """
    refused = archive.store(objects, progress)
    faults: dict[ObjectFile, str] = {}
    progress("asking for them", 0, 1)
    for wait in (*SETTLING, None):
        held = archive.held(objects)
        faults = {one: why for one in objects if (why := _fault(one, refused, held)) is not None}
        if wait is None or NOT_THERE not in faults.values():
            break
        time.sleep(wait)
    progress("asking for them", 1, 1)
    return faults


def _fault(one: ObjectFile, refused: Mapping[str, str], held: set[str]) -> str | None:
    why = refused.get(one.instance.sop)
    if one.instance.sop in held:
        return None if why == DUPLICATE else why
    return NOT_THERE if why in (None, DUPLICATE) else why


@dataclass(frozen=True)
class ArchiveDestination:
    """An archive as the place where results go."""

    name: str
    archive: Archive

    def send(self, objects: Sequence[Path]) -> Sent:
        """See :class:`~srh_clinic.pacs.destination.Destination`."""
        files = objects_in(objects)
        try:
            faults = push(self.archive, files)
        except ServiceError as error:
            if error.may_pass:
                raise UnreachableError(error.word, error.after) from error
            raise
        if NOT_THERE in faults.values():
            raise UnreachableError("not-there-yet")
        words = tuple(re.sub(r"[^a-z0-9]+", "-", why.lower()).strip("-") for why in faults.values())
        return Sent(len(files) - len(faults), words)


def destination_of(address: str, title: str, trust: Trust | None = None) -> Destination:
    """The archive at ``https://pacs.example/dicom-web`` or ``AE@HOST:PORT`` as a destination; ``title`` is ours.

    Raises
    ------
    InputError
        As :func:`~srh_clinic.pacs.archives.archive_at`.
    """
    return ArchiveDestination(address, archive_at(address, Calling(title, trust or Trust()), os.environ))
