"""The reporting checklists of an accuracy-shift report."""

import pytest

from srh_clinic.errors import InputError
from srh_clinic.validation.reporting.report import Report
from srh_clinic.validation.shift.sections.checklists import SECTIONS, checklists, tables

ROWS = [(one.list, item) for one in checklists() for item in one.rows]
"""Every item with the name of its list."""


FUTURE = {"F": 3, "U": 4, "T": 6, "Us": 5, "R": 3, "E": 2, "G": 7}
"""Fairness, universality, traceability, usability, robustness, explainability, general."""


GENERIC = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def numbered(last, parts):
    """Item numbers 1 .. last, those in ``parts`` split into a, b, ..."""
    return [
        f"{number}{part}"
        for number in range(1, last + 1)
        for part in ("abcdefg"[: parts[number]] if number in parts else [""])
    ]


DECIDE = [*numbered(17, {2: 2, 3: 3, 4: 3, 5: 2, 6: 2, 9: 2, 10: 2, 13: 2, 14: 2}), *GENERIC]


@pytest.mark.parametrize(
    ("name", "items", "count"),
    [
        ("STARD-AI", numbered(40, {15: 4, 16: 3, 17: 2, 26: 2, 40: 2}), 48),
        (
            "TRIPOD+AI",
            numbered(27, {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}),
            52,
        ),
        ("CLAIM", numbered(44, {}), 44),
        ("DECIDE-AI", DECIDE, 38),
        (
            "FUTURE-AI",
            [f"{part}{number}" for part, last in FUTURE.items() for number in range(1, last + 1)],
            30,
        ),
    ],
)
def test_every_item_of_the_published_list_is_there_in_order(name, items, count):
    assert [row.item for of, row in ROWS if of == name] == items
    assert len(items) == count


def test_every_item_says_what_it_asks_and_where_or_why_not():
    assert {of for of, _ in ROWS} == {"STARD-AI", "TRIPOD+AI", "CLAIM", "DECIDE-AI", "FUTURE-AI"}
    for _, row in ROWS:
        assert (row.section in SECTIONS) == (row.state == "present")
        assert row.note or row.state != "not-applicable"
        # Short and ours: a sentence of the standards is longer.
        assert len(row.asks) <= 100


def test_notes_name_sections_that_there_are():
    for _, row in ROWS:
        words = row.note.replace(";", "").replace(".", "").split()
        for place, word in enumerate(words[:-1]):
            if word.lower() == "section":
                assert words[place + 1] in SECTIONS


def by_item(found):
    return {(table.title.split(" (")[0], row["item"]): row for table in found[1:] for row in table.rows}


def test_an_item_whose_section_could_not_be_filled_goes_to_the_author_with_the_reason():
    whole, without = by_item(tables(SECTIONS)), by_item(tables(set(SECTIONS) - {"gallery"}))
    changed = {key for key in whole if whole[key] != without[key]}
    assert changed == {("CLAIM", "39")}
    assert (whole["CLAIM", "39"]["state"], whole["CLAIM", "39"]["section"]) == ("present", "gallery")
    assert without["CLAIM", "39"]["state"] == "for the author"
    assert without["CLAIM", "39"]["section"] is None
    assert without["CLAIM", "39"]["note"].startswith("Section gallery would answer it, which this report could not fill.")


def test_an_empty_report_answers_nothing():
    summary = tables(())[0].rows
    assert [row["present"] for row in summary] == [0, 0, 0, 0, 0]
    assert [row["rows"] for row in summary] == [48, 52, 44, 38, 30]


def test_the_summary_counts_the_rows():
    summary, *lists = tables(SECTIONS)
    for row, table in zip(summary.rows, lists, strict=True):
        states = [one["state"] for one in table.rows]
        counted = [states.count(state) for state in ("present", "for the author", "not applicable")]
        assert [row["present"], row["author"], row["not-applicable"]] == counted
        assert row["present"] > 0
    assert Report("checklists", "Checklists", "", tables(SECTIONS), {}).markdown.count("\n| 12g |") == 1


def test_a_section_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="galery"):
        tables({"galery"})


GOOD = 'lists: [{list: CLAIM, edition: "1", source: "https://doi.org/10.1/x", rows: [%s]}]'


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{item: "1", asks: x, state: present}', "with section None"),
        ('{item: "1", asks: x, state: author, section: use}', "needed one if present only"),
        ('{item: "1", asks: x, state: present, section: galery}', r"rows\.0\.section"),
        ('{item: "1", asks: x, state: not-applicable}', "why it is not applicable"),
        ('{item: "1", asks: x, state: author}, {item: "1", asks: y, state: author}', "item 1 of CLAIM twice"),
        ('{item: "0", asks: x, state: author}', r"rows\.0\.item"),
        ('{item: "1", asks: x, state: author, more: y}', r"rows\.0\.more"),
        ("{item: [", "YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, rows, said):
    path = tmp_path / "lists.yaml"
    path.write_text(GOOD % rows)
    with pytest.raises(InputError, match=said):
        checklists(path)


def test_a_right_file_is_read(tmp_path):
    path = tmp_path / "lists.yaml"
    path.write_text(GOOD % '{item: "1", asks: x, state: present, section: use}')
    assert checklists(path)[0].rows[0].section == "use"


def test_the_report_answers_most_of_what_it_can_know_and_nothing_that_nobody_stated():
    """Of a run on images; what the manifest and the headers do not state goes back to the author."""
    whole = {row["list"]: row["present"] for row in tables(SECTIONS)[0].rows}
    assert (whole["STARD-AI"], whole["TRIPOD+AI"], whole["CLAIM"]) >= (30, 25, 25)
    assert min(whole["TRIPOD+AI"], whole["CLAIM"]) >= 25
    # Four patients: no policy is chosen, no site is compared.
    few = {row["list"]: row["present"] for row in tables(tuple(one for one in SECTIONS if one != "selective"))[0].rows}
    assert few["STARD-AI"] >= 30
    assert min(few["TRIPOD+AI"], few["CLAIM"]) >= 25
    silent = by_item(tables(SECTIONS, known=()))
    assert silent["STARD-AI", "13"]["state"] == "for the author"
    assert silent["STARD-AI", "13"]["note"].startswith(
        "Section acquisition would answer it if manifest or headers stated: devices."
    )
