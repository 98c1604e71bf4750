"""Cells of a benchmark on disk: one JSON line each, so that a run that was cut goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError

Row = dict[str, Any]
"""A row of a table, or a cell: values by name."""


class CellStore:
    """Finished cells in a file of JSON lines.

    Each line carries the :func:`fingerprint` that it was computed under; lines of other weights, settings or another protocol
    stay in the file and are never read as ours.

    Parameters
    ----------
    path
        The file; made when it does not exist, and a line that a cut left half-written is removed.
    names
        The fields that name a cell, such as ``("phantom", "method")``.

    Raises
    ------
    InputError
        When the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path = path
        self.names = names
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with path.open("r+b") as file:
                    file.truncate(whole)
            for line in content[:whole].splitlines():
                row = json.loads(line)
                self._rows[(row["fingerprint"], *(row[name] for name in names))] = row
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("lines that this benchmark has not written", "another folder", path) from error
        except OSError as error:
            raise InputError(error.strerror or str(error), "a file that can be read and written", path) from error

    def get(self, key: str, *cell: Any) -> dict[str, Any] | None:
        """The row of a finished cell, named by a fingerprint and the values of ``names``."""
        return self._rows.get((key, *cell))

    def put(self, key: str, **row: Any) -> None:
        """Keep a finished cell; the values of ``names`` are among ``row``."""
        whole = {"fingerprint": key, **row}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(whole) + "\n")
        except OSError as error:
            raise InputError(error.strerror or str(error), "room to keep the benchmark's cells", self.path) from error
        self._rows[(key, *(row[name] for name in self.names))] = whole
