"""Answers that other programs send back, as ratings without the fields of the study and the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError
from srh_clinic.validation.study.questions import WORDING
from srh_clinic.validation.study.records import Question, Task


def one_rater(tasks: Sequence[Task]) -> str:
    """Whose tasks they are.

    Raises
    ------
    InputError
        When there is none, or they are of several raters.
    """
    raters = sorted({task.rater_id for task in tasks})
    if len(raters) != 1:
        raise InputError(f"tasks of {len(raters)} raters", "the tasks of one rater")
    return raters[0]


def answer_row(
    task: Task,
    answers: Mapping[Question, str],
    regions: Sequence[Mapping[str, Any]],
    *,
    comment: str,
    t_shown: int,
    t_answered: int,
    path: Path,
) -> dict[str, Any]:
    """A rating as the viewer writes it, without the fields of the study and the chain.

    ``answers`` are values of :data:`~srh_clinic.validation.study.questions.WORDING`, times are ms since 1970, UTC.

    Raises
    ------
    InputError
        When a question of the task has no answer, or one that cannot be given, or a region is not within the image.
    """
    for question in task.questions:
        if question not in answers:
            raise InputError(f"no {question} in task number {task.seq}", "an answer to each question", path)
        if answers[question] not in WORDING[question].values:
            found = f"{question} {answers[question]!r} in task number {task.seq}"
            raise InputError(found, f"one of {', '.join(WORDING[question].values)}", path)
    for region in regions:
        _check_region(task, region, path)
    asked: dict[str, Any] = {question: answers[question] for question in task.questions}
    if "confidence" in asked:
        asked["confidence"] = int(asked["confidence"])
    return {
        "seq": task.seq,
        "task_id": task.task_id,
        **asked,
        "regions": [dict(region) for region in regions],
        "comment": comment,
        "t_shown": t_shown,
        "t_answered": t_answered,
    }


def _check_region(task: Task, region: Mapping[str, Any], path: Path) -> None:
    xy = region["xy"]
    xs, ys = xy[::2], xy[1::2]
    ordered = region["shape"] == "point" or (xs[0] < xs[1] and ys[0] < ys[1])
    inside = all(0 <= x <= task.width for x in xs) and all(0 <= y <= task.height for y in ys)
    if not ordered or not inside:
        numbers = ", ".join(f"{number:g}" for number in xy)
        needed = f"left, top, right and bottom, or x and y, within {task.width} x {task.height} px"
        raise InputError(f"a {region['shape']} of {numbers} in task number {task.seq}", needed, path)
    if region["side"] == "B" and task.img_B is None:
        raise InputError(
            f"a region on side B of task number {task.seq}", "regions on side A alone, as a review has them", path
        )
