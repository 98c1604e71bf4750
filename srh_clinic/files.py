"""Files that are whole when they exist, and fingerprints of what they depend on.

Everything is written under a name that no other run uses, flushed to the disk and then renamed, so that neither a cut nor a
power failure leaves half a file under a name that somebody reads. Modes follow the umask of the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError


def draft_of(path: Path) -> Path:
    """A name beside ``path`` for what is not whole yet; hidden, and never that of another run."""
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft to write a file in, which takes the name ``path`` when all of it is written; if that fails, it is gone.

    Its folder is made when there is none.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
    OSError
        When ``path`` is there and not an empty folder, or cannot be written.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
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
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write files in that move into ``folder`` when all of them are written; if that fails, none of them does.

    Raises
    ------
    OSError
        When ``folder`` cannot be written; one that was not there before is not left behind empty.
    """
    was_there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".writing-{secrets.token_hex(4)}"
    try:
        draft.mkdir()
        yield draft
        files = sorted(draft.iterdir())
        for file in files:
            flush(file)
        for file in files:
            file.replace(folder / file.name)
        flush(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if not was_there and not any(folder.iterdir()):
            folder.rmdir()
        raise
    draft.rmdir()


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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(out: Path, *, folder: bool) -> None:
    """Refuse a place that cannot be written before hours of work, not after.

    Parameters
    ----------
    folder
        Whether ``out`` is to be a folder, not a file.

    Raises
    ------
    InputError
        When it is the other of the two, lies below a file, or may not be written by this user.
    """
    if out.exists() and out.is_dir() != folder:
        raise InputError("a file" if folder else "a folder", "a folder's name" if folder else "a file's name", out)
    above = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if above.is_file() and above != out.absolute():
        raise InputError("a file", f"a folder to put {out.name} in", above)
    if not os.access(above if above.is_dir() else above.parent, os.W_OK):
        raise InputError("no permission to write", "a folder that this user may write to", above)
