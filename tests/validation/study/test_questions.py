"""What raters are asked: one wording, in every form that it is put to them."""

from __future__ import annotations

import csv
import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from rated import planes, task
from small_study import described, no_power

from srh_clinic.validation.study import export
from srh_clinic.validation.study.exchange.label_studio import label_studio_export
from srh_clinic.validation.study.exchange.redcap import COLUMNS, redcap_export
from srh_clinic.validation.study.plan import TITLE
from srh_clinic.validation.study.protocol_page import protocol_page
from srh_clinic.validation.study.questions import AS_SCANNED, IN_REVIEW, MARK_WORDING, QUESTIONS, WORDING, wording
from srh_clinic.validation.study.records import Hallucination, Kind, Preference, Rating
from srh_clinic.validation.study.viewer import Page, write_viewer

Asked = Mapping[str, list[tuple[str, str]]]
"""By a question's text its answers, as kept and as called, in the order shown."""


def expected(kind: Kind) -> Asked:
    return {
        wording(kind, name).text: [(str(choice.value), choice.label) for choice in wording(kind, name).choices]
        for name in QUESTIONS[kind]
    }


def in_viewer(kind: Kind, folder: Path) -> Asked:
    one = task(0, kind=kind)
    page = write_viewer(folder / "viewer.html", Page("A study", kind, ""), [one], planes([one])).read_text(encoding="utf-8")
    terms = json.loads(page.partition('id="terms">')[2].partition("</script>")[0])
    assert terms["as_scanned"] == AS_SCANNED
    for text in expected(kind):
        assert f"<b>{text}</b>" in page
    asked = {
        terms["questions"][name]["text"]: [(str(value), label) for value, label in terms["questions"][name]["choices"]]
        for name in one.questions
    }
    assert {name: terms["questions"][name]["text"] for name in MARK_WORDING} == {n: w.text for n, w in MARK_WORDING.items()}
    return asked


def on_protocol(kind: Kind, folder: Path) -> Asked:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "sample_size", no_power)
        page = protocol_page(described(kind))
    rows = page.partition("Questions to raters</h2>")[2].partition("</table>")[0].split("<tr>")[2:]
    cells = [[html.unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in row.split("</td>")] for row in rows]
    asked = [wording(kind, name) for name in QUESTIONS[kind]]
    values = {one.text: [str(choice.value) for choice in one.choices] for one in asked}
    return {text: list(zip(values[text], labels.split(", "), strict=True)) for text, labels, *_ in cells}


def in_label_studio(kind: Kind, folder: Path) -> Asked:
    one = task(0, kind=kind)
    root = ET.parse(label_studio_export([one], planes([one]), folder)[1]).getroot()  # noqa: S314 - our own file
    elements = list(root)
    asked = {}
    for header, control in pairwise(elements):
        if control.tag == "Choices":
            asked[header.get("value", "")] = [(c.get("alias", ""), c.get("value", "")) for c in control]
        elif control.tag == "Rating":
            asked[header.get("value", "")] = [(str(n), str(n)) for n in range(1, int(control.get("maxRating", "0")) + 1)]
    titles = {header.get("value") for header in root.iter("Header")}
    assert {AS_SCANNED, *(one.text for one in MARK_WORDING.values())} <= titles
    return asked


def in_redcap(kind: Kind, folder: Path) -> Asked:
    dictionary, _ = redcap_export([task(0, kind=kind)], folder)
    asked = {}
    for field in csv.DictReader(dictionary.read_text(encoding="utf-8").splitlines()):
        if field["Field Type"] == "radio":
            (found,) = (one for name in QUESTIONS[kind] if (one := wording(kind, name)).text == field["Field Label"])
            values = {str(choice.code): str(choice.value) for choice in found.choices}
            pairs = [part.split(", ") for part in field[COLUMNS[5]].split(" | ")]
            asked[field["Field Label"]] = [(values[code], label) for code, label in pairs]
    return asked


@pytest.mark.parametrize("kind", ["preference", "review"])
@pytest.mark.parametrize("form", [in_viewer, on_protocol, in_label_studio, in_redcap])
def test_every_form_asks_the_same_in_the_same_order(form: Callable[[Kind, Path], Asked], kind: Kind, tmp_path: Path) -> None:
    asked = form(kind, tmp_path)
    assert list(asked.items()) == list(expected(kind).items())


def test_no_template_and_no_script_has_a_question_of_its_own() -> None:
    package = files("srh_clinic.validation.study")
    for name in ("viewer.html", "protocol.html"):
        template = package.joinpath(name).read_text("utf-8")
        shown = re.sub(r"<style>.*?</style>|{[{%].*?[}%]}|<[^>]*>", "", template, flags=re.DOTALL)
        asked = [sentence for sentence in re.findall(r"[^.:\n]*\?", shown) if not sentence.startswith(PURPOSE)]
        assert asked == [], name
    script = package.joinpath("viewer.js").read_text("utf-8")
    assert re.findall(r"""\w[^"'`\n]*\w\?["'`]""", script) == []
    for one in (*WORDING.values(), *IN_REVIEW.values(), *MARK_WORDING.values()):
        for name in ("viewer.html", "viewer.js", "protocol.html"):
            assert one.text not in package.joinpath(name).read_text("utf-8")


PURPOSE = ("Do raters who do not know which is which prefer images", "How often do raters see structure in images")
"""What the study asks of its raters' answers, not of its raters."""


def test_a_rater_who_sees_two_images_is_not_told_that_they_were_restored(tmp_path: Path) -> None:
    one = task(0)
    page = write_viewer(tmp_path / "viewer.html", Page(TITLE, "preference"), [one], planes([one])).read_text(encoding="utf-8")
    _, config = label_studio_export([one], planes([one]), tmp_path)
    dictionary, _ = redcap_export([one], tmp_path)
    for text in (page, config.read_text(encoding="utf-8"), dictionary.read_text(encoding="utf-8")):
        assert re.search("restor(ed|ation|ations)\\b", text, re.IGNORECASE) is None


def test_what_answers_are_kept_as_is_what_earlier_studies_hold() -> None:
    kept = {name: dict(zip(range(1, 6), one.values, strict=False)) for name, one in WORDING.items()}
    sides, called = {1: "A", 2: "B", 3: "tie"}, {1: "none", 2: "possible", 3: "definite"}
    assert kept == {
        "pref_quality": sides,
        "pref_fidelity": sides,
        "confidence": {number: str(number) for number in range(1, 6)},
        "halluc_A": called,
        "halluc_B": called,
        "method_guess": {1: "A", 2: "B", 3: "unsure"},
    }
    assert all(
        [choice.code for choice in sorted(w.choices, key=lambda c: c.code)] == list(kept[n]) for n, w in WORDING.items()
    )
    assert set(WORDING) <= set(Rating.model_fields)
    assert sides == dict(enumerate(Preference.__args__, start=1))
    assert called == dict(enumerate(Hallucination.__args__, start=1))
