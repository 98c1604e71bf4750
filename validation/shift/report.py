"""An accuracy-shift report as one page, its numbers and its tables; same input, same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.validation.reporting.page import page, write_tables
from srh_clinic.validation.reporting.report import Section, plain
from srh_clinic.validation.shift.sections.first_page import FirstPage

TITLE = "Does restoring before classifying change diagnoses for the better?"

TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """A whole report.

    Attributes
    ----------
    numbers
        What JSON holds: every table's rows unrounded, by section.
    """

    first: FirstPage
    sections: tuple[Section, ...]
    notice: str
    provenance: Mapping[str, Any]

    @property
    def html(self) -> str:
        """The page; whatever comes from the manifest or its images is shown as text."""
        return page(self.sections, TITLE, self.notice, TEMPLATE, first=self.first)

    @property
    def numbers(self) -> dict[str, Any]:
        """Every number of the report, unrounded."""
        return {
            "provenance": dict(self.provenance),
            "first_page": {
                "left_out": list(self.first.left_out),
                "sentences": list(self.first.sentences),
                "alarms": list(self.first.alarms),
                "warnings": list(self.first.warnings),
                "missing": list(self.first.missing),
            },
            "sections": {
                section.name: {
                    "title": section.title,
                    "text": list(section.text),
                    "missing": list(section.missing),
                    "tables": {table.title: [plain(row) for row in table.rows] for table in section.tables},
                }
                for section in self.sections
            },
        }


def write_report_files(report: ShiftReport, out: Path, *, pdf: bool = False) -> list[Path]:
    """``report.html``, ``report.json``, each table as ``tables/SECTION-TITLE.csv``, and ``report.pdf`` when asked for.

    Raises
    ------
    InputError
        When the folder cannot be written, or a PDF is asked for and WeasyPrint is not installed.
    """
    html = report.html
    content = json.dumps(report.numbers, indent=2, allow_nan=False) + "\n"
    written = [write_whole(out / "report.html", html), write_whole(out / "report.json", content)]
    for section in report.sections:
        written += write_tables(section.tables, out / "tables", section.name)
    for earlier in set((out / "tables").glob("*.csv")) - set(written):
        earlier.unlink()  # a table of an earlier report, which this one does not have
    if pdf:
        written.append(write_whole(out / "report.pdf", _pdf(html, out)))
    return written


def require_pdf() -> None:
    """Refuse a PDF where there is nothing to make it with.

    Raises
    ------
    InputError
        When WeasyPrint, or Pango that it needs, is not there.
    """
    try:
        import_module("weasyprint")
    except (ImportError, OSError) as error:
        raise InputError(
            f"that WeasyPrint cannot be loaded ({error})", "pip install 'srh-clinic[pdf]' and the library Pango"
        ) from error


def _pdf(html: str, out: Path) -> bytes:
    made: bytes = import_module("weasyprint").HTML(string=html, base_url=str(out)).write_pdf()
    return made
