"""What raters marked, as COCO object annotations.

Format: COCO's data format for object detection and keypoints (https://cocodataset.org/#format-data), as pycocotools reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.validation.study.records import CATEGORIES, KeyEntry, Region, Task
from srh_clinic.validation.study.unblinding import Unblinded

POINT_PX = 1.0
"""Edge of the box that stands for a point: readers drop a box without area."""


def coco_export(unblinded: Unblinded, out: Path) -> Path:
    """Write all raters' regions as ``regions.json``; it unblinds, for it names the methods.

    An image is what one method made of one case, ``file_name`` ``CASE/METHOD.png``; an image edited for a sentinel is an image
    of its own, ``CASE/METHOD-SENTINEL-N.png``. No image is written. An annotation has ``bbox`` ``[x, y, width, height]`` in
    px, its outline as ``segmentation``, ``area``, ``iscrowd`` 0, and under ``attributes`` rater, severity, shape, the rater's
    task number and the task's kind. A point is a visible keypoint in a box of one px around it; a box has its keypoint not
    labelled. Categories are :data:`~srh_clinic.validation.study.records.CATEGORIES`, numbered from 1.

    Parameters
    ----------
    unblinded
        The study with its key opened.
    out
        The folder.

    Raises
    ------
    InputError
        When a region is on a side that its task does not have, or the folder cannot be written.
    """
    images: dict[tuple[object, ...], dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for answer in unblinded.answers:
        sides: tuple[Literal["A", "B"], ...] = ("A",) if answer.key.side_B_method is None else ("A", "B")
        image_ids = {side: _image_id(images, answer.task, answer.key, side) for side in sides}
        for region in answer.rating.regions:
            if region.side not in image_ids:
                found = f"a region on side {region.side} of task number {answer.task.seq} of {answer.task.rater_id}"
                raise InputError(found, "regions on side A alone, as a review has them")
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_ids[region.side],
                    "category_id": CATEGORIES.index(region.category) + 1,
                    **_geometry(region, answer.task),
                    "iscrowd": 0,
                    "attributes": {
                        "rater": answer.rating.rater_id,
                        "severity": region.severity,
                        "shape": region.shape,
                        "seq": answer.task.seq,
                        "kind": answer.key.kind,
                    },
                }
            )
    content = {
        "info": {"description": _description(unblinded), "version": "1.0", "date_created": unblinded.protocol.date},
        "licenses": [],
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "hallucination", "keypoints": ["point"], "skeleton": []}
            for number, name in enumerate(CATEGORIES, start=1)
        ],
    }
    return write_whole(out / "regions.json", f"{json.dumps(content, indent=1, allow_nan=False)}\n")


def _description(unblinded: Unblinded) -> str:
    returns = f"{len(unblinded.returns)} of {len(unblinded.protocol.raters)} raters"
    return f"{unblinded.protocol.title} ({unblinded.protocol.study_id}), {returns}"


def _image_id(images: dict[tuple[object, ...], dict[str, Any]], task: Task, key: KeyEntry, side: Literal["A", "B"]) -> int:
    """The id of the image on a side; images that are told apart by their key are told apart here."""
    method = key.side_A_method if side == "A" else key.side_B_method
    edit = (key.sentinel, key.planted) if key.sentinel_side == side else None
    identity = (key.case_id, method, edit)
    if identity not in images:
        earlier = sum(one[:2] == identity[:2] and one[2] is not None for one in images)
        suffix = "" if edit is None else f"-{key.sentinel}-{earlier + 1}"
        images[identity] = {
            "id": len(images) + 1,
            "file_name": f"{key.case_id}/{method}{suffix}.png",
            "width": task.width,
            "height": task.height,
        }
    image_id: int = images[identity]["id"]
    return image_id


def _geometry(region: Region, task: Task) -> dict[str, Any]:
    if region.shape == "point":
        x, y = region.xy
        left, top = (min(max(c - POINT_PX / 2, 0.0), edge - POINT_PX) for c, edge in ((x, task.width), (y, task.height)))
        width = height = POINT_PX
        keypoints = [x, y, 2]
    else:
        left, top, right, bottom = region.xy
        width, height = right - left, bottom - top
        keypoints = [0, 0, 0]
    outline = [left, top, left + width, top, left + width, top + height, left, top + height]
    return {
        "bbox": [left, top, width, height],
        "area": width * height,
        "segmentation": [outline],
        "keypoints": keypoints,
        "num_keypoints": int(region.shape == "point"),
    }
