"""Sections as a page, and tables as CSV."""

from __future__ import annotations

from srh_clinic.validation.reporting.page import page, tables_csv
from srh_clinic.validation.reporting.report import Column, Report, Table


def test_a_name_with_markup_is_shown_as_text() -> None:
    rows = [{"name": "<script>alert(1)</script>"}]
    report = Report("x", "<b>x</b>", "", (Table("t", (Column("name", "Name"),), rows),), {"command": "<i>"})
    shown = page([report.section], "title", "note")
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "&#34;" not in shown
    assert tables_csv(report.tables).splitlines() == ["table,t", "name", "<script>alert(1)</script>", ""]
