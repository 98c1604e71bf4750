"""Tasks go out to Label Studio, and what it sends back becomes a return."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from rated import (
    ANSWERS,
    BOX,
    POINT,
    PX,
    assert_a_return_takes_them,
    planes,
    row,
    task,
)

from srh_clinic.display import ColourWindow, srh_colours
from srh_clinic.errors import InputError
from srh_clinic.validation.study.exchange.label_studio import label_studio_export, label_studio_import
from srh_clinic.validation.study.questions import WORDING, wording
from srh_clinic.validation.study.records import CATEGORIES, Task


def annotation(one: Task, regions: tuple[dict, ...] = (BOX, POINT), **changes: object) -> dict:
    """As Label Studio exports the answers of :func:`row`: percent, and a result for each control that was used."""
    results: list[dict] = []
    for name in one.questions:
        kind, value = ("rating", ANSWERS[name]) if name == "confidence" else ("choices", [ANSWERS[name]])
        results.append({"from_name": name, "to_name": "A", "id": name, "type": kind, "value": {kind: value}})
    for number, region in enumerate(regions):
        side, labels = region["side"], {"box": "rectanglelabels", "point": "keypointlabels"}[region["shape"]]
        percent = [100 * number / PX for number in region["xy"]]
        value = {"x": percent[0], "y": percent[1], "width": 0.3, labels: [region["category"]]}
        if region["shape"] == "box":
            value |= {"width": percent[2] - percent[0], "height": percent[3] - percent[1], "rotation": 0}
        common = {"to_name": side, "id": f"region{number}", "original_width": PX, "original_height": PX, "image_rotation": 0}
        severity = {"choices": [region["severity"]]}
        results.append({**common, "from_name": f"{region['shape']}_{side}", "type": labels, "value": value})
        results.append({**common, "from_name": f"severity_{side}", "type": "choices", "value": value | severity})
    created = {"created_at": "2026-03-04T04:53:32.500000Z", "lead_time": 12.5, "completed_by": 7, "was_cancelled": False}
    return {"result": results, **created} | changes


def label_studio_file(tmp_path, *entries: tuple[Task, list[dict]]):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"id": 1, "data": {"task_id": one.task_id}, "annotations": made} for one, made in entries]))
    return path


class TestLabelStudioExport:
    def test_a_task_holds_its_id_its_number_the_rater_and_three_images(self, tmp_path):
        tasks = [task(1), task(0)]
        path, _ = label_studio_export(tasks, planes(tasks), tmp_path)
        first, second = json.loads(path.read_text())
        assert set(first) == {"data"}
        assert set(first["data"]) == {"task_id", "seq", "rater", "lq", "A", "B"}
        assert (first["data"]["seq"], second["data"]["seq"], first["data"]["rater"]) == (0, 1, "r1")

    def test_every_image_has_the_same_number_of_bytes(self, tmp_path):
        tasks = [task(number) for number in range(4)]
        path, _ = label_studio_export(tasks, planes(tasks), tmp_path)
        data = [entry["data"] for entry in json.loads(path.read_text())]
        lengths = {len(one[name]) for one in data for name in ("lq", "A", "B")}
        assert len(lengths) == 1
        assert lengths.pop() > 3 * PX * PX * 4 / 3  # nothing is compressed

    def test_tasks_that_are_too_much_for_one_file_are_split(self, tmp_path):
        tasks = [task(number) for number in range(5)]
        (whole, config) = label_studio_export(tasks, planes(tasks), tmp_path / "whole")
        longest = max(len(json.dumps(row)) for row in json.loads(whole.read_text()))
        *parts, again = label_studio_export(tasks, planes(tasks), tmp_path / "parts", most=2 * longest + 10)
        assert [part.name for part in parts] == ["tasks-1.json", "tasks-2.json", "tasks-3.json"]
        assert all(part.stat().st_size <= 2 * longest + 10 for part in parts)
        assert [row for part in parts for row in json.loads(part.read_text())] == json.loads(whole.read_text())
        assert again.read_bytes() == config.read_bytes()
        # To the byte: two rows fill a part just so.
        row = len(json.dumps(json.loads(whole.read_text())[0]))
        *parts, _ = label_studio_export(tasks, planes(tasks), tmp_path / "tight", most=2 * row + len("[, ]\n"))
        assert [len(json.loads(part.read_text())) for part in parts] == [2, 2, 1]
        assert max(part.stat().st_size for part in parts) == 2 * row + len("[, ]\n")
        with pytest.raises(InputError, match=r"a task whose images take .* MiB; needed tasks of at most"):
            label_studio_export(tasks, planes(tasks), tmp_path / "less", most=row)
        # The same into the folder of another split: what is left would be imported beside it.
        (tmp_path / "parts" / "tasks-notes.json").write_text("mine")
        label_studio_export(tasks, planes(tasks), tmp_path / "parts")
        assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["config.xml", "tasks-notes.json", "tasks.json"]

    def test_raters_read_what_is_meant(self, tmp_path):
        for kind in ("preference", "review"):
            _, config = label_studio_export([one := task(0, kind=kind)], planes([one]), tmp_path / kind)
            said = {header.get("value") for header in ET.parse(config).getroot().iter("Header")}  # noqa: S314 - our own file
            assert {wording(kind, name).meant for name in one.questions} - {""} <= said

    def test_an_image_shows_the_colours_of_its_window(self, tmp_path):
        one = task(0)
        images = planes([one])
        path, _ = label_studio_export([one], images, tmp_path)
        data = json.loads(path.read_text())[0]["data"]
        window = ColourWindow((0, 100, 200), (2000, 4000, 5000))
        for name, of in (("lq", one.lq_img), ("A", one.img_A), ("B", one.img_B)):
            kind, encoded = data[name].split(",")
            assert kind == "data:image/png;base64"
            seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
            np.testing.assert_array_equal(seen, srh_colours(images[of].astype(np.uint16) * 20, window))

    def test_the_configuration_asks_each_question_once_and_marks_both_sides(self, tmp_path):
        one = task(0)
        _, path = label_studio_export([one], planes([one]), tmp_path)
        root = ET.parse(path).getroot()  # noqa: S314 - our own file
        assert [(image.get("name"), image.get("value")) for image in root.iter("Image")] == [
            ("lq", "$lq"),
            ("A", "$A"),
            ("B", "$B"),
        ]
        asked = {name.get("name"): [choice.get("alias") for choice in name] for name in root.iter("Choices")}
        severities = {"severity_A": ["minor", "major"], "severity_B": ["minor", "major"]}
        assert (
            asked
            == {name: [choice.value for choice in WORDING[name].choices] for name in one.questions if name != "confidence"}
            | severities
        )
        assert [(rating.get("name"), rating.get("maxRating")) for rating in root.iter("Rating")] == [("confidence", "5")]
        for tag, name in (("RectangleLabels", "box"), ("KeyPointLabels", "point")):
            controls = {control.get("toName"): control for control in root.iter(tag)}
            assert {side: control.get("name") for side, control in controls.items()} == {"A": f"{name}_A", "B": f"{name}_B"}
            assert all([label.get("value") for label in control] == list(CATEGORIES) for control in controls.values())
        assert [text.get("name") for text in root.iter("TextArea")] == ["comment"]
        names = {element.get("name") for element in root.iter()}
        assert {element.get("toName") for element in root.iter()} - {None} <= names

    def test_a_review_has_no_side_b(self, tmp_path):
        one = task(0, kind="review")
        path, config = label_studio_export([one], planes([one]), tmp_path)
        assert set(json.loads(path.read_text())[0]["data"]) == {"task_id", "seq", "rater", "lq", "A"}
        assert b"_B" not in config.read_bytes()

    @pytest.mark.parametrize(
        ("tasks", "sentence"),
        [
            ([], "tasks of 0 raters; needed the tasks of one rater"),
            ([task(0), task(0, "r2")], "tasks of 2 raters"),
            ([task(0), task(1, kind="review")], "tasks that ask different questions"),
            ([task(0), task(1, width=32)], "images of different sizes, which would tell them apart"),
        ],
    )
    def test_tasks_that_would_tell_or_differ_are_refused(self, tmp_path, tasks, sentence):
        with pytest.raises(InputError, match=sentence):
            label_studio_export(tasks, planes(tasks), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_image_that_is_missing_or_of_another_shape_is_named_by_its_task(self, tmp_path):
        one = task(3)
        images = planes([one])
        with pytest.raises(InputError, match=f"no image {one.img_B} of task number 3"):
            label_studio_export([one], {name: images[name] for name in (one.lq_img, one.img_A)}, tmp_path)
        with pytest.raises(InputError, match=r"uint16 .*in task number 3; needed uint8 of shape \(2, 64, 64\)"):
            label_studio_export([one], {name: image.astype(np.uint16) for name, image in images.items()}, tmp_path)


class TestLabelStudioImport:
    def test_answers_become_a_return(self, tmp_path):
        tasks = [task(0), task(1)]
        path = label_studio_file(tmp_path, (tasks[1], [annotation(tasks[1], ())]), (tasks[0], [annotation(tasks[0])]))
        rows = label_studio_import(path, tasks)
        assert rows == [row(tasks[0]), row(tasks[1], ())]
        assert_a_return_takes_them(rows, tasks, tmp_path)

    def test_parts_that_became_projects_of_their_own_are_one_return(self, tmp_path):
        tasks = [task(number) for number in range(5)]
        *parts, _ = label_studio_export(tasks, planes(tasks), tmp_path, most=110_000)
        assert len(parts) > 1
        of, answered = {one.task_id: one for one in tasks}, []
        for part in reversed(parts):
            entries = [
                {**entry, "annotations": [annotation(of[entry["data"]["task_id"]])]} for entry in json.loads(part.read_text())
            ]
            answered.append(tmp_path / f"answered {part.name}")
            answered[-1].write_text(json.dumps(entries))
        assert label_studio_import(answered, tasks) == [row(one) for one in tasks]
        with pytest.raises(InputError, match=r"no answer to task number \d; .* name their exports one after the other"):
            label_studio_import(answered[1:], tasks)
        with pytest.raises(InputError, match=r"answered tasks-1\.json: found task number 0 twice"):
            label_studio_import([*answered, answered[-1]], tasks)

    def test_a_review_becomes_a_return(self, tmp_path):
        one = task(0, kind="review")
        rows = label_studio_import(label_studio_file(tmp_path, (one, [annotation(one, (BOX,))])), [one])
        assert rows == [row(one, (BOX,))]
        assert_a_return_takes_them(rows, [one], tmp_path)

    def test_an_answer_is_understood_by_what_it_is_called(self, tmp_path):
        one = task(0)
        made = annotation(one)
        for result in made["result"]:
            if result["from_name"] == "pref_fidelity":
                result["value"] = {"choices": ["no difference"]}
        assert label_studio_import(label_studio_file(tmp_path, (one, [made])), [one]) == [row(one)]

    def test_a_comment_comes_along(self, tmp_path):
        one = task(0)
        made = annotation(one, ())
        made["result"].append({"from_name": "comment", "type": "textarea", "value": {"text": ["odd", "edge"]}})
        assert label_studio_import(label_studio_file(tmp_path, (one, [made])), [one])[0]["comment"] == "odd\nedge"

    def test_a_cancelled_annotation_is_no_answer(self, tmp_path):
        one = task(4)
        skipped = annotation(one, was_cancelled=True)
        assert label_studio_import(label_studio_file(tmp_path, (one, [skipped, annotation(one)])), [one]) == [row(one)]
        with pytest.raises(InputError, match="no answer to task number 4"):
            label_studio_import(label_studio_file(tmp_path, (one, [skipped])), [one])

    def test_what_is_no_single_whole_answer_is_refused_by_the_tasks_number(self, tmp_path):
        one, other = task(5), task(6)

        def refuses(sentence: str, *entries: tuple[Task, list[dict]]) -> None:
            with pytest.raises(InputError, match=sentence):
                label_studio_import(label_studio_file(tmp_path, *entries), [one, other])

        def without(name: str) -> dict:
            made = annotation(one)
            return made | {"result": [result for result in made["result"] if result["from_name"] != name]}

        def changed(name: str, **changes: object) -> dict:
            made = annotation(one)
            for result in made["result"]:
                if result["from_name"] == name:
                    result["value"] = {**result["value"], **changes}
            return made

        refuses("2 annotations of task number 5; needed one", (one, [annotation(one), annotation(one)]))
        refuses("task number 5 twice", (one, [annotation(one)]), (one, [annotation(one)]))
        refuses("a task of another rater", (task(5, "r2"), [annotation(one)]))
        refuses("no answer to task number 6", (one, [annotation(one)]))
        refuses("annotations by 2 people", (one, [annotation(one)]), (other, [annotation(other, completed_by=8)]))
        rest = (other, [annotation(other)])
        refuses("no pref_fidelity in task number 5", (one, [without("pref_fidelity")]), rest)
        refuses("no confidence in task number 5", (one, [without("confidence")]), rest)
        refuses("a region without severity in task number 5", (one, [without("severity_B")]), rest)
        refuses(
            "halluc_A 'maybe' in task number 5; needed one of none, ", (one, [changed("halluc_A", choices=["maybe"])]), rest
        )
        refuses("2 choices for halluc_A in task number 5", (one, [changed("halluc_A", choices=["none", "definite"])]), rest)
        refuses("confidence '6' in task number 5", (one, [changed("confidence", rating=6)]), rest)
        refuses("a category 'ghost' in task number 5", (one, [changed("box_A", rectanglelabels=["ghost"])]), rest)
        refuses("a rotated region in task number 5", (one, [changed("box_A", rotation=30)]), rest)
        refuses("a box of 10, 20, 74, 40 in task number 5; .* within 64 x 64", (one, [changed("box_A", width=100)]), rest)
        refuses("created_at None in task number 5", (one, [annotation(one, created_at=None)]), rest)
        for lead in ("soon", "nan", -1, True, [3]):
            refuses(r"a lead_time .* in task number 5; needed seconds", (one, [annotation(one, lead_time=lead)]), rest)
        twice = annotation(one)
        twice["result"].append({**twice["result"][0], "id": "again", "value": {"choices": ["A"]}})
        refuses("two answers to pref_quality in task number 5; needed one answer", (one, [twice]), rest)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("{", "a file that is not readable JSON"),
            ("{}", "JSON that is not a list of tasks"),
            ('[{"id": 1}]', "an entry without data"),
            (f'[{{"data": {{"task_id": "{task(0).task_id}"}}}}]', "an entry without annotations"),
        ],
    )
    def test_a_file_of_another_kind_is_refused(self, tmp_path, content, sentence):
        path = tmp_path / "export.json"
        path.write_text(content)
        with pytest.raises(InputError, match=f"export.json: found {sentence}"):
            label_studio_import(path, [task(0)])


# REDCap
