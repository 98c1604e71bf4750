"""The tables of an analysis for a manuscript."""

from __future__ import annotations

import csv
import io
import re

from srh_clinic.estimates import Interval
from srh_clinic.validation.reporting.report import Column, Report, Table
from srh_clinic.validation.study.analysis.paper import latex_tables, tidy_csv

COLUMNS = (
    Column("name", "Baseline & more"),
    Column("rate", "Rate", ".2f"),
    Column("count", "n", "d"),
    Column("p", "p", ".2g"),
)
ROWS = [
    {"name": r"<b>50 % $x_1$ \\input{a}", "rate": Interval(1 / 3, 0.25, 0.5, 9), "count": 3, "p": None},
    {"name": "=1+1", "rate": Interval(0.5, 0.25, 0.75, 8), "count": 4, "p": 0.04},
]
REPORT = Report("study_x", "X", "", (Table("A_table", COLUMNS, ROWS, "A note."), Table("Empty", COLUMNS, [])), {})


def test_tables_are_set_with_booktabs_and_names_are_text() -> None:
    text = latex_tables([REPORT])
    assert text.count(r"\begin{tabular}{lrrr}") == 1
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"Baseline \& more & Rate & n & p \\" in text
    assert r"\textless{}b\textgreater{}50 \% \$x\_1\$ \textbackslash{}" in text
    assert "0.33 [0.25, 0.50] & 3 & -- " in text
    assert r"\caption{A\_table. A note.}" in text
    assert r"\label{tab:study-x-a-table}" in text
    assert r"\input" not in text


def test_every_number_is_one_line_unrounded_and_no_cell_a_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(tidy_csv([REPORT]))))
    assert [row["column"] for row in rows] == ["rate", "count", "rate", "count", "p"]
    assert float(rows[0]["value"]) == 1 / 3
    assert (rows[0]["low"], rows[0]["high"], rows[0]["n"], rows[0]["level"]) == ("0.25", "0.5", "9", "0.95")
    assert rows[2]["what"] == "'=1+1"
    assert rows[4]["value"] == "0.04"


def test_an_analysis_has_both(written) -> None:
    folder = written[0].parent
    assert {"tables.tex", "tidy.csv"} <= {path.name for path in written}
    text = (folder / "tables.tex").read_text()
    tables = re.findall(r"\\begin{tabular}{([lr]+)}(.*?)\\end{tabular}", text, re.DOTALL)
    assert len(tables) > 8
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {len(columns) - 1}
    assert {row["section"] for row in csv.DictReader((folder / "tidy.csv").open())} >= {"study_preference", "study_raters"}
