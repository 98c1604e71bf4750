"""The number of a focal plane in the name of its file: with its sign and its decimals, or a question."""

from __future__ import annotations

import re
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import channel_in_words, plain_dashes, without_channel

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_AFTER_Z = re.compile(r"(?<![a-z])(?:z|depth|focus)[ _=]?([-+]?)(\d+(?:[.,]\d+)?)(?![\d]|p\d)", re.IGNORECASE)
_P_DECIMAL = re.compile(r"\d+p\d+", re.IGNORECASE)


def plane_files(files: list[Path]) -> list[tuple[float, list[Path]]]:
    """The files of each focal plane, by its number: one two-channel file, or CH2's and CH3's.

    Raises
    ------
    InputError
        When a name has no number, two files one, or it is not clear which number is the plane's or what its sign is.
    """
    named = [channel_in_words(file.stem) for file in files]
    apart = set(named) == {0, 1} and len(files) > 2 and named.count(0) == named.count(1)
    stems = [_stem(file, apart) for file in files]
    numbers = _numbers(files, stems)
    if twice := _one_file_twice(files):
        raise InputError(f"one file twice ({twice[0].name} and {twice[1].name})", "one file per focal plane", twice[1])
    planes: dict[float, list[Path]] = {}
    channels: dict[tuple[float, int | None], Path] = {}
    for file, number, channel in zip(files, numbers, named, strict=True):
        other = channels.setdefault((number, channel if apart else None), file)
        if other != file:
            raise InputError(f"the same number as in {other.name}", "one file per focal plane", file)
        planes.setdefault(number, []).append(file)
    if apart and any(len(of_plane) != 2 for of_plane in planes.values()):
        alone = next(of_plane[0] for of_plane in planes.values() if len(of_plane) != 2)
        raise InputError("a focal plane with one channel", "a file of CH2 and one of CH3 for each", alone)
    return [(number, sorted(planes[number], key=lambda file: channel_in_words(file.stem) or 0)) for number in sorted(planes)]


def _one_file_twice(files: list[Path]) -> tuple[Path, Path] | None:
    known: dict[tuple[int, int], Path] = {}
    for file in files:
        status = file.stat()
        other = known.setdefault((status.st_dev, status.st_ino), file)
        if other is not file:
            return other, file
    return None


def _stem(file: Path, apart: bool) -> str:
    stem = plain_dashes(file.stem.removesuffix(".ome"))
    return without_channel(stem) if apart else stem


def _numbers(files: list[Path], stems: list[str]) -> list[float]:
    for file, stem in zip(files, stems, strict=True):
        if not _NUMBER.search(stem):
            raise InputError("a file name without a number", "the number of the focal plane in every name", file)
        if _P_DECIMAL.search(stem):
            raise InputError(f"the number {_P_DECIMAL.search(stem)[0]} in a name", "a decimal point", file)  # type: ignore[index]
    after_z = [_AFTER_Z.findall(stem) for stem in stems]
    if all(len(found) == 1 for found in after_z):
        signed = [(sign, number) for ((sign, number),) in after_z]
        if all(sign == "-" for sign, _ in signed):
            raise InputError(
                "names in which a dash may be a sign or stand between", "z001, or a sign where one is meant", files[0]
            )
        return [float(f"{sign}{number.replace(',', '.')}") for sign, number in signed]
    fields = [
        [(match[0], stem[: match.start()][-1:], stem[: match.start()][-2:-1]) for match in _NUMBER.finditer(stem)]
        for stem in stems
    ]
    at = -1
    if len({len(of_name) for of_name in fields}) == 1 and len({_NUMBER.sub("0", stem) for stem in stems}) == 1:
        differing = [i for i in range(len(fields[0])) if len({of_name[i][0] for of_name in fields}) > 1]
        if len(differing) > 1:
            raise InputError(
                f"{len(differing)} numbers that differ from name to name, the last number too", "one, or z001", files[0]
            )
        at = differing[0] if differing else -1
    dashed = [before == "-" for _, before, _ in (of_name[at] for of_name in fields)]
    if any(dashed) and (not all(dashed) or any(two in ("_", " ", "") for _, _, two in (of_name[at] for of_name in fields))):
        # z-10 beside z0, or scan_-10: a minus; scan-10 alone: a dash between
        return [(-1 if minus else 1) * _value(of_name[at][0]) for minus, of_name in zip(dashed, fields, strict=True)]
    return [_value(of_name[at][0]) for of_name in fields]


def _value(number: str) -> float:
    return float(number.replace(",", "."))
