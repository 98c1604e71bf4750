"""Which files of a folder are the strips of an NIO imager, which of them belong together, and which is missing.

Three layouts are met:

* ``strips/CH2/IMG00006.dcm`` and ``strips/CH3/IMG00007.dcm``: numbers in steps of 5 within a channel, CH3's one above CH2's;
* ``img<mosaic>_<strip>_<hash>.dcm`` in one folder, or in one for each channel;
* ``<case>_<specimen>_<number>.dcm`` in one folder.

In one folder channels alternate, CH2 first. A strip that is missing would make every later one change its channel: so numbers
have to be whole, from the first to the last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_file import read_header
from srh_clinic.integration.places import files_in

NEEDED = "all strips of both channels, each once, numbered as the imager numbers them"

_STEP = 5
"""Between two strips of one channel, as the imager counts images."""

_STEPS = (1, 2, _STEP)
_COUNTED = re.compile(r"img(?P<number>\d+)(?P<rest>(?:\D.*)?)$", re.IGNORECASE)
_MOSAIC = re.compile(r"img(?P<mosaic>\d+)_(?P<number>\d+)_.+$", re.IGNORECASE)
_CASE = re.compile(r"(?P<case>.+_.+)_(?P<number>\d+)$")
_LOOKED_AT = 4  # files of a folder whose headers say that they are no strips
_MARKS = ("TotalPixelMatrixRows", "SOPClassUID")


@dataclass(frozen=True)
class StripFiles:
    """The files of a mosaic.

    Attributes
    ----------
    layout
        How they lie, in words.
    pairs
        CH2's and CH3's file of each strip, from left to right.
    """

    layout: str
    pairs: tuple[tuple[Path, Path], ...]


@dataclass(frozen=True)
class _Numbered:
    number: int
    group: str
    """The mosaic or the case that a name tells."""
    file: Path
    counted: bool
    """Whether it is numbered as the imager counts its images, in steps of :data:`_STEP`."""


def strip_files(folder: Path) -> StripFiles | None:
    """The strips in a folder, ``None`` when it holds none.

    Raises
    ------
    InputError
        When a strip is missing, there twice or out of its number, or a file beside them is none.
    """
    base, channels = _base(folder)
    if channels is not None:
        ch2, ch3 = (_named(_dicoms(one)) for one in channels)
        _check_once([*ch2], channels[0])
        _check_once([*ch3], channels[1])
        return StripFiles("strips of an NIO imager, a folder for each channel", _pairs_of_folders(ch2, ch3, base))
    dicoms = _dicoms(folder)
    if len(dicoms) < 2 or sum(_number_of(file) is not None for file in dicoms) * 2 <= len(dicoms):
        return None
    if any(_is_whole_slide(file) for file in dicoms[:_LOOKED_AT]):
        return None
    strips = _named(dicoms)
    _check_once(strips, folder)
    if len(groups := sorted({strip.group for strip in strips})) > 1:
        raise InputError(f"strips of {len(groups)} mosaics ({', '.join(groups[:4])})", "a folder for each mosaic", folder)
    return StripFiles("strips of an NIO imager, channels in turn", _pairs_in_turn(strips, folder))


def _base(folder: Path) -> tuple[Path, tuple[Path, Path] | None]:
    """The folder of the strips, and those of both channels in it where each has one."""
    below = _folders(folder)
    if "strips" in below:
        folder, below = below["strips"], _folders(below["strips"])
        if not below and not _dicoms(folder):
            raise InputError("a folder for strips of an NIO imager without any", NEEDED, folder)
    there = [name for name in ("ch2", "ch3") if name in below]
    if len(there) == 1:
        raise InputError(f"a folder of strips of {there[0].upper()} alone", "CH2 and CH3", folder)
    return folder, (below["ch2"], below["ch3"]) if there else None


def _folders(folder: Path) -> dict[str, Path]:
    try:
        return {item.name.lower(): item for item in sorted(folder.iterdir()) if item.is_dir()}
    except OSError as error:
        raise InputError(f"a folder that cannot be read ({error.strerror})", "a readable folder", folder) from error


def _dicoms(folder: Path) -> list[Path]:
    return [file for file in files_in(folder) if file.suffix.lower() == ".dcm"]


def _number_of(file: Path) -> _Numbered | None:
    """What a name says; ``None`` for one that says no number."""
    if match := _MOSAIC.match(file.stem):
        return _Numbered(int(match["number"]), match["mosaic"], file, False)
    if match := _COUNTED.match(file.stem):
        return _Numbered(int(match["number"]), "", file, True)
    if match := _CASE.match(file.stem):
        return _Numbered(int(match["number"]), match["case"], file, False)
    return None


def _named(files: Sequence[Path]) -> list[_Numbered]:
    """Strips in the order of their numbers."""
    strips = []
    for file in files:
        strip = _number_of(file)
        if strip is None:
            needed = "IMG<number>.dcm, img<mosaic>_<strip>_<hash>.dcm or <case>_<specimen>_<number>.dcm, and nothing else"
            raise InputError("a name that says no number of a strip, among strips of an NIO imager", needed, file)
        strips.append(strip)
    return sorted(strips, key=lambda strip: strip.number)


def _is_whole_slide(file: Path) -> bool:
    """Whether a file is a whole slide image, whose names may look like those of strips; one that is damaged is none."""
    try:
        return read_header(file, list(_MARKS)).header.get("TotalPixelMatrixRows") is not None
    except InputError:
        return False


def _check_once(strips: Sequence[_Numbered], folder: Path) -> None:
    if not strips:
        raise InputError("a folder for strips of an NIO imager without DICOM files", NEEDED, folder)
    for one, other in pairwise(strips):
        if one.number == other.number and one.group == other.group:
            found = f"strip {one.number} twice ({one.file.name} and {other.file.name})"
            raise InputError(found, "each strip once", folder)


def _pairs_of_folders(ch2: Sequence[_Numbered], ch3: Sequence[_Numbered], folder: Path) -> tuple[tuple[Path, Path], ...]:
    """Pairs of two folders: CH3's number is CH2's, or one above."""
    if len(groups := {strip.group for strip in (*ch2, *ch3)}) > 1:
        raise InputError(f"strips of {len(groups)} mosaics ({', '.join(sorted(groups)[:4])})", "one mosaic", folder)
    numbers, others = ({strip.number: strip.file for strip in strips} for strips in (ch2, ch3))
    offset = 0 if set(numbers) & set(others) else 1
    for number, file in numbers.items():
        if number + offset not in others:
            raise InputError(f"no strip {number + offset} of CH3 beside {file.name} of CH2", NEEDED, folder)
    for number, file in others.items():
        if number - offset not in numbers:
            raise InputError(f"no strip {number - offset} of CH2 beside {file.name} of CH3", NEEDED, folder)
    _check_steps(ch2, folder)
    return tuple((file, others[number + offset]) for number, file in numbers.items())


def _check_steps(strips: Sequence[_Numbered], folder: Path) -> None:
    """Refuse numbers of one channel that leave one out, begin late, or stand between the others."""
    steps = [after.number - before.number for before, after in pairwise(strips)]
    if not steps:
        return
    step = min(steps)
    if step not in _STEPS:
        step = _STEP
    for (before, after), apart in zip(pairwise(strips), steps, strict=True):
        if apart % step:
            found = f"strip {after.file.name}, {apart} after {before.file.name} where others are {step} apart"
            raise InputError(found, NEEDED, folder)
        if apart > step:
            raise InputError(
                f"no strip {before.number + step} between {before.file.name} and {after.file.name}", NEEDED, folder
            )
    if strips[0].number > step + 1:
        raise InputError(f"no strip {strips[0].number - step} before {strips[0].file.name}, the first", NEEDED, folder)


def _pairs_in_turn(strips: Sequence[_Numbered], folder: Path) -> tuple[tuple[Path, Path], ...]:
    """Pairs of one folder in which channels alternate."""
    numbers = [strip.number for strip in strips]
    if all(strip.counted for strip in strips) and any(after - before > 1 for before, after in pairwise(numbers)):
        expected: Iterable[int] = _counted_numbers(numbers)
    else:
        if numbers[0] > 1:
            raise InputError(f"no strip {numbers[0] - 1} before {strips[0].file.name}, the first", NEEDED, folder)
        expected = range(numbers[0], numbers[0] + 2 * ((numbers[-1] - numbers[0]) // 2 + 1))
    wanted = list(expected)
    names = {strip.number: strip.file.name for strip in strips}
    for at, number in enumerate(wanted):
        if number not in names:
            channel, beside = ("CH2", at + 1) if at % 2 == 0 else ("CH3", at - 1)
            said = f" beside {names[wanted[beside]]}" if wanted[beside] in names else ""
            raise InputError(f"no strip {number} ({channel}){said}", NEEDED, folder)
    if stray := sorted(set(numbers) - set(wanted)):
        raise InputError(f"strip {names[stray[0]]}, whose number stands between those of the others", NEEDED, folder)
    return tuple((one.file, other.file) for one, other in zip(strips[::2], strips[1::2], strict=True))


def _counted_numbers(numbers: Sequence[int]) -> list[int]:
    """Numbers of pairs in steps of :data:`_STEP`, from the first that can be to the last that is there."""
    there = set(numbers)
    of_ch2 = Counter(number % _STEP for number in numbers if number + 1 in there).most_common(1)
    rest = of_ch2[0][0] if of_ch2 else numbers[0] % _STEP
    first = next(number for number in range(numbers[0], numbers[0] - _STEP, -1) if number % _STEP == rest)
    if first > _STEP + 1:
        first -= _STEP
    return [number for ch2 in range(first, numbers[-1] + 1, _STEP) for number in (ch2, ch2 + 1)]
