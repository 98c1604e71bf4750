"""The input does not change under us: what a file was when it was opened is compared before each read and at the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint

HEADER_BYTES = 4096
"""Bytes at a file's start whose hash is kept: a copy that keeps size and time shows itself there."""


@dataclass(frozen=True)
class Snapshot:
    """Size, modification time, inode and hash of the header of a file."""

    size: int
    mtime_ns: int
    inode: int
    header: str

    @classmethod
    def of(cls, path: Path) -> Snapshot:
        """A file as it is now; raises ``OSError`` when it cannot be read."""
        # a pipe that was put in its place would be waited for
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            return cls.of_open(handle)
        finally:
            os.close(handle)

    @classmethod
    def of_open(cls, handle: int) -> Snapshot:
        """The same of a file that is open, at its start, by its descriptor."""
        status = os.fstat(handle)
        start = os.pread(handle, HEADER_BYTES, 0) if hasattr(os, "pread") else os.read(handle, HEADER_BYTES)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, hashlib.blake2b(start, digest_size=16).hexdigest())

    def check(self, path: Path) -> None:
        """Refuse a file that is not what it was.

        Raises
        ------
        InputError
            When it is gone, or another.
        """
        try:
            now = Snapshot.of(path)
        except OSError as error:
            raise InputError(f"a file that cannot be read ({error.strerror})", "the file that was opened", path) from error
        if now != self:
            raise InputError("a file that was changed while it was read", "one that stays as it is; start anew", path)


def content_of(opened: Iterable[tuple[Path, Snapshot]]) -> str:
    """One name for what all files of a slide held when they were opened: another when one of them was changed since."""
    files = [(path.name, one.size, one.mtime_ns, one.header) for path, one in opened]
    return fingerprint(files=sorted(files))
