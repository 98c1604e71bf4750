"""Sections and reports as one self-contained HTML page, and tables as CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from srh_clinic.escaping import csv_text, page_text
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.files import write_whole
from srh_clinic.validation.reporting.report import Report, Section, Table, write_report

TEMPLATES = Path(__file__).parent


def write_reports(reports: Sequence[Report], out: Path, name: str, title: str, notice: str) -> list[Path]:
    """Each report as Markdown and JSON, its tables as CSV, its figures as PNG, and all of them on the page ``out/NAME.html``.

    Returns
    -------
    The page first.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    written: list[Path] = []
    for report in reports:
        written += write_report(report, out)
        written += write_tables(report.tables, out, report.name)
        written += [write_whole(out / "figures" / f"{figure.name}.png", figure.png) for figure in report.figures]
    shown = page([report.section for report in reports], title, notice)
    return [write_whole(out / f"{name}.html", shown), *written]


def page(sections: Sequence[Section], title: str, notice: str, template: Path | None = None, **more: Any) -> str:
    """A self-contained page; everything that comes from outside is shown as text.

    Parameters
    ----------
    template
        One that extends ``page.html`` and is given ``more``; None for ``page.html`` itself.
    """
    template = template or TEMPLATES / "page.html"
    folders = [template.parent, TEMPLATES]
    return page_text(folders, template.name, title=title, notice=notice, sections=sections, **more)


def write_tables(tables: Sequence[Table], folder: Path, name: str) -> list[Path]:
    """A CSV for each table, ``NAME-TITLE.csv`` in ``folder``, numbers unrounded; an interval takes three columns.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    written: list[Path] = []
    for table in tables:
        path = _free(folder / f"{name}-{_slug(table.title)}.csv", written)
        written.append(write_whole(path, table_csv(table), "a table"))
    return written


def table_csv(table: Table) -> str:
    """One table as CSV under its columns' keys, numbers unrounded; an interval takes three columns."""
    wide = {column.key for column in table.columns if any(isinstance(row.get(column.key), Interval) for row in table.rows)}
    head = [heading for column in table.columns for heading in _headings(column.key, column.key in wide)]
    rows = ([one for column in table.columns for one in _cells(row.get(column.key), column.key in wide)] for row in table.rows)
    return csv_text([head, *rows])


def _slug(title: str) -> str:
    """A title as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:48].rstrip("-") or "table"


def _free(path: Path, taken: Sequence[Path]) -> Path:
    """The path, with a number where an earlier table has it."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return path if path not in taken else next(one for one in numbered if one not in taken)


def _headings(key: str, wide: bool) -> list[str]:
    return [key, f"{key}_low", f"{key}_high"] if wide else [key]


def _cells(value: Any, wide: bool) -> list[Any]:
    if not wide:
        return [value.value if isinstance(value, Undefined) else value]
    if isinstance(value, Interval):
        return [value.value, value.low, value.high]
    return [value.value if isinstance(value, Undefined) else value, None, None]
