"""Blinding: tasks get random names and sides, and the key says what they are."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from srh_clinic.intensity import Counts
from srh_clinic.validation.study.images import StudyImage
from srh_clinic.validation.study.records import KeyEntry, Rater, Sentinel, StudyProtocol, Task, TaskKind, Window
from srh_clinic.validation.study.restored import View
from srh_clinic.validation.study.streams import Stream, drawn, secret_stream
from srh_clinic.validation.study.window import window_of

BLOCK = 25
"""Tasks after which the viewer offers a rest."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A task before it is blinded: an image, the views on either side, and what the key will say of it."""

    image: int
    views: tuple[View, View | None]
    kind: TaskKind = "real"
    sentinel: Sentinel | None = None
    changed: int | None = None
    place: tuple[float, float, float] | None = None
    focus: tuple[int, int, int, int] | None = None
    focus_flagged: bool | None = None


@dataclass(eq=False)
class Blinding:
    """Sides and names, drawn from the salt, which lies sealed: seed and names tell no side."""

    salt: bytes
    sides: np.random.Generator = field(init=False)
    names: int = 0
    """How many have been given."""
    patients: bytes = b""
    """The salt of patients' names, where it is another: one patient has one name in all of a study."""

    def __post_init__(self) -> None:
        self.sides = secret_stream(self.salt, Stream.SIDES)

    def name(self) -> str:
        """A name of 128 bits that looks random to who has not the salt."""
        self.names += 1
        return drawn(self.salt, Stream.NAMES, self.names)[:16].hex()

    def coin(self) -> bool:
        return bool(self.sides.integers(2))

    def hashed(self, text: str) -> str:
        """A name that only who has the salt can compute."""
        return hmac.new(self.patients or self.salt, text.encode(), hashlib.sha256).hexdigest()


def blind(
    shown: Sequence[tuple[Shown, int | None]],
    images: Sequence[StudyImage],
    rater: Rater,
    described: StudyProtocol,
    seed: int,
    blinding: Blinding,
) -> tuple[list[Task], list[KeyEntry], dict[str, tuple[Counts, Window]]]:
    """Tasks with random names and sides, the key to them, and by name what is shown and in which window."""
    tasks: list[Task] = []
    key: list[KeyEntry] = []
    pictures: dict[str, tuple[Counts, Window]] = {}
    swapped: list[bool] = []
    for seq, (one, repeats) in enumerate(shown):
        image = images[one.image]
        swapped.append(not swapped[repeats] if repeats is not None else blinding.coin())
        swap = swapped[-1] and one.views[1] is not None
        views = one.views[::-1] if swap else one.views
        window = window_of(image.counts)
        names = [blinding.name() for _ in range(4)]
        task = Task(
            study_id=described.study_id,
            rater_id=rater.rater_id,
            seq=seq,
            block=seq // BLOCK,
            task_id=names[0],
            lq_img=names[1],
            img_A=names[2],
            img_B=None if views[1] is None else names[3],
            height=image.counts.shape[1],
            width=image.counts.shape[2],
            um_per_px=image.um_per_px,
            window=window,
            focus=one.focus,
            questions=described.questions,
        )
        pictures[task.lq_img] = image.counts, window
        pictures[task.img_A] = _sure(views[0]).counts, window
        if views[1] is not None and task.img_B is not None:
            pictures[task.img_B] = views[1].counts, window
        tasks.append(task)
        key.append(_key(task, one, views, swap, image, key[repeats].task_id if repeats is not None else None, seed, blinding))
    return tasks, key, pictures


def _key(
    task: Task,
    one: Shown,
    views: tuple[View | None, View | None],
    swap: bool,
    image: StudyImage,
    repeat_of: str | None,
    seed: int,
    blinding: Blinding,
) -> KeyEntry:
    side: Literal["A", "B"] | None = None
    if one.changed is not None:
        side = "B" if (one.changed == 1) != swap else "A"
    sides: tuple[tuple[Literal["A", "B"], View | None], ...] = (("A", views[0]), ("B", views[1]))
    return KeyEntry(
        task_id=task.task_id,
        rater_id=task.rater_id,
        kind=one.kind,
        side_A_method=_sure(views[0]).method,
        side_B_method=None if views[1] is None else views[1].method,
        case_id=image.case_id,
        patient_hash=blinding.hashed(image.patient),
        stratum=image.stratum,
        repeat_of=repeat_of,
        sentinel=one.sentinel,
        sentinel_side=side,
        planted=one.place,
        focus_flagged=one.focus_flagged,
        flagged=tuple((name, *flag) for name, view in sides if view is not None for flag in view.flags),
        source_sha256=hashlib.sha256(image.counts.tobytes()).hexdigest(),
        model_sha256=",".join(sorted({view.model_sha256 for _, view in sides if view is not None and view.model_sha256})),
        seed=seed,
    )


def _sure(view: View | None) -> View:
    if view is None:
        raise AssertionError("every task has a side A")
    return view
