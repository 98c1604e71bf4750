"""Words from files and names are words: no terminal obeys them, no spreadsheet computes them, no page runs them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from srh_clinic.escaping import csv_cell, csv_text, page_text, terminal_text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("one\r\ntwo\tthree", "one two three"),
        ("abc\u202edcm.exe", "abc\\u202edcm.exe"),
        ("half \udcff", "half \\udcff"),
        ("Käse 腫瘍 µm", "Käse 腫瘍 µm"),
    ],
)
def test_a_terminal_gets_text_on_one_line(words: str, shown: str) -> None:
    assert terminal_text(words) == shown


@pytest.mark.parametrize("formula", ["=1+1", "+cmd|' /C calc'!A0", "-A1", "@SUM(1)", "\t=1", "\r=1", " =1", "\uff1d1+1"])
def test_a_formula_is_text_in_a_spreadsheet(formula: str) -> None:
    assert csv_cell(formula) == f"'{formula}"


@pytest.mark.parametrize("cell", ["-1", "+2.5", "-1e-5", "-.5", "-12 %".replace(" ", ""), "a-b", "tumor", -3.5, None, True])
def test_numbers_and_words_stay_as_they_are(cell: object) -> None:
    assert csv_cell(cell) == cell
    assert type(csv_cell(cell)) is type(cell)


def test_rows_are_csv() -> None:
    assert csv_text([("a", "b"), ("=x", -1)]) == "a,b\n'=x,-1\n"


def test_only_what_the_template_owns_may_run(tmp_path: Path) -> None:
    template = '<head><meta charset="utf-8"></head><style>{{ style|own("style") }}</style>{{ word }}{{ evil|safe }}'
    (tmp_path / "page.html").write_text(template)
    evil = "<script>alert(1)</script>"
    page = page_text([tmp_path], "page.html", style="p { color: red }", word=evil, evil=evil)
    wanted = base64.b64encode(hashlib.sha256(b"p { color: red }").digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{wanted}'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert "&lt;script&gt;" in page


def test_a_page_whose_template_has_no_place_for_the_policy_is_a_defect(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>{{ word }}</p>")
    with pytest.raises(ValueError, match="at the head of the page"):
        page_text([tmp_path], "page.html", word="")
