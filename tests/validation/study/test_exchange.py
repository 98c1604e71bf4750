"""A study goes out to other programs, what they send back becomes a return, and what was found is written by their rules."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import subprocess
import xml.etree.ElementTree as ET

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image

from srh_clinic.display import ColourWindow, srh_colours
from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.validation.study.exchange.coco import coco_export
from srh_clinic.validation.study.exchange.dicom_records import dicom_export
from srh_clinic.validation.study.exchange.imrmc import imrmc_export
from srh_clinic.validation.study.exchange.label_studio import CHOICES, label_studio_export, label_studio_import
from srh_clinic.validation.study.exchange.redcap import COLUMNS, redcap_export, redcap_import, regions_text
from srh_clinic.validation.study.records import (
    CATEGORIES,
    QUESTIONS,
    KeyEntry,
    Rater,
    Rating,
    Region,
    StudyProtocol,
    Task,
    Window,
)
from srh_clinic.validation.study.returns import read_return, require_whole, write_return
from srh_clinic.validation.study.unblinding import Answer, Unblinded

PX = 64
STUDY = "study-1"
WINDOW = Window(low=0, high=5100, red=(0, 2000), green=(100, 4000), blue=(200, 5000))
"""A plane's level is 20 counts, so that colours of the planes are those of whole counts."""

BOX = {"side": "A", "shape": "box", "xy": [10, 20, 30.5, 40], "category": "added nucleus", "severity": "minor"}
POINT = {"side": "B", "shape": "point", "xy": [5, 63.75], "category": "stripe or stitch", "severity": "major"}
ANSWERS = {
    "pref_quality": "B",
    "pref_fidelity": "tie",
    "confidence": 4,
    "halluc_A": "definite",
    "halluc_B": "possible",
    "method_guess": "unsure",
}
SHOWN, ANSWERED = 1_772_600_000_000, 1_772_600_012_500


def image_id(number: int) -> str:
    return f"{number:032x}"


def task(seq: int, rater: str = "r1", kind: str = "preference", **changes: object) -> Task:
    first = 1000 * int(rater[1:]) + 10 * seq
    fields = {
        "study_id": STUDY,
        "rater_id": rater,
        "seq": seq,
        "block": 0,
        "task_id": image_id(first),
        "lq_img": image_id(first + 1),
        "img_A": image_id(first + 2),
        "img_B": image_id(first + 3) if kind == "preference" else None,
        "height": PX,
        "width": PX,
        "um_per_px": 0.47,
        "window": WINDOW,
        "questions": QUESTIONS[kind],
    }
    return Task(**fields | changes)


def planes(tasks: list[Task]) -> dict[str, np.ndarray]:
    """Noise for some images and flat fields for others: nothing compresses less, nothing more."""
    random = np.random.default_rng(0)
    ids = [one for task in tasks for one in (task.lq_img, task.img_A, task.img_B) if one is not None]
    noisy = {one: random.integers(0, 256, (2, PX, PX), np.uint8) for one in ids}
    return {one: np.full_like(noisy[one], 7) if number % 3 == 1 else noisy[one] for number, one in enumerate(ids)}


def row(one: Task, regions: tuple[dict, ...] = (BOX, POINT), **changes: object) -> dict:
    answers = {name: ANSWERS[name] for name in one.questions}
    times = {"t_shown": SHOWN, "t_answered": ANSWERED}
    return {"seq": one.seq, "task_id": one.task_id, **answers, "regions": list(regions), "comment": "", **times} | changes


def rating(one: Task, **changes: object) -> Rating:
    changes = {"regions": ()} | changes
    return Rating(**{**row(one), "study_id": STUDY, "rater_id": one.rater_id, "prev_hash": "0" * 64} | changes)


def assert_a_return_takes_them(rows: list[dict], tasks: list[Task], tmp_path) -> None:
    """Written as the viewer writes it, the answers pass every check of a return, with nothing lost."""
    path = tmp_path / "r1.jsonl"
    path.write_text(write_return(rows, STUDY, "r1"), encoding="utf-8")
    returned = read_return(path, STUDY)
    require_whole(returned, [one.task_id for one in tasks], path)
    assert [one.model_dump(mode="json", include=set(rows[0])) for one in returned.ratings] == rows


# Label Studio


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
        asked = {name.get("name"): [choice.get("value") for choice in name] for name in root.iter("Choices")}
        severities = {"severity_A": ["minor", "major"], "severity_B": ["minor", "major"]}
        assert asked == {name: list(CHOICES[name]) for name in one.questions if name != "confidence"} | severities
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

    def test_a_review_becomes_a_return(self, tmp_path):
        one = task(0, kind="review")
        rows = label_studio_import(label_studio_file(tmp_path, (one, [annotation(one, (BOX,))])), [one])
        assert rows == [row(one, (BOX,))]
        assert_a_return_takes_them(rows, [one], tmp_path)

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


def cells(path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def labelled(dictionary, data) -> str:
    """The data as REDCap exports it with labels, in header and cells, with a field of its own and Excel's byte order mark."""
    fields = cells(dictionary)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field["Field Label"] for field in fields] + ["Complete?"])
    for record in cells(data):
        values = []
        for field in fields:
            choices = dict(part.split(", ") for part in field[COLUMNS[5]].split(" | ")) if field[COLUMNS[5]] else {}
            value = record[field[COLUMNS[0]]]
            values.append(choices.get(value, value))
        writer.writerow([*values, "Complete"])
    return "\ufeff" + text.getvalue()


class TestRedcap:
    def test_the_dictionary_has_the_18_columns_in_their_order(self, tmp_path):
        dictionary, _ = redcap_export([task(0)], tmp_path)
        assert dictionary.read_text().splitlines()[0] == (
            'Variable / Field Name,Form Name,Section Header,Field Type,Field Label,"Choices, Calculations, OR Slider Labels",'
            "Field Note,Text Validation Type OR Show Slider Number,Text Validation Min,Text Validation Max,Identifier?,"
            "Branching Logic (Show field only if...),Required Field?,Custom Alignment,Question Number (surveys only),"
            "Matrix Group Name,Matrix Ranking?,Field Annotation"
        )

    def test_the_record_comes_first_and_every_question_is_a_required_radio(self, tmp_path):
        one = task(0)
        fields = {field[COLUMNS[0]]: field for field in cells(redcap_export([one], tmp_path)[0])}
        assert next(iter(fields)) == "record_id"
        assert all(name == name.lower() for name in fields)
        assert {field["Form Name"] for field in fields.values()} == {"rating"}
        for question in one.questions:
            field = fields[question.lower()]
            assert (field["Field Type"], field["Required Field?"]) == ("radio", "y")
        assert fields["pref_quality"][COLUMNS[5]] == "1, A | 2, B | 3, tie"
        assert fields["regions"][COLUMNS[11]] == (
            "([halluc_a] <> '' and [halluc_a] <> '1') or ([halluc_b] <> '' and [halluc_b] <> '1')"
        )

    def test_the_template_has_a_record_of_each_task_and_no_answer(self, tmp_path):
        dictionary, data = redcap_export([task(1), task(0), task(0, "r2")], tmp_path)
        records = cells(data)
        assert list(records[0]) == [field[COLUMNS[0]] for field in cells(dictionary)] + ["rating_complete"]
        assert [record["record_id"] for record in records] == ["r1-0", "r1-1", "r2-0"]
        filled = {name for record in records for name, value in record.items() if value}
        assert filled == {"record_id", "task_number", "rating_complete"}

    @pytest.mark.parametrize("labels", [False, True])
    def test_answers_become_a_return(self, tmp_path, labels):
        tasks = [task(0), task(1)]
        ratings = [rating(tasks[0], regions=(BOX, POINT), comment='a, "b"\nc'), rating(tasks[1]), rating(task(0, "r2"))]
        dictionary, data = redcap_export([*tasks, task(0, "r2")], tmp_path, ratings)
        if labels:
            data.write_text(labelled(dictionary, data), encoding="utf-8", newline="")
        rows = redcap_import(data, tasks)
        # REDCap keeps seconds, and no time of the answer.
        times = {"t_shown": SHOWN, "t_answered": SHOWN}
        assert rows == [row(tasks[0], comment='a, "b"\nc', **times), row(tasks[1], (), **times)]
        assert_a_return_takes_them(rows, tasks, tmp_path)

    def test_a_review_becomes_a_return(self, tmp_path):
        one = task(0, kind="review")
        answered = rating(one, regions=(BOX,))
        rows = redcap_import(redcap_export([one], tmp_path, [answered])[1], [one])
        assert rows == [row(one, (BOX,), t_answered=SHOWN)]
        assert_a_return_takes_them(rows, [one], tmp_path)

    def test_regions_are_written_as_a_rater_writes_them(self):
        regions = [Region(**BOX), Region(**POINT)]
        assert regions_text(regions) == "A box 10,20,30.5,40 added nucleus minor; B point 5,63.75 stripe or stitch major"

    @pytest.mark.parametrize(
        "text", ["A box 10,20,30,40 added nucleus", "C point 1,2 other minor", "A point 1,2,3,4 other minor"]
    )
    def test_a_region_that_is_not_understood_is_quoted(self, tmp_path, text):
        one = task(2)
        _, data = redcap_export([one], tmp_path, [rating(one)])
        table = cells(data)
        table[0]["regions"] = f"A point 1,2 other minor; {text}"
        with pytest.raises(InputError, match=f"a region '{text}' in task number 2; needed SIDE box LEFT,TOP"):
            redcap_import(rewritten(data, table), [one])

    def test_what_is_no_whole_answer_is_refused_by_the_tasks_number(self, tmp_path):
        tasks = [task(0), task(1)]
        _, data = redcap_export(tasks, tmp_path, [rating(one) for one in tasks])
        whole = cells(data)

        def refuses(sentence: str, table: list[dict[str, str]]) -> None:
            with pytest.raises(InputError, match=sentence):
                redcap_import(rewritten(data, table), tasks)

        refuses("no pref_quality in task number 0", [whole[0] | {"pref_quality": ""}, whole[1]])
        refuses(
            "halluc_B '4' in task number 1; needed one of none, possible, definite", [whole[0], whole[1] | {"halluc_b": "4"}]
        )
        refuses("no answer to task number 1", whole[:1])
        refuses("task number 0 twice", [whole[0], whole[0], whole[1]])
        refuses("a record r1-9, which is not a task of r1", [*whole, whole[0] | {"record_id": "r1-9"}])
        refuses("t_shown 'noon' in task number 0", [whole[0] | {"t_shown": "noon"}, whole[1]])
        refuses("a box of 9, 9, 8, 10 in task number 0", [whole[0] | {"regions": "A box 9,9,8,10 other minor"}, whole[1]])
        refuses("no column confidence", [{k: v for k, v in one.items() if k != "confidence"} for one in whole])

    def test_a_ragged_or_unreadable_file_is_refused(self, tmp_path):
        _, data = redcap_export([task(0)], tmp_path, [rating(task(0))])
        data.write_text(f"{data.read_text()}r1-1,2\n")
        with pytest.raises(InputError, match="2 cells in row 3"):
            redcap_import(data, [task(0)])
        data.write_bytes(b"\xff\xfe")
        with pytest.raises(InputError, match="a file that is not readable CSV"):
            redcap_import(data, [task(0)])


def rewritten(path, table: list[dict[str, str]]):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


# What is unblinded


def key(one: Task, case: str, **changes: object) -> KeyEntry:
    fields = {
        "task_id": one.task_id,
        "rater_id": one.rater_id,
        "kind": "real",
        "side_A_method": "rscd",
        "side_B_method": "noise2void",
        "case_id": case,
        "patient_hash": "0" * 64,
        "source_sha256": "1" * 64,
        "model_sha256": "2" * 64,
        "seed": 0,
    }
    return KeyEntry(**fields | changes)


def answer(one: Task, case: str, entry: dict[str, object] | None = None, **changes: object) -> Answer:
    return Answer(one, key(one, case, **(entry or {})), rating(one, **changes))


def unblinded(*answers: Answer) -> Unblinded:
    raters = tuple(Rater(rater_id=one) for one in ("r1", "r2"))
    protocol = StudyProtocol(
        study_id=STUDY,
        title="Which restoration",
        kind="preference",
        preset="default",
        date="2026-03-04",
        test="rscd",
        baselines=("noise2void",),
        raters=raters,
        images=1,
        tasks=1,
        raters_per_task=2,
        repeats=0,
        sentinels={},
        questions=QUESTIONS["preference"],
        sample_size={},
        imbalance={},
        sources="phantoms",
    )
    return Unblinded(protocol, answers, dict.fromkeys(("r1", "r2"), "3" * 64))


def planted(kind: str, side: str, x: float = 20.0) -> dict[str, object]:
    both = {"side_A_method": "rscd", "side_B_method": "rscd"}
    return {"kind": "sentinel", "sentinel": kind, "sentinel_side": side, "planted": (x, 30.0, 5.5), **both}


SAME = {"kind": "sentinel", "sentinel": "same", "side_A_method": "rscd", "side_B_method": "rscd"}


class TestCoco:
    def content(self, tmp_path, *answers: Answer) -> dict:
        return json.loads(coco_export(unblinded(*answers), tmp_path).read_text())

    def test_a_box_has_left_top_width_and_height_and_a_point_a_keypoint(self, tmp_path):
        content = self.content(tmp_path, answer(task(0), "a@0,64", regions=(BOX, POINT)))
        box, point = content["annotations"]
        assert (box["bbox"], box["area"], box["iscrowd"]) == ([10, 20, 20.5, 20], 410, 0)
        assert (box["keypoints"], box["num_keypoints"]) == ([0, 0, 0], 0)
        assert box["segmentation"] == [[10, 20, 30.5, 20, 30.5, 40, 10, 40]]
        # Half a px to each side, moved into the image of 64 px.
        assert (point["bbox"], point["area"]) == ([4.5, 63, 1, 1], 1)
        assert (point["keypoints"], point["num_keypoints"]) == ([5, 63.75, 2], 1)
        assert box["attributes"] == {"rater": "r1", "severity": "minor", "shape": "box", "seq": 0, "kind": "real"}

    def test_ids_are_unique_and_refer_to_what_is_there(self, tmp_path):
        answers = [
            answer(task(0), "a", regions=(BOX, POINT)),
            answer(task(0, "r2"), "a", {"side_A_method": "noise2void", "side_B_method": "rscd"}, regions=(BOX,)),
        ]
        content = self.content(tmp_path, *answers)
        files = {image["id"]: image["file_name"] for image in content["images"]}
        assert sorted(files.values()) == ["a/noise2void.png", "a/rscd.png"]
        assert {(image["width"], image["height"]) for image in content["images"]} == {(PX, PX)}
        names = {category["id"]: category["name"] for category in content["categories"]}
        assert tuple(names.values()) == CATEGORIES
        assert [one["id"] for one in content["annotations"]] == [1, 2, 3]
        seen = [(files[one["image_id"]], names[one["category_id"]]) for one in content["annotations"]]
        assert seen == [
            ("a/rscd.png", "added nucleus"),
            ("a/noise2void.png", "stripe or stitch"),
            ("a/noise2void.png", "added nucleus"),
        ]

    def test_an_edited_image_is_not_the_image_that_was_edited(self, tmp_path):
        answers = [
            answer(task(0), "a", regions=(BOX,)),
            answer(task(1), "a", planted("added", "A"), regions=(BOX, POINT)),
            answer(task(0, "r2"), "a", planted("added", "B", x=25.0)),
        ]
        names = [image["file_name"] for image in self.content(tmp_path, *answers)["images"]]
        assert names == ["a/rscd.png", "a/noise2void.png", "a/rscd-added-1.png", "a/rscd-added-2.png"]

    def test_a_region_on_a_side_that_was_not_shown_is_refused(self, tmp_path):
        one = answer(task(7, kind="review"), "a", {"side_B_method": None}, regions=(POINT,), **dict.fromkeys(ANSWERS))
        with pytest.raises(InputError, match="a region on side B of task number 7 of r1"):
            coco_export(unblinded(one), tmp_path)


class TestImrmc:
    ANSWERS = (
        answer(task(0), "a@0,64", planted("added", "B"), halluc_A="none", halluc_B="definite"),
        answer(task(1), "b", planted("removed", "A"), halluc_A="possible", halluc_B="definite"),
        answer(task(2), "c", SAME, halluc_A="none", halluc_B="possible"),
        answer(task(3), "d", {"kind": "sentinel", "sentinel": "blurred", "sentinel_side": "A"}),
        answer(task(4), "e"),
        answer(task(0, "r2"), "a@0,64", planted("added", "A"), halluc_A="none", halluc_B="none"),
        answer(task(1, "r2"), "c", SAME, halluc_A="definite", halluc_B="none"),
    )

    def test_the_file_has_truth_and_scores_of_the_sides_that_have_a_truth(self, tmp_path):
        path, _ = imrmc_export(unblinded(*self.ANSWERS), tmp_path)
        assert path.read_text() == (
            "Planted hallucinations of study study-1\nNR: 2\nN0: 1\nN1: 2\nNM: 1\nBEGIN DATA:\n"
            "-1,a@0%2C64=added@20_30_5.5,0,1\n-1,b=removed@20_30_5.5,0,1\n-1,c=same,0,0\n"
            "r1,a@0%2C64=added@20_30_5.5,rscd,2\nr1,b=removed@20_30_5.5,rscd,1\nr1,c=same,rscd,0\n"
            "r2,a@0%2C64=added@20_30_5.5,rscd,0\nr2,c=same,rscd,2\n"
        )

    def test_the_table_for_r_is_the_same_with_names(self, tmp_path):
        file, table = imrmc_export(unblinded(*self.ANSWERS), tmp_path)
        rows = file.read_text().split("BEGIN DATA:\n")[1].splitlines()
        named = [
            ",".join(["truth", row.split(",")[1], "truth", row.split(",")[3]]) if row.startswith("-1,") else row
            for row in rows
        ]
        assert table.read_text().splitlines() == ["readerID,caseID,modalityID,score", *named]

    def test_a_nucleus_planted_elsewhere_makes_another_case(self, tmp_path):
        other = answer(task(2, "r2"), "a@0,64", planted("added", "A", x=40.0))
        path, _ = imrmc_export(unblinded(*self.ANSWERS, other), tmp_path)
        assert "N1: 3\n" in path.read_text()

    def test_one_reader_scores_one_case_once(self, tmp_path):
        again = answer(task(9), "c", SAME, halluc_A="definite")
        path, _ = imrmc_export(unblinded(*self.ANSWERS, again), tmp_path)
        assert [line for line in path.read_text().splitlines() if line.startswith("r1,c=same")] == ["r1,c=same,rscd,0"]

    def test_without_both_truths_there_is_nothing_to_find(self, tmp_path):
        with pytest.raises(InputError, match="2 sentinels with a planted hallucination and 0 without"):
            imrmc_export(unblinded(*self.ANSWERS[:2]), tmp_path)
        with pytest.raises(InputError, match="0 sentinels with a planted hallucination and 1 without"):
            imrmc_export(unblinded(self.ANSWERS[2]), tmp_path)

    def test_names_that_stand_for_the_truth_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="a method called truth"):
            imrmc_export(unblinded(answer(task(0), "a", SAME | {"side_A_method": "truth"})), tmp_path)

    def test_a_study_that_does_not_ask_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no answer about hallucinations on side A of task number 0 of r1"):
            imrmc_export(unblinded(answer(task(0), "a", SAME, halluc_A=None)), tmp_path)


class TestDicom:
    @pytest.fixture
    def slide(self, tmp_path):
        counts = np.arange(2 * 80 * 100, dtype=np.uint16).reshape(2, 80, 100)
        write_wsi(ArraySlide(counts, 0.47, Identity(patient_id="P1", specimen_id="S1")), tmp_path / "slide")
        return tmp_path / "slide"

    def test_regions_lie_where_the_case_was_cut_from(self, tmp_path, slide):
        study = unblinded(answer(task(0), "s@16,32", regions=(BOX, POINT), halluc_B="none"))
        report, selection = dicom_export(study, {"s@16,32": (slide, 16, 32)}, tmp_path / "out")
        assert [path.name for path in (report, selection)] == ["slide1-r1-report.dcm", "slide1-r1-key-objects.dcm"]
        content = hd.sr.srread(report).content
        box, point = content.get_planar_roi_measurement_groups()
        assert box.roi.value.tolist() == [[42, 36], [62.5, 36], [62.5, 56], [42, 56], [42, 36]]
        assert point.roi.value.tolist() == [[37, 79.75]]
        methods = [group.get_qualitative_evaluations()[0].value.value for group in (box, point)]
        assert methods == ["rscd", "noise2void"]
        calls = [group.get_qualitative_evaluations()[1].value.value for group in content.get_image_measurement_groups()]
        assert calls == ["HALL-DEFINITE", "HALL-NONE"]
        instances = {pydicom.dcmread(file).SOPInstanceUID for file in slide.iterdir()}
        chosen = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(selection)).content.get_references()
        assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in chosen} == instances

    def test_only_real_tasks_are_reported_and_only_calls_are_key(self, tmp_path, slide):
        none = {"halluc_A": "none", "halluc_B": "none"}
        study = unblinded(
            answer(task(0), "s", **none),
            answer(task(1), "s", {"kind": "repeat", "repeat_of": task(0).task_id}),
            answer(task(2), "s", planted("added", "A")),
            answer(task(0, "r2"), "s"),
        )
        written = dicom_export(study, {"s": (slide, 0, 0)}, tmp_path / "out")
        assert [path.name for path in written] == ["slide1-r1-report.dcm", "slide1-r2-report.dcm", "slide1-r2-key-objects.dcm"]
        identifiers = [group.tracking_identifier for group in hd.sr.srread(written[0]).content.get_image_measurement_groups()]
        assert identifiers == ["r1/0/A", "r1/0/B"]

    def test_dciodvfy_finds_no_error(self, tmp_path, slide):
        if shutil.which("dciodvfy") is None:
            pytest.skip("dciodvfy is missing: install the Debian package dicom3tools")
        study = unblinded(answer(task(0), "s", regions=(BOX, POINT)))
        for path in dicom_export(study, {"s": (slide, 0, 0)}, tmp_path / "out"):
            run = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
            assert [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")] == []

    def test_a_case_without_file_or_outside_its_slide_is_refused(self, tmp_path, slide):
        study = unblinded(answer(task(0), "s"))
        with pytest.raises(InputError, match="no DICOM file for the case s"):
            dicom_export(study, {}, tmp_path / "out")
        with pytest.raises(
            InputError, match="the case s at y=17 x=0, 64 x 64 px; needed a place within the slide's 80 x 100 px"
        ):
            dicom_export(study, {"s": (slide, 17, 0)}, tmp_path / "out")
        assert not (tmp_path / "out").exists()
