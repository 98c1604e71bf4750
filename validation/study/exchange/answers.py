"""Answers that other programs send back, as ratings without the fields of the study and the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srh_clinic.errors import InputError
from srh_clinic.validation.study.questions import WORDING
from srh_clinic.validation.study.records import Question, Task
from srh_clinic.validation.study.return_checks import require_region


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
        require_region(task, region["side"], region["shape"], region["xy"], path)
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
