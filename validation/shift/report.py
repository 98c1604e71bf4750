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
from srh_clinic.validation.reporting.page import rendered, tables_csv
from srh_clinic.validation.reporting.report import Report, plain
from srh_clinic.validation.shift.sections.first_page import FirstPage
from srh_clinic.validation.shift.sections.outcomes import Part

TITLE = "Does restoring before classifying change diagnoses for the better?"


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """A whole report.

    Attributes
    ----------
    numbers
        What JSON holds: every table's rows unrounded, by section.
    """

    first: FirstPage
    parts: tuple[Part, ...]
    notice: str
    provenance: Mapping[str, Any]

    @property
    def html(self) -> str:
        """The page; whatever comes from the manifest or its images is shown as text."""
        return rendered("shift.html", title=TITLE, notice=self.notice, first=self.first, parts=self.parts)

    @property
    def numbers(self) -> dict[str, Any]:
        """Every number of the report, unrounded."""
        return {
            "provenance": dict(self.provenance),
            "first_page": {
                "sentences": list(self.first.sentences),
                "alarms": list(self.first.alarms),
                "warnings": list(self.first.warnings),
                "missing": list(self.first.missing),
            },
            "sections": {
                part.id: {
                    "title": part.title,
                    "text": list(part.text),
                    "missing": list(part.missing),
                    "tables": {table.title: [plain(row) for row in table.rows] for table in part.tables},
                }
                for part in self.parts
            },
        }


def write_report_files(report: ShiftReport, out: Path, *, pdf: bool = False) -> list[Path]:
    """``report.html``, ``report.json``, a CSV for each section's tables in ``tables``, and ``report.pdf`` when asked for.

    Raises
    ------
    InputError
        When the folder cannot be written, or a PDF is asked for and WeasyPrint is not installed.
    """
    page = report.html
    content = json.dumps(report.numbers, indent=2, allow_nan=False) + "\n"
    written = [write_whole(out / "report.html", page.encode()), write_whole(out / "report.json", content.encode())]
    for part in report.parts:
        if part.tables:
            tables = Report(part.id, part.title, "", tuple(part.tables), {})
            written.append(write_whole(out / "tables" / f"{part.id}.csv", tables_csv(tables).encode()))
    if pdf:
        written.append(write_whole(out / "report.pdf", _pdf(page, out)))
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
        raise InputError(f"no WeasyPrint ({error})", "pip install 'srh-clinic[pdf]', and Pango") from error


def _pdf(page: str, out: Path) -> bytes:
    made: bytes = import_module("weasyprint").HTML(string=page, base_url=str(out)).write_pdf()
    return made
