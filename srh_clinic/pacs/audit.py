"""The audit log: who sent what, when, and what became of it, in JSON lines without any word of whose it is."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from srh_clinic.cohort.telling import moment
from srh_clinic.errors import InputError
from srh_clinic.files import append_lines

Said = str | int | float | bool | None


class Audit:
    """Appends lines to a file; may be called from several threads.

    Names of cases, counts, reasons in words of ours, addresses, and AE titles of those who may call stand in it. A title that
    is not expected could be anything, so it is left out.

    Parameters
    ----------
    file
        None writes nowhere.

    Raises
    ------
    InputError
        When it cannot be written.
    """

    def __init__(self, file: Path | None) -> None:
        self._file, self._lock = file, threading.Lock()
        if file is not None:
            try:
                file.open("a", encoding="ascii").close()
            except OSError as error:
                raise InputError(error.strerror or str(error), "an audit log that can be written", file) from error

    def note(self, event: str, **said: Said) -> None:
        """Write one line, at once.

        Raises
        ------
        OSError
            When the disk is full.
        """
        if self._file is None:
            return
        line = json.dumps({"at": moment(time.time()), "event": event, **said}) + "\n"
        with self._lock:
            append_lines(self._file, line)
