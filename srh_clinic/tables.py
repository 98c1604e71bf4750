"""Tables as spreadsheets write them: CSV in UTF-8 with commas, semicolons or tabs."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.errors import InputError

SEPARATORS = (",", ";", "\t")

SEPARATOR_LINE = re.compile('"?sep=([,;\t])"?', re.IGNORECASE)

DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d+\s*")


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
