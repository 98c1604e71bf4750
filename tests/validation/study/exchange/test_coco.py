"""What raters marked is written by COCO's rules."""

from __future__ import annotations

import json

import pytest
from rated import (
    ANSWERS,
    BOX,
    POINT,
    PX,
    answer,
    planted,
    task,
    unblinded,
)

from srh_clinic.errors import InputError
from srh_clinic.validation.study.exchange.coco import coco_export
from srh_clinic.validation.study.records import CATEGORIES
from srh_clinic.validation.study.unblinding import Answer


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
