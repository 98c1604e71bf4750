"""Which channel is CH2 and which CH3: one vocabulary of words, wavelengths and positions for DICOM, TIFF and folders.

Words decide: a Raman shift, the name of the stretch, or what it shows (lipid; protein, nuclei). Wavelengths decide where no
word does and two of them fit one pump. A file that names nothing is taken in its order. Names that stand and are not
understood, or contradict each other, are a question, for a pair that is swapped looks like another tissue.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS

SHIFT_TOLERANCE = 25.0
"""cm-1: microscopes tune CH2 to 2840..2855 and CH3 to 2920..2950."""

PUMPS_NM = (780.0, 810.0)
"""Pump wavelengths that a pair of Stokes wavelengths may imply; 790 (NIO) and 797 nm are met."""

STOKES_NM = (1000.0, 1064.0)
"""Stokes wavelengths that a pair of pump wavelengths may imply: lasers of 1031, 1040 and 1064 nm."""

ChannelOption = str | Sequence[str | int]
"""What a caller says of a file's channels, see :func:`decide_channels`."""

_WORD_OF_NAME = re.compile(
    r"(?:^|[ _.-])(?:(?:ch[ _-]?[23]|2[89]\d\d(?:[ _-]?cm-?1)?|lipids?|proteins?|nuclei))(?=$|[ _.-])", re.IGNORECASE
)
_BOTH = -1
_MOST_TEXT = 20_000  # characters of a text that are looked at
_SHOWN = 80  # characters of what is said of a channel; a description may be long
_NEITHER = {"-", "", "none", "other"}
_SHIFT = re.compile(r"(?<![\d.])2[,'’]?[89]\d\d(?:\.\d+)?(?!\d)(?!\s*[nuµμ]m\b)")
_WITH_UNIT = re.compile(r"(?<![\d.,'’])(\d{3,4}(?:\.\d+)?)\s*(?:cm\s*\^?-1|1/cm|/cm)")
_STRETCH = re.compile(r"(?<![a-z0-9])ch[\s_^-]{0,2}([23])(?![a-z0-9])")
_SHOWS = (
    re.compile(r"(?<![a-z])(?:lipid|lipids|lipidic)(?![a-z])"),
    re.compile(r"(?<![a-z])(?:protein|proteins|nucleus|nuclei|nuclear)(?![a-z])"),
)
_MARKUP = re.compile(r"</?su[bp]>|[{}$]|\\rm|\\text")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_THIN_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})")
_DASHES = re.compile(r"[\u2010-\u2015\u2212\ufe63\uff0d]")
_DETECTOR = re.compile(r"(?<![a-z0-9])ch[\s_:-]*\d+\W*$")
_POSITION = re.compile(
    r"(?<![a-z])(?:c|ch|chan|channel|channels|kanal|canal|image|page|plane|slice|frame|band|layer|sample)(?![a-z])"
)
_INDEX = re.compile(r"(?<![a-z0-9])[czt]:(\d+)(?:/\d+)?")


@dataclass(frozen=True)
class ChannelStatement:
    """What a file says of one of its channels: its ``words`` (names, descriptions, codes) and its wavelength in nm."""

    words: tuple[str, ...] = ()
    wavelength_nm: float | None = None

    def __str__(self) -> str:
        said = " ".join(dict.fromkeys(word.strip() for word in self.words if word.strip()))
        said = said if len(said) <= _SHOWN else f"{said[: _SHOWN - 1]}…"
        wavelength = "" if self.wavelength_nm is None else f"{self.wavelength_nm:g} nm"
        return " ".join(part for part in (repr(said) if said else "", wavelength) if part) or "nothing"


@dataclass(frozen=True)
class ChannelOrder:
    """Places (from 0) of CH2 and CH3 among a file's channels, and why these; ``notes`` are what a result must carry."""

    places: tuple[int, int]
    why: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        ch2, ch3 = (place + 1 for place in self.places)
        return f"CH2 is channel {ch2}, CH3 is channel {ch3}: {self.why}"


_AS_THEY_LIE = ChannelOrder((0, 1), "in the file's order, which names neither")


def answer(n_channels: int) -> str:
    """How a caller answers the question which of a file's channels is which."""
    if n_channels == len(CHANNELS):
        return "--channels CH2,CH3 or --channels CH3,CH2, as they lie in the file"
    rest = ",-" * (n_channels - len(CHANNELS))
    return f"--channels with CH2, CH3 or - for each in the file's order, such as CH2,CH3{rest}"


def stokes_nm(raman_shift: float, pump_nm: float) -> float:
    """Stokes wavelength in nm that excites ``raman_shift`` (cm-1) with a pump of ``pump_nm``."""
    return 1e7 / (1e7 / pump_nm - raman_shift)


def channel_in_words(text: str) -> int | None:
    """The channel (0 CH2, 1 CH3) that a text names by Raman shift, stretch or what it shows; ``None`` for none or both.

    Sub- and superscripts, ``CH-3``, ``2,930``, markup (``CH<sub>3</sub>``, ``CH$_3$``) and ImageJ's escapes are understood.
    """
    named = _named(text)
    return next(iter(named)) if len(named) == 1 else None


def without_channel(name: str) -> str:
    """A name without the word that names its channel; two files of one image differ in it alone."""
    return _WORD_OF_NAME.sub("", name)


def plain_dashes(text: str) -> str:
    """A text whose dashes and minus signs are all ASCII's."""
    return _DASHES.sub("-", text)


def _plain(text: str) -> str:
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text.lower())
    text = _THIN_SPACE.sub("", text)
    text = plain_dashes(unicodedata.normalize("NFKC", text)).lower()
    return _MARKUP.sub("", text)


@lru_cache(maxsize=256)  # asked of a channel's words several times in one reading
def _named(text: str) -> frozenset[int]:
    text = _plain(text[:_MOST_TEXT])
    named = {int(match) - 2 for match in _STRETCH.findall(text)}
    for number in _SHIFT.findall(text):
        named |= {
            c for c, shift in enumerate(RAMAN_SHIFTS) if abs(float(re.sub("[^0-9.]", "", number)) - shift) <= SHIFT_TOLERANCE
        }
    named |= {channel for channel, shows in enumerate(_SHOWS) if shows.search(text)}
    if named and any(not _is_ours(float(number)) for number in _WITH_UNIT.findall(text)):
        return frozenset((0, 1))  # CH2 at 2885 cm-1: one of both is not true
    return frozenset(named)


def _is_ours(shift: float) -> bool:
    return any(abs(shift - ours) <= SHIFT_TOLERANCE for ours in RAMAN_SHIFTS)


def _understood(statement: ChannelStatement) -> str:
    """What of a channel's words is of the vocabulary; the rest may name a patient."""
    text = _plain(" ".join(statement.words))
    found = [match[0] for pattern in (_SHIFT, _STRETCH, *_SHOWS) if (match := pattern.search(text))]
    return " ".join(found)


def channel_of_words(words: Sequence[str]) -> int | None:
    """The channel that several texts about one channel name; ``None`` for none, -1 when together they name both."""
    named: set[int] = set().union(*map(_named, (*words, "; ".join(words))))
    return None if not named else _BOTH if len(named) > 1 else named.pop()


def decide_channels(
    stated: Sequence[ChannelStatement], asked: ChannelOption | None, path: Path | None, *, in_order: bool = True
) -> ChannelOrder:
    """Which of a file's channels are CH2 and CH3.

    Parameters
    ----------
    stated
        What the file says of each channel, in its order.
    asked
        What the caller says: for each channel of the file in its order CH2, CH3 or ``-`` (``"CH3,CH2"``), or the positions
        (from 1: ``"2,1"``) or the file's names of CH2 and CH3, in this order. The caller's word goes before the file's, and
        a contradiction is noted.
    path
        The file, for the message.
    in_order
        Whether two channels of which nothing is said are CH2 and CH3 in the file's order.

    Raises
    ------
    InputError
        When names are not understood, contradict each other, or ``asked`` does not fit the file.
    """
    if asked is None:
        return _decide(stated, path, in_order)
    places = _asked(asked, stated, path)
    try:
        own = _decide(stated, path, in_order=False)
    except InputError:
        own = None
    words = ",".join(map(str, asked)) if not isinstance(asked, str) else asked
    notes: tuple[str, ...] = ()
    if own is not None and own.places != places:
        notes = (f"channels {words} stated by the caller, where the file says {own.why}",)
    return ChannelOrder(places, f"as the caller says ({words})", notes)


def _decide(stated: Sequence[ChannelStatement], path: Path | None, in_order: bool) -> ChannelOrder:
    if in_order and len(stated) == 2 and all(one == ChannelStatement() for one in stated):
        return _AS_THEY_LIE
    named = [channel_of_words(statement.words) for statement in stated]
    if named.count(0) == 1 and named.count(1) == 1:
        order = named.index(0), named.index(1)
        if _by_wavelength(stated) == order[::-1]:
            found = f"channels whose words and wavelengths disagree ({_said(stated)})"
            raise InputError(found, answer(len(stated)), path)
        return ChannelOrder(order, f"by name ({_understood(stated[order[0]])} and {_understood(stated[order[1]])})")
    if named.count(0) > 1 or named.count(1) > 1:
        raise InputError(f"two channels of one Raman shift ({_said(stated)})", answer(len(stated)), path)
    if _BOTH in named:
        raise _question(stated, path)
    known = [channel for channel in named if channel is not None]
    by_wavelength = _by_wavelength(stated)
    if known and by_wavelength is not None and all(named[place] in (None, c) for c, place in enumerate(by_wavelength)):
        words = " and ".join(filter(None, (_understood(stated[place]) for place in by_wavelength)))
        return ChannelOrder(by_wavelength, f"by name ({words}) and wavelength")
    if known:
        if in_order and len(stated) == 2 and _other_is_free(stated, named):
            places = (0, 1) if known[0] == named.index(known[0]) else (1, 0)
            return ChannelOrder(places, f"by the one that is named ({_understood(stated[named.index(known[0])])})")
        raise _question(stated, path)
    if by_wavelength is not None:
        return ChannelOrder(
            by_wavelength, f"by wavelength ({' and '.join(f'{stated[place].wavelength_nm:g} nm' for place in by_wavelength)})"
        )
    if in_order and len(stated) == 2 and _says_nothing(stated):
        return _AS_THEY_LIE
    raise _question(stated, path)


def _question(stated: Sequence[ChannelStatement], path: Path | None) -> InputError:
    said = _said(stated)
    unnamed = all(str(statement) == "nothing" for statement in stated)
    found = f"{len(stated)} channels without names" if unnamed else f"channels that do not say which is CH2 and CH3 ({said})"
    return InputError(found, answer(len(stated)), path)


def _said(stated: Sequence[ChannelStatement]) -> str:
    return " and ".join(map(str, stated))


def _by_wavelength(stated: Sequence[ChannelStatement]) -> tuple[int, int] | None:
    """Places of CH2 and CH3 where exactly one pair of wavelengths is that of both stretches with one pump or Stokes line."""
    fitting = []
    for low, ch2 in enumerate(stated):
        for high, ch3 in enumerate(stated):
            if ch2.wavelength_nm and ch3.wavelength_nm and _fit_one_laser(ch2.wavelength_nm, ch3.wavelength_nm):
                fitting.append((low, high))
    return fitting[0] if len(fitting) == 1 else None


def _fit_one_laser(ch2_nm: float, ch3_nm: float) -> bool:
    """Whether two wavelengths are the Stokes lines of CH2 and CH3 for one pump, or their pumps for one Stokes line."""
    if not (ch2_nm > 0 and ch3_nm > 0):
        return False
    wave2, wave3 = 1e7 / ch2_nm, 1e7 / ch3_nm
    distance = RAMAN_SHIFTS[1] - RAMAN_SHIFTS[0]
    pump = 2e7 / (wave2 + RAMAN_SHIFTS[0] + wave3 + RAMAN_SHIFTS[1])
    if PUMPS_NM[0] <= pump <= PUMPS_NM[1] and abs(wave2 - wave3 - distance) <= SHIFT_TOLERANCE:
        return True
    of_stokes = wave2 - RAMAN_SHIFTS[0] + wave3 - RAMAN_SHIFTS[1]
    in_range = of_stokes > 0 and STOKES_NM[0] <= 2e7 / of_stokes <= STOKES_NM[1]
    return in_range and abs(wave3 - wave2 - distance) <= SHIFT_TOLERANCE


def _other_is_free(stated: Sequence[ChannelStatement], named: Sequence[int | None]) -> bool:
    """Whether the unnamed one of two channels may be the other: it says nothing, or a position that the named one cannot be.

    Of ``Ch1`` and ``Ch2`` the second may be the second detector or the CH2 stretch.
    """
    unnamed, known = stated[named.index(None)], stated[1 - named.index(None)]
    words = _plain(" ".join(unnamed.words)).strip()
    if not words:
        return unnamed.wavelength_nm is None
    ordinal = not re.search(r"[a-z]|\d{3}", _POSITION.sub("", words))
    detector = _DETECTOR.search(_plain(" ".join(known.words)))
    return ordinal and not detector


def _says_nothing(stated: Sequence[ChannelStatement]) -> bool:
    """Whether channels say no more than their positions, in ascending order, or all the same."""
    if any(statement.wavelength_nm is not None for statement in stated):
        return False
    numbers, rests = [], set()
    for statement in stated:
        words = _plain(" ".join(statement.words)).strip()
        indexes = _INDEX.findall(words)
        rest = _INDEX.sub("", words).strip(" -")
        if not re.search(r"[a-z]|\d{3}", _POSITION.sub("", rest)):  # 28450 is no position
            indexes, rest = indexes + re.findall(r"\d+", rest), ""
        numbers.append(tuple(map(int, indexes)))
        rests.add(rest)
    ascending = len(set(numbers)) == 1 or all(a < b for a, b in pairwise(numbers))
    return len(rests) == 1 and ascending


def _asked(asked: ChannelOption, stated: Sequence[ChannelStatement], path: Path | None) -> tuple[int, int]:
    items = re.split(r",(?!\d{3}(?!\d))", asked) if isinstance(asked, str) else list(asked)
    words = [str(item).strip() for item in items]
    said = ",".join(words)
    if all(word.isdigit() and len(word) < 4 for word in words):
        places = [int(word) - 1 for word in words]
        if len(places) != 2 or len(set(places)) != 2 or not all(0 <= place < len(stated) for place in places):
            raise InputError(f"--channels {said} for {len(stated)} channels", "two positions among them, CH2's first", path)
        return places[0], places[1]
    named = [channel_in_words(word) for word in words]
    if all(channel is not None or word.lower() in _NEITHER for channel, word in zip(named, words, strict=True)):
        if len(named) != len(stated) or named.count(0) != 1 or named.count(1) != 1:
            needed = "one word a channel: CH2 once, CH3 once, '-' for any other"
            raise InputError(f"--channels {said} for {len(stated)} channels", needed, path)
        return named.index(0), named.index(1)
    found = []
    for word in words:
        of_name = [i for i, one in enumerate(stated) if word.lower() in {name.strip().lower() for name in one.words}]
        if len(of_name) != 1 or len(words) != 2:
            names = " and ".join(map(str, stated))
            raise InputError(f"--channels {said} where the file says {names}", answer(len(stated)), path)
        found += of_name
    if found[0] == found[1]:
        raise InputError(f"--channels {said}, twice the same", f"{CHANNELS[0]}'s name and {CHANNELS[1]}'s", path)
    return found[0], found[1]
