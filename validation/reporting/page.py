"""Sections and reports as one self-contained HTML page, and tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from srh_clinic.estimates import Interval
from srh_clinic.files import write_whole
from srh_clinic.validation.reporting.report import Report, Section, Table, write_report

TEMPLATES = Path(__file__).parent


def write_reports(reports: Sequence[Report], out: Path, name: str, title: str, notice: str) -> list[Path]:
    """Each report as Markdown, JSON and CSV, its figures as PNG, and all of them on the page ``out/NAME.html``.

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
        written.append(write_whole(out / f"{report.name}.csv", tables_csv(report.tables)))
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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template.name).render(title=title, notice=notice, sections=sections, **more)


def tables_csv(tables: Sequence[Table]) -> str:
    """Tables one below another, numbers unrounded; an interval takes three columns."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for table in tables:
        wide = {column.key for column in table.columns if any(isinstance(row.get(column.key), Interval) for row in table.rows)}
        writer.writerow(["table", table.title])
        writer.writerow([heading for column in table.columns for heading in _headings(column.key, column.key in wide)])
        for row in table.rows:
            writer.writerow([one for column in table.columns for one in _cells(row.get(column.key), column.key in wide)])
        writer.writerow([])
    return buffer.getvalue()


def _headings(key: str, wide: bool) -> list[str]:
    return [key, f"{key}_low", f"{key}_high"] if wide else [key]


def _cells(value: Any, wide: bool) -> list[Any]:
    if not wide:
        return [value]
    return [value.value, value.low, value.high] if isinstance(value, Interval) else [value, None, None]
