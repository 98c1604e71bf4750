"""A rater's tasks for Label Studio, and what comes back of it.

Formats: Label Studio's task format (https://labelstud.io/guide/task_format) and its labelling configuration
(https://labelstud.io/tags).
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srh_clinic.display import RGB, ColourWindow
from srh_clinic.errors import InputError
from srh_clinic.files import parsed_json, write_whole
from srh_clinic.validation.study.exchange.answers import answer_row, one_rater
from srh_clinic.validation.study.questions import AS_SCANNED, MARK_WORDING, WORDING, Wording, wording
from srh_clinic.validation.study.records import CATEGORIES, SEVERITIES, Question, Task, Window

EXPORT = "a JSON export of Label Studio with one annotation per task"

LARGEST_FILE = 200 << 20
"""Bytes of a file that Label Studio takes by its page: more than 250 MB are refused (DATA_UPLOAD_MAX_MEMORY_SIZE)."""

PART = re.compile(r"tasks(-\d+)?\.json")

_TITLES = {"lq": AS_SCANNED, "A": "A", "B": "B"}


def label_studio_export(
    tasks: Sequence[Task], images: Mapping[str, NDArray[np.uint8]], out: Path, most: int = LARGEST_FILE
) -> tuple[Path, ...]:
    """Write one rater's tasks as ``tasks.json``, and how they are answered as ``config.xml``.

    Where they take more than ``most`` bytes, they are split into ``tasks-1.json``, ``tasks-2.json``, ...: import all of them,
    in this order, into one project.

    A task holds its id, its number, the rater and its three images (two in a review), and nothing else. The images are PNG
    within the JSON, coloured in the task's window and stored without compression, because compressed length tells methods
    apart: each has as many bytes as any other.

    Parameters
    ----------
    tasks
        Tasks of one rater, with the same questions and the same size.
    images
        uint8 ``(2, H, W)`` by image id, planes CH2 and CH3, 0 and 255 at the ends of the task's window.
    out
        The folder.

    Returns
    -------
    tuple of Path
        ``tasks.json`` or its parts, and ``config.xml`` last.

    Raises
    ------
    InputError
        When there is no task, tasks are of several raters, ask different questions or have images of different sizes, an
        image is missing or not uint8 ``(2, H, W)``, or one task takes more than ``most`` bytes.
    """
    rater_id = one_rater(tasks)
    if len({task.questions for task in tasks}) > 1 or len({task.img_B is None for task in tasks}) > 1:
        raise InputError("tasks that ask different questions", "tasks of one kind")
    if len({(task.height, task.width) for task in tasks}) > 1:
        raise InputError("images of different sizes, which would tell them apart", "images of one size")
    rows = [
        {
            "data": {
                "task_id": task.task_id,
                "seq": task.seq,
                "rater": rater_id,
                **{name: _data_uri(_image(task, image_id, images), task.window) for name, image_id in _shown(task)},
            }
        }
        for task in sorted(tasks, key=lambda task: task.seq)
    ]
    parts = _parts([json.dumps(row) for row in rows], most)
    names = ["tasks.json"] if len(parts) == 1 else [f"tasks-{number}.json" for number in range(1, len(parts) + 1)]
    for earlier in out.glob("tasks*.json"):
        if PART.fullmatch(earlier.name) and earlier.name not in names:
            earlier.unlink()  # of another split, which would be imported beside this one
    written = [write_whole(out / name, f"[{', '.join(part)}]\n") for name, part in zip(names, parts, strict=True)]
    return *written, write_whole(out / "config.xml", _config(tasks[0]))


def label_studio_import(files: Path | Sequence[Path], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Read one rater's answers from a JSON export of Label Studio, or from several, in the order of the tasks.

    A cancelled (skipped) annotation is no answer. Two annotations of one task are refused, because which of them the rater
    meant is not ours to choose. Percent become px, rounded to a thousandth; the time of the answer is that at which the
    annotation was created, the time of showing is earlier by its lead time.

    Parameters
    ----------
    files
        The export; several where the parts of one rater's tasks went into several projects.
    tasks
        The tasks of this rater.

    Returns
    -------
    list of dict
        Ratings without the fields of the study and the chain: what
        :func:`~srh_clinic.validation.study.returns.write_return` takes.

    Raises
    ------
    InputError
        When the file is no such export, or a task is not answered, not answered in full, answered twice, answered by
        several people or not of this rater; the message names the task's number.
    """
    one_rater(tasks)
    by_id = {task.task_id: task for task in tasks}
    annotations: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    people = set()
    paths = [files] if isinstance(files, Path) else list(files)
    for path, entry in ((one, entry) for one in paths for entry in _entries(one)):
        task = by_id.get(str(_part(entry, "data", Mapping, path).get("task_id")))
        if task is None:
            raise InputError("a task of another rater", f"the {len(tasks)} tasks of {tasks[0].rater_id}", path)
        if task.task_id in annotations:
            raise InputError(f"task number {task.seq} twice", "each task once", path)
        kept = [one for one in _part(entry, "annotations", list, path) if not one.get("was_cancelled")]
        if len(kept) > 1:
            raise InputError(f"{len(kept)} annotations of task number {task.seq}", "one annotation of each task", path)
        if kept:
            annotations[task.task_id] = path, kept[0]
            people.add(json.dumps(kept[0].get("completed_by"), sort_keys=True))
    if len(people) > 1:
        raise InputError(f"annotations by {len(people)} people", f"those of {tasks[0].rater_id} alone", paths[0])
    rows = []
    for task in sorted(tasks, key=lambda task: task.seq):
        if task.task_id not in annotations:
            needed = f"an answer to each of {len(tasks)} tasks (of all parts: name their exports one after the other)"
            raise InputError(f"no answer to task number {task.seq}", needed, paths[0])
        path, annotation = annotations[task.task_id]
        rows.append(_row(task, annotation, path))
    return rows


def _parts(rows: Sequence[str], most: int) -> list[list[str]]:
    """Rows in their order, together as long as a file may be."""
    parts: list[list[str]] = [[]]
    size = 0
    for row in rows:
        if len(row) + 3 > most:
            found = f"a task whose images take {len(row) / 2**20:.4g} MiB"
            raise InputError(found, f"tasks of at most {most / 2**20:.4g} MiB, which Label Studio takes by its page")
        if parts[-1] and size + len(row) + 3 > most:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += len(row) + 2
    return parts


def _shown(task: Task) -> list[tuple[str, str]]:
    named = [("lq", task.lq_img), ("A", task.img_A), ("B", task.img_B)]
    return [(name, image_id) for name, image_id in named if image_id is not None]


def _image(task: Task, image_id: str, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    planes = images.get(image_id)
    if planes is None:
        raise InputError(f"no image {image_id} of task number {task.seq}", "all images of all tasks")
    if planes.dtype != np.uint8 or planes.shape != (2, task.height, task.width):
        found = f"an image of {planes.dtype} with shape {planes.shape} in task number {task.seq}"
        raise InputError(found, f"uint8 of shape (2, {task.height}, {task.width})")
    return planes


def _colours(planes: NDArray[np.uint8], window: Window) -> RGB:
    counts = window.low + planes.astype(np.float32) * ((window.high - window.low) / 255)
    low, high = zip(window.red, window.green, window.blue, strict=True)
    return np.rint(ColourWindow(low, high).scale(counts) * 255).astype(np.uint8).transpose(1, 2, 0)


def _data_uri(planes: NDArray[np.uint8], window: Window) -> str:
    file = io.BytesIO()
    Image.fromarray(_colours(planes, window)).save(file, "png", compress_level=0)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _config(task: Task) -> bytes:
    root = ET.Element("View")
    ET.SubElement(root, "Header", value="Task $seq")
    row = ET.SubElement(root, "View", style="display: flex; gap: 8px")
    for name, _ in _shown(task):
        column = ET.SubElement(row, "View", style="flex: 1")
        ET.SubElement(column, "Header", value=_TITLES[name])
        ET.SubElement(column, "Image", name=name, value=f"${name}", smoothing="false", zoom="true", zoomControl="true")
        if name != "lq":
            _region_controls(column, name)
    for question in task.questions:
        asked = wording(task.kind, question)
        if question == "confidence":
            ET.SubElement(root, "Header", value=asked.text)
            ET.SubElement(root, "Rating", name=question, toName="A", maxRating=asked.values[-1], required="true")
        else:
            _choices(root, question, "A", asked)
        if asked.meant:
            ET.SubElement(root, "Header", value=asked.meant, size="6")
    ET.SubElement(root, "TextArea", name="comment", toName="A", placeholder="Comment", maxSubmissions="1")
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n"


def _region_controls(column: ET.Element, side: str) -> None:
    ET.SubElement(column, "Header", value=MARK_WORDING["category"].text)
    for tag, name, more in (("RectangleLabels", "box", {"canRotate": "false"}), ("KeyPointLabels", "point", {})):
        control = ET.SubElement(column, tag, {"name": f"{name}_{side}", "toName": side, **more})
        for category in CATEGORIES:
            ET.SubElement(control, "Label", value=category)
    selected = ET.SubElement(column, "View", visibleWhen="region-selected")
    _choices(selected, f"severity_{side}", side, MARK_WORDING["severity"]).set("perRegion", "true")


def _choices(parent: ET.Element, name: str, side: str, asked: Wording) -> ET.Element:
    """A question with its answers; where one is called otherwise than it is kept, its alias is what Label Studio keeps."""
    ET.SubElement(parent, "Header", value=asked.text)
    shown = {"choice": "single-radio", "showInline": "true", "required": "true"}
    choices = ET.SubElement(parent, "Choices", {"name": name, "toName": side, **shown})
    for choice in asked.choices:
        ET.SubElement(choices, "Choice", value=choice.label, alias=str(choice.value))
    return choices


def _entries(path: Path) -> list[Any]:
    try:
        entries = parsed_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"a file that is not readable JSON ({error})", EXPORT, path) from error
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError("JSON that is not a list of tasks", EXPORT, path)
    return entries


def _part(entry: Mapping[str, Any], name: str, kind: Any, path: Path) -> Any:
    part = entry.get(name)
    if not isinstance(part, kind) or (kind is list and not all(isinstance(one, Mapping) for one in part)):
        raise InputError(f"an entry without {name}", EXPORT, path)
    return part


def _row(task: Task, annotation: Mapping[str, Any], path: Path) -> dict[str, Any]:
    answers: dict[Question, str] = {}
    drawn: dict[str, dict[str, Any]] = {}
    severities: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    comment = ""
    for result in _part(annotation, "result", list, path):
        name, value = str(result.get("from_name")), _part(result, "value", Mapping, path)
        place = (name, str(result.get("id")) if name not in (*task.questions, "comment") else "")
        if place in seen:
            raise InputError(f"two answers to {name} in task number {task.seq}", "one answer to each question", path)
        seen.add(place)
        question = next((question for question in task.questions if question == name), None)
        if question == "confidence":
            answers[question] = str(value.get("rating"))
        elif question is not None:
            answers[question] = WORDING[question].value_of(_only(value.get("choices"), name, task, path))
        elif name in ("box_A", "box_B", "point_A", "point_B"):
            drawn[str(result.get("id"))] = _region(name, result, task, path)
        elif name in ("severity_A", "severity_B"):
            severities[str(result.get("id"))] = _only(value.get("choices"), name, task, path)
        elif name == "comment":
            text = value.get("text") or []
            comment = text if isinstance(text, str) else "\n".join(map(str, text))
        else:
            raise InputError(
                f"a result {name!r} in task number {task.seq}",
                "results of the labelling configuration that was exported",
                path,
            )
    for region_id, region in drawn.items():
        region["severity"] = severities.get(region_id)
        if region["severity"] not in SEVERITIES:
            raise InputError(f"a region without severity in task number {task.seq}", "minor or major for each region", path)
    t_answered = _milliseconds(annotation, task, path)
    return answer_row(
        task,
        answers,
        list(drawn.values()),
        comment=comment,
        t_shown=t_answered - _lead_time(annotation, task, path),
        t_answered=t_answered,
        path=path,
    )


def _only(values: Any, name: str, task: Task, path: Path) -> str:
    if not isinstance(values, list) or len(values) != 1:
        count = len(values) if isinstance(values, list) else 0
        raise InputError(f"{count} choices for {name} in task number {task.seq}", "one choice", path)
    return str(values[0])


def _region(name: str, result: Mapping[str, Any], task: Task, path: Path) -> dict[str, Any]:
    shape, side = name.split("_")
    value = result["value"]
    category = _only(value.get("rectanglelabels" if shape == "box" else "keypointlabels"), "the category", task, path)
    if category not in CATEGORIES:
        raise InputError(f"a category {category!r} in task number {task.seq}", f"one of {', '.join(CATEGORIES)}", path)
    size = result.get("original_width", task.width), result.get("original_height", task.height)
    if size != (task.width, task.height):
        found = f"an image of {size[0]} x {size[1]} px in task number {task.seq}"
        raise InputError(found, f"the exported one of {task.width} x {task.height} px", path)
    if value.get("rotation") or result.get("image_rotation"):
        raise InputError(f"a rotated region in task number {task.seq}", "upright boxes", path)
    try:
        x, y = float(value["x"]), float(value["y"])
        right, bottom = (x + float(value["width"]), y + float(value["height"])) if shape == "box" else (x, y)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a {shape} without numbers in task number {task.seq}", EXPORT, path) from error
    percent = (x, y, right, bottom) if shape == "box" else (x, y)
    edges = (task.width, task.height) * (len(percent) // 2)
    xy = [round(part * edge / 100, 3) for part, edge in zip(percent, edges, strict=True)]
    return {"side": side, "shape": shape, "xy": xy, "category": category}


def _lead_time(annotation: Mapping[str, Any], task: Task, path: Path) -> int:
    """Milliseconds from showing to answering; 0 where none is stated."""
    stated = annotation.get("lead_time")
    try:
        seconds = 0.0 if stated is None else float(stated)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(stated, bool) or not 0 <= seconds < math.inf:
        raise InputError(f"a lead_time {stated!r} in task number {task.seq}", "seconds, 0 or more", path)
    return round(1000 * seconds)


def _milliseconds(annotation: Mapping[str, Any], task: Task, path: Path) -> int:
    try:
        created = datetime.fromisoformat(str(annotation.get("created_at")))
        return round(1000 * (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp())
    except ValueError as error:
        found = f"created_at {annotation.get('created_at')!r} in task number {task.seq}"
        raise InputError(found, "a date and time", path) from error
