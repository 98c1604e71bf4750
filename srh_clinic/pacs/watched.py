"""A folder that is watched: what an instrument or a person puts there comes in as what a PACS sends does."""

from __future__ import annotations

import os
import time
from pathlib import Path

from srh_clinic.cohort.cases import Listed, list_cases
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.errors import InputError
from srh_clinic.integration.arriving import is_slide_file
from srh_clinic.integration.places import files_in
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.inbox import Inbox

LOOKED = 2.0
"""Seconds between two looks at a folder."""


class WatchedFolder:
    """A :class:`~srh_clinic.pacs.door.Door`: every file or folder in a folder is a case, as ``cohort run`` takes it.

    What is still being written is left alone until it has not changed for a while. DICOM files, also those in a folder
    there, are copied into the inbox and are cases of their series, so that a scan that comes by the network too is one case.
    Everything else is done where it lies.

    Parameters
    ----------
    folder
        Nothing is written there.
    settle
        Seconds without a change.

    """

    def __init__(self, folder: Path, inbox: Inbox, audit: Audit, settle: float) -> None:
        self.folder, self.inbox, self.audit, self.settle = folder, inbox, audit, settle
        self._looked = -LOOKED
        self._seen: dict[str, tuple[str, float]] = {}
        self._handled: dict[str, str] = {}

    def look(self, ledger: Ledger) -> None:
        """See :class:`~srh_clinic.pacs.door.Door`."""
        if time.monotonic() - self._looked < LOOKED:
            return
        try:
            listed = list_cases(self.folder)
        except InputError:  # empty, or away for the moment
            listed = []
        for case in listed:
            if self._is_quiet(case):
                self._take(case, ledger)
        self._looked = time.monotonic()

    def close(self) -> None:
        """See :class:`~srh_clinic.pacs.door.Door`."""

    def _is_quiet(self, case: Listed) -> bool:
        """Whether its files are as they were some looks ago; a folder that was renamed into place waits no less."""
        now, stamp = time.monotonic(), case.enrolled().files
        before, since = self._seen.get(case.title, ("", now))
        if stamp != before:
            self._seen[case.title] = (stamp, now)
            return False
        return now - since >= self.settle

    def _take(self, case: Listed, ledger: Ledger) -> None:
        entry = case.enrolled()
        if self._handled.get(case.title) == entry.files:
            return
        try:
            files = [file for source in case.source for file in _files_of(Path(source))]
        except InputError:  # a worker says why it cannot be read
            files = []
        slides = [file for file in files if is_slide_file(file)]
        if slides:
            for file in slides:
                self._copy(file)
        else:
            before = ledger.moves()
            ledger.enrol([entry])
            if ledger.moves() != before:
                self.audit.note("arrived", case=case.name, files=len(files), door="folder")
        self._handled[case.title] = entry.files

    def _copy(self, file: Path) -> None:
        try:
            how = self.inbox.copy(file).how
        except OSError as error:
            if error.filename is None or Path(error.filename) != file:
                raise
            how = "unreadable"  # away again, or not ours to read
        if how != "again":
            self.audit.note("taken", how=how, door="folder")


def require_readable(folder: Path) -> None:
    """Refuse what cannot be watched.

    Raises
    ------
    InputError
        When it is no folder that can be read.
    """
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        raise InputError("no folder that can be read", "a folder to watch", folder)


def _files_of(source: Path) -> list[Path]:
    return files_in(source) if source.is_dir() else [source]
