"""Tables as spreadsheets write them: CSV in UTF-8 with commas, semicolons or tabs."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from srh_clinic.errors import InputError

SEPARATORS = (",", ";", "\t")

SEPARATOR_LINE = re.compile('"?sep=([,;\t])"?', re.IGNORECASE)

DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")


NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")
"""What shows nothing and is no format character either: joiners, fillers, variation selectors."""

DASHES = re.compile("[\u2010-\u2015\u2043\u2212\ufe58]")


@dataclass(frozen=True)
class TableLine:
    """A row of the file before it is anything: the line that it begins in, and its cells."""

    line: int
    cells: list[str]


def read_lines(path: Path, needed: str, columns: Collection[str]) -> tuple[list[TableLine], str]:
    """The file's rows from the first that is not empty, whichever of :data:`SEPARATORS` it is written with, and its sha256.

    Parameters
    ----------
    needed
        What it should have been, for the error.
    columns
        Names that its header may have: the separator is what stands between most of them.

    Raises
    ------
    InputError
        When it cannot be read, is no CSV in UTF-8, or is empty.
    """
    try:
        content = path.read_bytes()
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(error.strerror or str(error), "a manifest that can be read", path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"a file that is not CSV in UTF-8 ({error})", needed, path) from error
    text, stated = _without_separator_line(text)
    head = text.lstrip("\r\n").partition("\n")[0].lower()
    separator = stated or max(SEPARATORS, key=lambda one: sum(name.strip(' "\r') in columns for name in head.split(one)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, line = [], 1
    try:
        for cells in reader:
            if swallowed := next((cell for cell in cells if any(row.count(separator) > 1 for row in _rows_in(cell))), None):
                raise csv.Error(f"{len(_rows_in(swallowed))} lines of cells in one, which begins with {swallowed[:20]!r}")
            lines.append(TableLine(line, [_decimal(cell) for cell in cells] if separator != "," else cells))
            line = reader.line_num + 1
    except csv.Error as error:
        # A quote that is not closed would swallow the rows up to the next one, without a word.
        raise InputError(
            f"a cell from line {line} on that is no CSV ({error})", f"{needed}, each quote closed", path
        ) from error
    while lines and not any(cell.strip() for cell in lines[0].cells):
        lines.pop(0)
    if not lines:
        raise InputError("an empty file", needed, path)
    return lines, hashlib.sha256(content).hexdigest()


def _rows_in(cell: str) -> list[str]:
    """The lines of a cell that has several, as one has that a quote has opened and the next row's quote has closed."""
    lines = cell.splitlines()
    return lines if len(lines) > 1 else []


def _without_separator_line(text: str) -> tuple[str, str]:
    """The text with an empty line for the ``sep=;`` that spreadsheets read first, and the separator that it states."""
    first, end, rest = text.partition("\n")
    stated = SEPARATOR_LINE.fullmatch(first.strip("\r"))
    return (text, "") if stated is None else (end + rest, stated[1])


def _decimal(cell: str) -> str:
    """A number with a decimal comma, as spreadsheets write it where columns are not separated by commas."""
    return cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell


def spelling_key(label: str) -> str:
    """What labels have in common that differ only in case, blanks, invisible characters, the form of accents, dashes and
    digits, leading zeros, a decimal part of nothing but zeros, or the apostrophe by which spreadsheets keep a text: ``"P01"``,
    ``"p 1"`` and ``"P1\\u200b"`` are one.
    """
    text = DASHES.sub("-", UNSEEN.sub("", unicodedata.normalize("NFKC", label)))
    shown = "".join(_digit(one) for one in text if unicodedata.category(one) not in ("Cf", "Cc"))
    text = "".join(unicodedata.normalize("NFC", shown.casefold()).split()).lstrip("'")
    if NUMBER.fullmatch(text):
        return str(Decimal(text).normalize())
    return LEADING_ZEROS.sub("", text)


def _digit(character: str) -> str:
    """A digit of any script as 0 to 9; any other character as it is."""
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)
