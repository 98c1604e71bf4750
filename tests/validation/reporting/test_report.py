"""Reports: numbers in, Markdown and JSON out."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from srh_clinic.errors import InputError
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.validation.reporting.page import table_csv
from srh_clinic.validation.reporting.report import (
    CRITERIA,
    Column,
    Report,
    Table,
    provenance,
    rich_tables,
    write_report,
)

THIRD = 1 / 3


@pytest.fixture
def report() -> Report:
    columns = (Column("name", "Name"), Column("x", "X", ".2f"), Column("ci", "Interval", "+.1f"), Column("n", "n", "d"))
    rows = [{"name": "a", "x": THIRD, "ci": Interval(1.25, -0.5, 3.0, 12), "n": 7}, {"name": "b", "x": None}]
    asked = [{"asked": "more", "measured": "1", "met": True}, {"asked": "less", "measured": "2", "met": False}]
    tables = (Table("Numbers", columns, rows, "A note."), Table("Asked", CRITERIA, asked))
    return Report("numbers", "Some numbers", "In a sentence.", tables, provenance(seed=3, weights_sha256="ab", limit=None))


def test_numbers_are_formatted_by_their_column(report: Report) -> None:
    lines = report.markdown.splitlines()
    assert lines[0] == "# Some numbers"
    table = lines.index("| Name | X | Interval | n |")
    assert lines[table + 1 : table + 4] == [
        "| --- | ---: | ---: | ---: |",
        "| a | 0.33 | +1.2 [-0.5, +3.0] | 7 |",
        "| b | – | – | – |",
    ]
    assert "| more | 1 | yes |" in lines
    assert "| less | 2 | **no** |" in lines
    assert "A note." in lines


def test_a_number_without_an_interval_says_why(report: Report, tmp_path: Path) -> None:
    rows = [{"name": "a", "x": Undefined("all 3 values are alike", 2.0)}, {"name": "b", "x": Undefined("nobody answered")}]
    made = replace(report, tables=(Table("Numbers", report.tables[0].columns[:2], rows, "A note."),))
    assert "| a | 2.00 [–] |" in made.markdown
    assert "| b | – |" in made.markdown
    why = "Not determined: a (X), because all 3 values are alike. Not determined: b (X), because nobody answered."
    assert f"A note. {why}" in made.markdown
    content = json.loads(write_report(made, tmp_path)[1].read_text())
    assert content["tables"]["Numbers"][0]["x"] == {"why": "all 3 values are alike", "value": 2.0}
    assert table_csv(made.tables[0]).splitlines()[1:] == ["a,2.0", "b,"]
    console = Console(file=io.StringIO(), width=60)
    console.print(*rich_tables(made, 60))
    assert "2.00 [–]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_json_holds_numbers_unrounded(report: Report, tmp_path: Path) -> None:
    markdown, path = write_report(report, tmp_path / "new" / "folder")
    assert markdown.read_text() == report.markdown
    content = json.loads(path.read_text())
    assert content["tables"]["Numbers"][0]["x"] == THIRD
    assert content["tables"]["Numbers"][0]["ci"] == {"value": 1.25, "low": -0.5, "high": 3.0, "n": 12, "level": 0.95}
    assert sorted(file.name for file in path.parent.iterdir()) == ["numbers.json", "numbers.md"]


def test_a_report_says_how_it_was_made(report: Report) -> None:
    made = report.to_dict()["provenance"]
    assert made["seed"] == 3
    assert made["weights_sha256"] == "ab"
    assert {"command", "date", "srh-clinic", "torch", "Python", "machine"} <= set(made)
    assert "limit" not in made


def test_the_terminal_shows_every_table(report: Report) -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(*rich_tables(report))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text in shown for text in ("Numbers", "Asked", "+1.2 [-0.5, +3.0]", "A note."))
    assert "**" not in shown


@pytest.mark.parametrize("width", [*range(56, 140, 7), 200])
def test_a_narrow_terminal_shows_whole_numbers_and_says_what_it_leaves_out(width: int) -> None:
    columns = (
        Column("method", "Method"),
        Column("n", "n", "d"),
        *(Column(f"x{place}", f"KID[extractor_{place}] of whole images", ".4f") for place in range(5)),
    )
    rows = [
        {"method": name, "n": 540, **{f"x{place}": Interval(sign * place / 7, -2.0, 3.0, 540) for place in range(5)}}
        for name, sign in (("rscd_no_recalibration", 1), ("input", -1))
    ]
    wide = Report("wide", "Wide", "Numbers.", (Table("Everything", columns, rows),), {})
    console = Console(file=io.StringIO(), width=width)
    console.print(*rich_tables(wide, width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    said = " ".join(" ".join(lines).split())
    assert max(len(line) for line in lines) <= width
    (ours,) = [line for line in lines if "rscd_no_recalibration" in line]
    shown = [place for place in range(5) if f"{place / 7:.4f}" in ours.split()]
    assert "540" in ours.split()
    assert shown == list(range(len(shown)))
    assert all(f"KID[extractor_{place}] of whole images" in said for place in range(len(shown), 5))
    assert ("[-2.0000, 3.0000]" in ours) == (width == 200)
    assert ("Intervals are in the report." in said) == (width < 200)


def test_square_brackets_are_text_in_the_terminal() -> None:
    rows = [{"method": "[bold]", "kid": 1.0}]
    table = Table("All [of] them", (Column("method", "Method"), Column("kid", "KID[x]", ".1f")), rows, "See [there].")
    console = Console(file=io.StringIO(), width=100)
    console.print(*rich_tables(Report("r", "R", "S.", (table,), {})))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(text in shown for text in ("KID[x]", "[bold]", "All [of] them", "See [there]."))


def test_a_folder_that_cannot_be_written_is_told(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="needed room and permission to write a report"):
        write_report(report, tmp_path / "file")


@pytest.mark.parametrize("width", [20, 23, 28, 34, 40, 41, 47, 52, 60, 79, 120, 200])
def test_numbers_within_words_are_whole_in_every_terminal(width: int) -> None:
    """Also those of a sentence beside another, of a title and of a note over and under a narrow table."""
    number = "638,363.5452"
    rows = [{"asked": f"less than {number} of all", "measured": f"the lowest end {number}, of {number} tiles", "met": False}]
    narrow = Table(f"Of {number} tiles", (Column("n", "n", "d"),), [{"n": 7}], f"Beside {number} others, {number}.")
    report = Report("r", "R", "S", (Table("Asked of many", CRITERIA, rows), narrow), {})
    console = Console(file=io.StringIO(), width=width)
    console.print(*rich_tables(report, width))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    # Every piece of digits is the whole number; the 7 is the narrow table's.
    assert set(re.findall(r"[0-9][0-9,.]*[0-9]|[0-9]", shown)) == {number, "7"}
    assert shown.count(number) >= 4
