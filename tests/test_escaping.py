"""Words from files and names are words: no terminal obeys them, no spreadsheet computes them, no page runs them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

import srh_clinic
from srh_clinic.escaping import MARK, csv_cell, csv_text, page_text, terminal_text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("one\r\ntwo\tthree", "one two three"),
        ("abc\u202edcm.exe", "abc\\u202edcm.exe"),
        ("half \udcff", "half \\udcff"),
        ("Käse 腫瘍 µm", "Käse 腫瘍 µm"),
        ("P\u200b1 \ufeffP\u20601 soft\xadhyphen", "P\\u200b1 \\ufeffP\\u20601 soft\\xadhyphen"),
        ("tag\U000e0041 \ufff9a", "tag\\U000e0041 \\ufff9a"),
        ("نمی\u200cدانم 👩\u200d🔬", "نمی\u200cدانم 👩\u200d🔬"),
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


@pytest.mark.parametrize(
    "hidden", ["\ufeff=1+1", "\u200b=1+1", "\x00=1+1", "\xa0+1+1", "\u2060@SUM(1)", "\x1f-A1", "-1\n", "+1-1"]
)
def test_a_formula_behind_what_is_not_seen_is_text_too(hidden: str) -> None:
    assert csv_cell(hidden) == f"'{hidden}"


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("scan;=1+1", "scan;'=1+1"),
        ("scan;\u200b @SUM(1)", "scan;'\u200b @SUM(1)"),
        ("scan\t+A1", "scan\t'+A1"),
        ("scan\n=cmd|' /C calc'!A0", "scan\n'=cmd|' /C calc'!A0"),
        ("a;-A1;=B1", "a;'-A1;'=B1"),
        ("0.5;-1;+2e3", "0.5;-1;+2e3"),
        ("one; two", "one; two"),
        ("a,-1", "a,-1"),
    ],
)
def test_a_formula_behind_a_separator_is_text_too(cell: str, shown: str) -> None:
    """A spreadsheet that separates by semicolons knows no quotes in the middle of a cell."""
    assert csv_cell(cell) == shown


PAGES = sorted(
    path
    for path in Path(srh_clinic.__file__).parent.rglob("*.html")
    if "<!doctype" in path.read_text(encoding="utf-8").lower()
)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_of_ours_has_its_policy_and_nothing_inline(path: Path) -> None:
    template = path.read_text(encoding="utf-8")
    assert MARK in template
    assert not re.search(r"<[a-z][^>]*\s(style|on[a-z]+)\s*=", template)
    for kind in ("style", "script"):
        for opening, inside in re.findall(rf"<{kind}\b([^>]*)>(.*?)</{kind}>", template, flags=re.DOTALL):
            assert "application/json" in opening or re.search(rf"own\(['\"]{kind}['\"]\)", inside), path


def test_no_page_is_written_but_by_the_one_function() -> None:
    folder = Path(srh_clinic.__file__).parent
    assert len(PAGES) >= 4
    for path in folder.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "unsafe-inline" not in source.replace("without 'unsafe-inline'", ""), path
        assert "<!doctype" not in source.lower(), path


def test_rows_are_csv() -> None:
    assert csv_text([("a", "b"), ("=x", -1)]) == "a,b\n'=x,-1\n"


def test_what_a_terminal_obeys_is_text_in_files_that_one_may_show(tmp_path: Path) -> None:
    assert csv_text([("P\x1b[31mX\x07", "one\ntwo\tthree", "\x9b2J")]) == 'P\\x1b[31mX\\x07,"one\ntwo\tthree",\\x9b2J\n'
    (tmp_path / "page.html").write_text('<head><meta charset="utf-8"></head>{{ word }}')
    assert page_text([tmp_path], "page.html", word="P\x1b[31mX\x00").endswith("P\\x1b[31mX\\x00")


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
