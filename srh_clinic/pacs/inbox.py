"""Where received files lie: each whole, once, on the disk before anybody is told that it has come.

::

    inbox/STUDY/INSTANCE.dcm      both named by hashes of their UIDs: no name says whose they are
    inbox/STUDY/gone.json         what was there and has been let go, with a hash of each
    inbox/.receiving/             what is not whole yet; cleared when a listener begins

A file comes under its name by a rename after it has been flushed, and is never written again. One that was let go is known
again when it comes once more.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srh_clinic.errors import InputError
from srh_clinic.files import flush, parsed_json, sha256_of, write_whole
from srh_clinic.integration.arriving import content_sha256, instance_in, same_instance

INBOX = "inbox"
"""Folder of a run that holds what was received."""

RECEIVING = ".receiving"

GONE = "gone.json"
"""File of a study's folder that names what was let go."""

NAME = 16
"""Hexadecimal digits of the name of a study's folder and of a file."""

GIVEN_UP = 3600.0
"""Seconds without a byte after which a transfer is taken to be dead."""

How = Literal["new", "again", "conflict", "unreadable", "ours"]


@dataclass(frozen=True)
class Taken:
    """What became of a file: ``again`` is one that was there, ``conflict`` another under the UID of one that is there.

    One that is ``unreadable`` is kept in a folder of its own; a result of ours (``ours``) that a PACS sends back is not kept.
    """

    how: How
    study: Path | None = None


class Inbox:
    """The received files of a run. All methods may be called from several threads.

    Parameters
    ----------
    folder
        Made when it is not there.

    Raises
    ------
    OSError
        When it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.receiving = folder / RECEIVING
        self._lock = threading.Lock()
        self._open: set[Path] = set()
        self._bringing: dict[Hashable, tuple[float, set[Path]]] = {}
        self.receiving.mkdir(parents=True, exist_ok=True)
        self.clear()
        self._open.update(self.studies())
        for study in self._open:  # of a call that was cut while it let them go
            _unlink(study / f"{name}.dcm" for name in _gone_from(study))

    def studies(self) -> list[Path]:
        """Folders of all studies of which something has come."""
        return sorted(item for item in self.folder.iterdir() if item.is_dir() and item != self.receiving)

    def clear(self) -> None:
        """Take away what was not whole when the one who sent it, or this process before, ended."""
        for dead in self.receiving.iterdir():
            dead.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Take away what has come to a stop for so long that its sender is gone."""
        for dead in self.receiving.iterdir():
            with suppress(FileNotFoundError):  # it has come to its end just now
                if time.time() - dead.stat().st_mtime > GIVEN_UP:
                    dead.unlink()

    def draft(self) -> Path:
        """A new name to receive a file under, for :meth:`take`."""
        return self.receiving / f"{secrets.token_hex(8)}.dcm"

    def take(self, file: Path, brought_by: Hashable = None) -> Taken:
        """Move a whole file that lies in :attr:`receiving` to its place; when this returns, it survives a power failure.

        Parameters
        ----------
        brought_by
            The association or call by which it came, see :meth:`moving`.

        Raises
        ------
        OSError
            When the disk is full, for one. The file is then where it was, and nothing has come.
        """
        flush(file)
        target = self._target_of(file)
        if target is None:
            file.unlink()
            return Taken("ours")
        study = target.parent
        with self._lock:
            how = self._place(file, target)
            self._open.add(study)
            if brought_by is not None:
                _, studies = self._bringing.setdefault(brought_by, (time.monotonic(), set()))
                studies.add(study)
        if how == "new" and target.stem == study.name:
            how = "unreadable"
        return Taken(how, study)

    def _target_of(self, file: Path) -> Path | None:
        """Where a file belongs, by its UIDs, or its bytes if it says none; None of a result of ours."""
        try:
            instance = instance_in(file)
        except InputError:
            digest = sha256_of(file)[:NAME]
            return self.folder / digest / f"{digest}.dcm"
        return None if instance.ours else self.folder / _hashed(instance.study) / f"{_hashed(instance.uid)}.dcm"

    def _place(self, file: Path, target: Path) -> How:
        if (same := _is_there(target, file)) is not None:
            file.unlink()
            return "again" if same else "conflict"
        made = not target.parent.is_dir()
        target.parent.mkdir(exist_ok=True)
        file.replace(target)
        flush(target.parent)
        if made:
            flush(self.folder)
        return "new"

    def copy(self, file: Path, brought_by: Hashable = None) -> Taken:
        """The same for a file that lies elsewhere and stays there.

        Raises
        ------
        OSError
            When it cannot be read, or the disk is full.
        """
        target = self._target_of(file)
        if target is None:
            return Taken("ours")
        if _is_there(target, file):
            return Taken("again", target.parent)
        draft = self.draft()
        try:
            shutil.copyfile(file, draft)
            return self.take(draft, brought_by)
        finally:
            draft.unlink(missing_ok=True)

    def heard(self, brought_by: Hashable) -> None:
        """Note that something comes by an association."""
        with self._lock:
            _, studies = self._bringing.get(brought_by, (0.0, set()))
            self._bringing[brought_by] = (time.monotonic(), studies)

    def over(self, brought_by: Hashable) -> None:
        """Note that nothing more comes by an association."""
        with self._lock:
            self._bringing.pop(brought_by, None)

    def moving(self, study: Path) -> float:
        """Seconds since something has last come by an association that brought a file of a study; infinite when all ended."""
        with self._lock:
            heard = [when for when, studies in self._bringing.values() if study in studies]
        return time.monotonic() - max(heard) if heard else float("inf")

    def open_studies(self) -> list[Path]:
        """Folders of studies to which something has come since they were :meth:`settled`."""
        with self._lock:
            return sorted(self._open)

    def let_go(self, study: Path, files: Sequence[Path]) -> int:
        """Take away files of a study of which all is said; how many bytes they had, 0 when something has come meanwhile.

        Of all of them it is noted first that they have been there, so that a cut leaves either none or all.
        """
        gone = {file.stem: content_sha256(file) for file in files}
        size = sum(file.stat().st_size for file in files)
        with self._lock:
            if study in self._open:
                return 0
            write_whole(study / GONE, json.dumps(_gone_from(study) | gone, sort_keys=True))
            _unlink(files)
        flush(study)
        return size

    def settled(self, study: Path, files: int) -> None:
        """Note that all is said of a study with so many files, until another file comes."""
        with self._lock:
            if len([*study.glob("*.dcm")]) == files:
                self._open.discard(study)


def _is_there(target: Path, file: Path) -> bool | None:
    """Whether a file is the one that has its place already, or had it; None when there was none."""
    if target.exists():
        return target.stem == target.parent.name or same_instance(target, file)
    before = _gone_from(target.parent).get(target.stem)
    return None if before is None else before == content_sha256(file)


def _gone_from(study: Path) -> dict[str, str]:
    try:
        said = parsed_json((study / GONE).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _hashed(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:NAME]
