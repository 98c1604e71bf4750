"""Files that are whole when they exist, and fingerprints of what they depend on.

Everything is written under a name that no other run uses, flushed to the disk and then renamed, so that neither a cut nor a
power failure leaves half a file under a name that somebody reads. Modes follow the umask of the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from srh_clinic.errors import BusyError, InputError

_CLAIMED: ContextVar[frozenset[Path]] = ContextVar("claimed", default=frozenset())
"""Places that this thread of work has claimed: what it calls may claim them again."""


def draft_of(path: Path) -> Path:
    """A name beside ``path`` for what is not whole yet; hidden, and never that of another run."""
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


@contextmanager
def telling_of(path: Path, draft: Path) -> Iterator[None]:
    """Tell of ``path`` what is told of its draft, or of a file within: the draft is gone when somebody reads that."""
    try:
        yield
    except InputError as error:
        if error.path is None or draft.absolute() not in (error.path.absolute(), *error.path.absolute().parents):
            raise
        raise type(error)(error.found, error.needed, path) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft to write a file in, which takes the name ``path`` when all of it is written; if that fails, it is gone.

    Its folder is made when there is none. Where this run has claimed the file or a folder around it (:func:`claimed`), the
    drafts of runs that died are cleared away.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Path(os.path.realpath(path))
    if _CLAIMED.get().intersection((place, *place.parents)):
        for dead in _drafts(path):
            dead.unlink()
    draft = draft_of(path)
    try:
        yield draft
        flush(draft)
        draft.replace(path)
        flush(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to write in, which takes the name ``path`` when all of it is written; if that fails, it is gone.

    Raises
    ------
    InputError
        When another run writes there now, see :func:`claimed`.
    OSError
        When ``path`` is there and not an empty folder, or cannot be written.
    """
    path = path.absolute()
    with claimed(path):
        draft = draft_of(path)
        draft.mkdir()
        try:
            yield draft
            for below in (*draft.rglob("*"), draft):
                flush(below)
            if path.exists():
                path.rmdir()
            draft.replace(path)
            flush(path.parent)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


@contextmanager
def whole_files(folder: Path, last: str, ours: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to write files in that move into ``folder`` when all of them are written; if that fails, none of them does.

    Files cannot move all at once, so one of them says that the others are there: ``last`` is taken away first and comes last.
    Where it stands, whatever the disk or the process went through, everything is of one run.

    Parameters
    ----------
    last
        Name of that file.
    ours
        Names of files that an earlier run may have left in ``folder``: those that this one does not write are removed.

    Raises
    ------
    InputError
        When another run writes there now, see :func:`claimed`.
    OSError
        When ``folder`` cannot be written; one that was not there before is not left behind empty.
    """
    was_there = folder.is_dir()
    with claimed(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for dead in folder.glob(".writing-*"):
            shutil.rmtree(dead, ignore_errors=True)
        draft = folder / f".writing-{secrets.token_hex(4)}"
        try:
            draft.mkdir()
            yield draft
            files = sorted(draft.iterdir(), key=lambda file: (file.name == last, file.name))
            for file in files:
                flush(file)
            (folder / last).unlink(missing_ok=True)
            flush(folder)
            for name in {*ours} - {file.name for file in files}:
                (folder / name).unlink(missing_ok=True)
            for file in files:
                if file.name == last:
                    flush(folder)
                file.replace(folder / file.name)
            flush(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            if not was_there and not any(folder.iterdir()):
                folder.rmdir()
            raise
        draft.rmdir()


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other runs from writing the file or folder ``path``, and clear away the drafts of runs that died there.

    A file ``.NAME.lock`` beside it, locked by this process for as long as it lives, says who writes; it is gone afterwards,
    and that of a dead process is taken over. What this run calls may claim the same place again.

    Raises
    ------
    BusyError
        When another run has claimed it.
    InputError
        When the lock is a link.
    OSError
        When the folder around it cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path in _CLAIMED.get():
        yield
        return
    made = [parent for parent in path.parents if not parent.exists()]
    handle, lock = _lock(path)
    token = _CLAIMED.set(_CLAIMED.get() | {path})
    try:
        for dead in _drafts(path):
            (shutil.rmtree if dead.is_dir() and not dead.is_symlink() else os.unlink)(dead)
        yield
    finally:
        _CLAIMED.reset(token)
        lock.unlink(missing_ok=True)
        os.close(handle)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def beside(path: Path, name: str) -> Path:
    """A hidden name of ours for something about ``path``: beside it or, where nothing may be written there, inside it."""
    if path.is_dir() and (path.parent == path or not os.access(path.parent, os.W_OK)):
        return path / f".{name}"
    return path.with_name(f".{path.name}.{name}")


def require_no_link(*paths: Path) -> None:
    """Refuse a link where a run keeps what it goes on from: following it would write over somebody's file.

    Raises
    ------
    InputError
        When one of ``paths`` is a symbolic link, or a file that has a second name.
    """
    for path in paths:
        if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
            raise InputError("a link to something else", "no link where a run keeps its unfinished work; remove it", path)


def _drafts(path: Path) -> list[Path]:
    """What :func:`draft_of` named for ``path`` and a dead run has left."""
    ours = re.compile(rf"\.{re.escape(path.name)}-[0-9a-f]{{8}}")
    return [found for found in path.parent.iterdir() if ours.fullmatch(found.name)]


def _lock(path: Path) -> tuple[int, Path]:
    """The locked file of a place, open, and its name."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = beside(path, "lock")
        require_no_link(lock)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run before may have taken its file away between opening and locking: then this one locks nothing.
            if lock.exists() and os.fstat(handle).st_ino == lock.stat().st_ino:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return handle, lock
        except BlockingIOError:
            who = os.pread(handle, 300, 0).decode(errors="replace") or "another process"
            os.close(handle)
            raise BusyError(f"a run that writes there now ({who})", "to wait for its end, or another name", path) from None
        os.close(handle)


def write_whole(path: str | Path, content: bytes | str, what: str = "it") -> Path:
    """Write a file whole or not at all, and return its path; text is written as UTF-8, and ``what`` it is named in errors.

    Raises
    ------
    InputError
        When its folder cannot be written.
    """
    path = Path(path)
    try:
        with whole_file(path) as draft:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InputError(error.strerror or str(error), f"room and permission to write {what}", path.parent) from error
    return path


def append_lines(path: Path, lines: str) -> None:
    """Append whole lines to a log; one that a full disk has torn before stands on a line of its own.

    Raises
    ------
    OSError
        When they cannot be written.
    """
    torn = False
    if path.is_file() and path.stat().st_size:  # a pipe or a terminal has no end to look at
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
    with path.open("ab") as file:
        file.write(b"\n" * torn + lines.encode())


def flush(path: Path) -> None:
    """Have a file or the names in a folder on the disk before anything that comes after."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fingerprint(**depends_on: Any) -> str:
    """One name, 16 hexadecimal digits, for everything that a result depends on."""
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()[:16]


def parsed_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What JSON says; ``pairs`` makes what stands for each of its objects, a dictionary when None.

    Raises
    ------
    ValueError
        When it is none, not text, nested deeper than Python follows, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_new_folder(out: Path) -> None:
    """Refuse the name of a file, or of a folder that holds something.

    Raises
    ------
    InputError
        When ``out`` is one.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("an existing file or folder", "a name that is not taken", out)


def check_place(out: Path, *, folder: bool) -> None:
    """Refuse a place that cannot be written before hours of work, not after.

    Parameters
    ----------
    folder
        Whether ``out`` is to be a folder, not a file.

    Raises
    ------
    InputError
        When it is the other of the two, a link to nothing, lies below a file, or may not be written by this user.
    """
    if out.is_symlink() and not out.exists():
        raise InputError("a link to nothing", f"a {'folder' if folder else 'file'}'s name that is no broken link", out)
    if out.exists() and out.is_dir() != folder:
        raise InputError("a file" if folder else "a folder", "a folder's name" if folder else "a file's name", out)
    above = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if above.is_file() and above != out.absolute():
        raise InputError("a file", f"a folder to put {out.name} in", above)
    if not os.access(above if above.is_dir() else above.parent, os.W_OK):
        raise InputError("no permission to write", "a folder that this user may write to", above)
