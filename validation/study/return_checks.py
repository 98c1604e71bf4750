"""What a return has to be beside unbroken: answers of one rater to the tasks of the study, whole, and within their images."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.validation.study.folder import read_protocol, read_viewers
from srh_clinic.validation.study.records import LARGEST_MARK, MOST_MARKS, Question, Rating, Task
from srh_clinic.validation.study.returns import Return, read_return, require_whole

ASKED: tuple[Question, ...] = ("pref_quality", "pref_fidelity", "confidence", "halluc_A", "halluc_B", "method_guess")

COPY = re.compile(r" ?\(\d+\)$| - copy(?: \(\d+\))?$", re.IGNORECASE)
"""What browsers and file managers add to the name of a file that is there already."""


@dataclass(frozen=True)
class CheckedReturn:
    """What has come of a rater: a sentence, and whether it is a fault."""

    rater_id: str
    said: str
    fault: bool = False


def check_returns(study: str | Path) -> list[CheckedReturn]:
    """Check every return that has come, without the sealed key.

    Raises
    ------
    InputError
        When the study cannot be read.
    """
    study = Path(study)
    protocol, _ = read_protocol(study)
    found = []
    for rater, (viewer, tasks) in read_viewers(study, protocol).items():
        try:
            path = find_return(study, rater)
            if path is None:
                continue
            returned = read_return(path, protocol.study_id, viewer.secret)
            require_sound(returned, rater, tasks, path, sizes=bool(viewer.secret))
            if returned.closed:
                require_whole(returned, [task.task_id for task in tasks], path)
        except InputError as error:
            found.append(CheckedReturn(rater, f"found {error.found}; needed {error.needed}", fault=True))
            continue
        state = "finished" if returned.closed else "unfinished"
        found.append(
            CheckedReturn(rater, f"{len(returned.ratings)} of {len(tasks)} tasks answered, {state}{remarks(returned)}")
        )
    try:
        require_known(study, [rater.rater_id for rater in protocol.raters])
    except InputError as error:
        found.append(CheckedReturn("returned", f"found {error.found}; needed {error.needed}", fault=True))
    return found


def find_return(study: Path, rater: str) -> Path | None:
    """The file that holds a rater's return, also as ``r01 (1).jsonl``; of several the longest, if it goes on from the others.

    Raises
    ------
    InputError
        When there are several that differ.
    """
    folder = study / "returned"
    files = [path for path in _returns_in(folder) if _rater_of(path) == rater]
    if not files:
        return None
    files.sort(key=lambda path: (len(path.read_bytes()), path.stem == rater))
    *others, longest = files
    if not all(longest.read_bytes().startswith(other.read_bytes()) for other in others):
        names = ", ".join(sorted(path.name for path in files))
        raise InputError(f"returns of {rater} that differ ({names})", "one of them; move the others away", folder)
    return longest


def require_known(study: Path, raters: Collection[str]) -> None:
    """Refuse a return whose name is no rater's: it would be passed over.

    Raises
    ------
    InputError
        With its name.
    """
    strange = [path.name for path in _returns_in(study / "returned") if _rater_of(path) not in raters]
    strange += [path.name for path in _nearly_returns(study / "returned", raters)]
    if strange:
        raise InputError(
            f"{', '.join(strange)}, named after no rater",
            f"returns named {next(iter(raters))}.jsonl and so on",
            study / "returned",
        )


def require_sound(returned: Return, rater: str, tasks: Sequence[Task], path: str | Path, *, sizes: bool = True) -> None:
    """Refuse a return that is not of this rater, or whose answers do not answer its tasks.

    Each question that a task asks is answered and no other, under the task's number and in their order; it was shown before it
    was answered; marks lie within their image.

    Parameters
    ----------
    tasks
        Of the rater.
    sizes
        Whether a box over more than :data:`.records.LARGEST_MARK` of its image is refused, as the viewer refuses it.

    Raises
    ------
    InputError
        With the number of the task.
    """
    if returned.rater_id != rater:
        raise InputError(f"the return of {returned.rater_id}", f"that of {rater}", path)
    by_id = {task.task_id: task for task in tasks}
    foreign = sum(rating.task_id not in by_id for rating in returned.ratings)
    if foreign:
        raise InputError(f"answers to {foreign} tasks of another rater", f"answers to the tasks of {rater}", path)
    seen: set[str] = set()
    before = -1
    for rating in returned.ratings:
        task = by_id[rating.task_id]
        where = f"task number {task.seq}"
        if rating.seq != task.seq:
            raise InputError(f"{where} answered as number {rating.seq}", "each answer under the number of its task", path)
        if rating.task_id in seen:
            raise InputError(f"{where} answered twice", "one answer to each task", path)
        seen.add(rating.task_id)
        if task.seq < before:
            raise InputError(f"{where} answered after number {before}", "answers in the order of the tasks", path)
        before = task.seq
        _require_answers(rating, task, path)
        if rating.t_answered < rating.t_shown:
            raise InputError(f"{where} answered before it was shown", "times in order", path)
        for region in rating.regions:
            require_region(task, region.side, region.shape, region.xy, path, sizes=sizes)
        if sizes:
            require_finding(task, [(region.side, region.xy) for region in rating.regions], path)


def require_region(task: Task, side: str, shape: str, xy: Sequence[float], path: str | Path, *, sizes: bool = True) -> None:
    """Refuse a mark that is not within its image, or is nearly all of it.

    Raises
    ------
    InputError
        With the number of the task.
    """
    xs, ys = xy[::2], xy[1::2]
    ordered = shape == "point" or (xs[0] < xs[1] and ys[0] < ys[1])
    inside = all(0 <= x <= task.width for x in xs) and all(0 <= y <= task.height for y in ys)
    numbers = ", ".join(f"{number:g}" for number in xy)
    if not ordered or not inside:
        needed = f"left, top, right and bottom, or x and y, within {task.width} x {task.height} px"
        raise InputError(f"a {shape} of {numbers} in task number {task.seq}", needed, path)
    if sizes and shape == "box" and (xs[1] - xs[0]) * (ys[1] - ys[0]) > LARGEST_MARK * task.width * task.height:
        needed = f"boxes of at most {LARGEST_MARK:.0%} of the image: one around everything finds nothing"
        raise InputError(f"a box of {numbers} in task number {task.seq}", needed, path)
    if side == "B" and task.img_B is None:
        raise InputError(
            f"a region on side B of task number {task.seq}", "regions on side A alone, as a review has them", path
        )


def require_finding(task: Task, marks: Sequence[tuple[str, Sequence[float]]], path: str | Path) -> None:
    """Refuse marks of one task, each its side and numbers, that together are nearly all of an image, or very many.

    Raises
    ------
    InputError
        With the number of the task.
    """
    for side in sorted({side for side, _ in marks}):
        own = [xy for one, xy in marks if one == side]
        marked = np.zeros((task.height, task.width), dtype=bool)
        for left, top, right, bottom in (xy for xy in own if len(xy) == 4):
            marked[int(top) : ceil(bottom), int(left) : ceil(right)] = True
        where = f"side {side} of task number {task.seq}"
        if marked.mean() > LARGEST_MARK:
            needed = f"boxes that hold at most {LARGEST_MARK:.0%} of the image: those around everything find nothing"
            raise InputError(f"boxes over {marked.mean():.0%} of {where}", needed, path)
        if len(own) > MOST_MARKS:
            raise InputError(f"{len(own)} marks on {where}", f"at most {MOST_MARKS}: marks everywhere find nothing", path)


def remarks(returned: Return) -> str:
    """What is odd in a return and no fault, as the end of a sentence."""
    earlier = sum(
        later.t_shown < before.t_answered for before, later in zip(returned.ratings, returned.ratings[1:], strict=False)
    )
    return f"; {earlier} tasks shown before the one before was answered, so a clock was set back" if earlier else ""


def _require_answers(rating: Rating, task: Task, path: str | Path) -> None:
    given = {question for question in ASKED if getattr(rating, question) is not None}
    if missing := [question for question in task.questions if question not in given]:
        raise InputError(f"no {missing[0]} in task number {task.seq}", "an answer to each question", path)
    if more := sorted(given - set(task.questions)):
        raise InputError(
            f"an answer to {more[0]}, which task number {task.seq} does not ask", "answers to its questions", path
        )


def _returns_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and not path.name.startswith("."))


def _nearly_returns(folder: Path, raters: Collection[str]) -> list[Path]:
    """Files that may be a return under a name that nobody reads, such as ``r01.jsonl.txt``, ``R01.JSONL`` or ``r01.json``."""
    read = {path.name for path in _returns_in(folder)}
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    others = [path for path in files if path.is_file() and path.name not in read and not path.name.startswith(".")]
    return [path for path in others if "jsonl" in path.name.lower() or _rater_of(path).lower() in raters]


def _rater_of(path: Path) -> str:
    return COPY.sub("", path.stem)
