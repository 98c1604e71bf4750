"""Reports with figures as one self-contained HTML page, and their tables as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from srh_clinic.files import write_whole
from srh_clinic.metrics import Interval
from srh_clinic.validation.reporting.figures import Figure
from srh_clinic.validation.reporting.report import Column, Report, Table, write_report


@dataclass(frozen=True)
class Section:
    """A part of a page: a report and the figures that belong to it."""

    report: Report
    figures: Sequence[Figure] = ()


def write_sections(sections: Sequence[Section], out: Path, name: str, title: str, demonstration: str) -> list[Path]:
    """Each section's report as Markdown, JSON and CSV, its figures as PNG, and all of them on the page ``out/NAME.html``.

    Returns
    -------
    The page first.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    written: list[Path] = []
    for section in sections:
        written += write_report(section.report, out)
        written.append(write_whole(out / f"{section.report.name}.csv", tables_csv(section.report).encode()))
        written += [write_whole(out / "figures" / f"{figure.name}.png", figure.png) for figure in section.figures]
    return [write_whole(out / f"{name}.html", page(sections, title, demonstration).encode()), *written]


def page(sections: Sequence[Section], title: str, demonstration: str) -> str:
    """The page; everything that comes from outside is shown as text."""
    return rendered(
        "tables.html",
        title=title,
        demonstration=demonstration,
        sections=sections,
        encoded=lambda figure: base64.b64encode(figure.png).decode(),
    )


def rendered(template: str, **content: Any) -> str:
    """A template of this package with its content, all of which is shown as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**content)


def tables_csv(report: Report) -> str:
    """Every table of a report below another, numbers unrounded; an interval takes three columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in report.tables:
        writer.writerow(["table", table.title])
        writer.writerow([heading for column in table.columns for heading in _headings(column, table)])
        for row in table.rows:
            writer.writerow([value for column in table.columns for value in _values(column, row, table)])
        writer.writerow([])
    return buffer.getvalue()


def _has_intervals(column: Column, table: Table) -> bool:
    return any(isinstance(row.get(column.key), Interval) for row in table.rows)


def _headings(column: Column, table: Table) -> list[str]:
    wide = _has_intervals(column, table)
    return [column.key, f"{column.key}_low", f"{column.key}_high"] if wide else [column.key]


def _values(column: Column, row: Mapping[str, Any], table: Table) -> list[Any]:
    value = row.get(column.key)
    if not _has_intervals(column, table):
        return [value]
    return [value.value, value.low, value.high] if isinstance(value, Interval) else [value, None, None]
