"""The tables of an analysis for a manuscript: LaTeX with booktabs, and one tidy CSV of every number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from srh_clinic.escaping import csv_text
from srh_clinic.estimates import Interval
from srh_clinic.files import write_whole
from srh_clinic.validation.reporting.report import Column, Report, Table

TIDY = ("section", "table", "row", "what", "column", "value", "low", "high", "level", "n")
"""Columns of the tidy table: one number or word a line, an interval with its ends."""

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "×": r"$\times$",
    "µ": r"\textmu{}",
}


def write_paper_tables(reports: Sequence[Report], out: str | Path) -> list[Path]:
    """Write ``tables.tex`` and ``tidy.csv``.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    return [
        write_whole(Path(out) / "tables.tex", latex_tables(reports)),
        write_whole(Path(out) / "tidy.csv", tidy_csv(reports)),
    ]


def latex_tables(reports: Sequence[Report]) -> str:
    """Every table as a ``table`` with booktabs' rules, numbers as the report shows them; what comes from outside is text."""
    parts = ["% \\usepackage{booktabs}\n"]
    for report in reports:
        parts += [_latex(report, table) for table in report.tables if table.rows]
    return "\n".join(parts)


def tidy_csv(reports: Sequence[Report]) -> str:
    """One line for each number or word of each table, unrounded."""
    rows = [
        (report.name, table.title, number, table.columns[0].cell(row), column.key, *value)
        for report in reports
        for table in report.tables
        for number, row in enumerate(table.rows, start=1)
        for column in table.columns[1:]
        for value in _values(row.get(column.key))
    ]
    return csv_text([TIDY, *rows])


def _values(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Interval):
        yield value.value, value.low, value.high, value.level, value.n
    elif value is not None:
        yield value, "", "", "", ""


def _latex(report: Report, table: Table) -> str:
    columns = "".join("l" if column.is_text else "r" for column in table.columns)
    lines = [_row(table.columns, row) for row in table.rows]
    label = re.sub(r"[^a-z0-9]+", "-", f"{report.name} {table.title}".lower()).strip("-")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_text(table.title)}. {_text(table.footnote)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(_text(column.title) for column in table.columns) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _row(columns: Sequence[Column], row: Any) -> str:
    return " & ".join(_text(column.cell(row)) for column in columns) + r" \\"


def _text(text: str) -> str:
    """Text as LaTeX shows it, whatever it holds."""
    return "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
