"""The files of a result that it has when they are asked for, and who writes them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srh_clinic.case.result import CaseResult
    from srh_clinic.case.workflow import Writer
    from srh_clinic.slide import Slide


def optional_files(name: str, slide: Slide, *, page: bool, qupath: bool, fhir: bool) -> list[tuple[tuple[str, ...], Writer]]:
    """The names of optional files that are asked for, and what writes them; ``name`` is what the page calls the case."""
    from srh_clinic.case.findings import write_fhir, write_qupath
    from srh_clinic.case.result import FHIR, PAGE, QUPATH

    asked: list[tuple[tuple[str, ...], Writer]] = []
    if page:
        asked.append(((PAGE,), partial(_write_page, name)))
    if qupath:
        asked.append((QUPATH, partial(write_qupath, slide)))
    if fhir:
        asked.append(((FHIR,), partial(write_fhir, slide)))
    return asked


def _write_page(name: str, result: CaseResult, draft: Path) -> None:
    from srh_clinic.case.result import PAGE
    from srh_clinic.casepage import write_case_page

    write_case_page(result, draft / PAGE, name)
