"""Sections as a page, and tables as CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from srh_clinic.estimates import Interval
from srh_clinic.validation.reporting.figures import line_plot
from srh_clinic.validation.reporting.page import page, table_csv, write_tables
from srh_clinic.validation.reporting.report import Column, Report, Section, Table


def test_a_name_with_markup_is_shown_as_text() -> None:
    rows = [{"name": "<script>alert(1)</script>"}]
    report = Report("x", "<b>x</b>", "", (Table("t", (Column("name", "Name"),), rows),), {"command": "<i>"})
    shown = page([report.section], "title", "note")
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "&#34;" not in shown
    assert table_csv(report.tables[0]).splitlines() == ["name", "<script>alert(1)</script>"]


def test_a_page_lets_its_own_style_work_and_nothing_else() -> None:
    figure = line_plot("x", "x", {"<b>$": ([0, 1], [0, 1])}, "", labels=("<i>", "y"))
    shown = page([Section("a", "A", figures=[figure])], "title", "note")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', shown)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert not re.search(r"\sstyle=", shown), "a browser ignores it"
    assert shown.count("<style") == 1
    assert 'text-anchor="middle"' in figure.svg


def test_a_csv_holds_one_table_and_computes_nothing(tmp_path: Path) -> None:
    columns = (Column("name", "Name"), Column("share", "Share", ".1%"))
    rows = [
        {"name": "=1+1", "share": Interval(-0.5, -1.0, 0.0, 3)},
        {"name": "@SUM(A1)", "share": None},
        {"name": "-7", "share": None},
    ]
    tables = [Table("One table", columns, rows), Table("One table!", columns, [])]
    one, other = write_tables(tables, tmp_path, "harm")
    assert (one.name, other.name) == ("harm-one-table.csv", "harm-one-table-2.csv")
    with one.open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert found == [
        ["name", "share", "share_low", "share_high"],
        ["'=1+1", "-0.5", "-1.0", "0.0"],
        ["'@SUM(A1)", "", "", ""],
        ["-7", "", "", ""],
    ]
