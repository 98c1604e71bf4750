"""Which cases there are: those of a manifest or a folder, and the part of them that one shard does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.cohort.ledger import Enrolled
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.integration.pair import cases_in
from srh_clinic.integration.places import is_left_by_system
from srh_clinic.tables import read_lines

CASE, OTHER = "case", "ch3"
"""Columns of a manifest: the case's file or folder, and CH3's file where each channel has one."""

NEEDED = "a manifest (CSV) with the column case"

NAME = 12
"""Hexadecimal digits of a case's name: of 10,000 cases two have the same one in a run of five million."""


def case_name(title: str) -> str:
    """What a case is called where nobody should know whose it is, by what its manifest, folder or PACS calls it.

    A case of DICOM that came from a PACS is called there by its Series Instance UID.
    """
    return hashlib.sha256(title.encode(errors="surrogateescape")).hexdigest()[:NAME]


@dataclass(frozen=True)
class Listed:
    """A case of a manifest or folder: as it stands there, and its files."""

    title: str
    source: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called where nobody should know whose it is; depends on how it is written there, and on nothing else."""
        return case_name(self.title)

    def enrolled(self) -> Enrolled:
        """The same for the ledger, with what tells that a file has changed."""
        return Enrolled(self.name, self.source, fingerprint(files=[_stamp(Path(file)) for file in self.source]))


@dataclass(frozen=True)
class Shard:
    """The part ``number`` (from 1) of ``of`` parts; each case is in one, whichever others there are."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/7"`` is the third of seven.

        Raises
        ------
        InputError
            When it is none.
        """
        first, stroke, last = text.partition("/")
        if not (stroke and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"the shard {text!r}", "I/N with I from 1 to N, such as 1/4")
        return cls(int(first), int(last))

    @property
    def suffix(self) -> str:
        """What its files are called by; nothing when it is all there is."""
        return "" if self.of == 1 else f"-{self.number}-of-{self.of}"

    def __contains__(self, case: Listed) -> bool:
        return int(case.name, 16) % self.of == self.number - 1


def list_cases(place: Path) -> list[Listed]:
    """The cases of a manifest, a file, or of a folder: each file or folder in it is one, or two TIFFs of a channel each.

    They are in the order of the manifest's rows or of the names in the folder.

    Raises
    ------
    InputError
        When there is none, a case stands there twice, or the manifest cannot be read.
    """
    found = _in_folder(place) if place.is_dir() else _in_manifest(place)
    if not found:
        raise InputError("no case", "files or folders of cases, or rows of a manifest", place)
    return found


def _in_folder(folder: Path) -> list[Listed]:
    try:
        there = sorted(item for item in folder.iterdir() if not item.name.startswith(".") and not is_left_by_system(item.name))
    except OSError as error:
        raise InputError(f"a folder that cannot be read ({error.strerror})", "a readable folder", folder) from error
    cases = [one if isinstance(one, tuple) else (one,) for one in cases_in(there)]
    return [Listed(files[0].name, _absolute(files)) for files in cases]


def _in_manifest(path: Path) -> list[Listed]:
    lines, _ = read_lines(path, NEEDED, (CASE, OTHER, "patient", "truth"))
    header = [name.strip().lower() for name in lines[0].cells]
    if header.count(CASE) != 1:
        raise InputError(f"{'no' if CASE not in header else 'more than one'} column {CASE}", NEEDED, path)
    cases: list[Listed] = []
    seen: dict[str, int] = {}
    for one in lines[1:]:
        if not any(cell.strip() for cell in one.cells):
            continue
        cells = dict(zip(header, (cell.strip() for cell in one.cells), strict=False))
        title, other = cells.get(CASE, ""), cells.get(OTHER, "")
        if len(one.cells) < len(header) or not title:
            raise InputError(f"no case in line {one.line}" if not title else f"too few cells in line {one.line}", NEEDED, path)
        files = _absolute([path.parent / name for name in (title, other) if name])
        if "\0" in title + other:
            raise InputError(f"a name that no file can have in line {one.line}", NEEDED, path)
        for file in map(os.path.realpath, files):
            if file in seen:
                raise InputError(f"one image in lines {seen[file]} and {one.line}", "each image once", path)
            seen[file] = one.line
        cases.append(Listed(title, files))
    return cases


def _absolute(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(file.absolute()) for file in files)


def _stamp(path: Path) -> object:
    """Size and time of change of a file, or of every file below a folder; nothing is opened."""
    try:
        if path.is_dir():
            return [(str(file.relative_to(path)), _of_file(file)) for file in _files_below(path)]
        return _of_file(path)
    except (OSError, ValueError):  # the run says why the case cannot be read
        return None


def _files_below(folder: Path) -> Iterable[Path]:
    return sorted(Path(root) / name for root, _, names in os.walk(folder) for name in names)


def _of_file(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def of_shard(cases: Collection[Listed], shard: Shard) -> list[Listed]:
    """The cases that a shard does, which may be none."""
    return [case for case in cases if case in shard]
