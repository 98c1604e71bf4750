"""Export of a study: what raters get, and the sealed key to it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from srh_clinic.bundles import load_bundle
from srh_clinic.case.provenance import notice
from srh_clinic.errors import InputError
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.images import Reading
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study.audit import STAMP, require_blind
from srh_clinic.validation.study.design import Assignment, assign, assign_all, order_with_repeats
from srh_clinic.validation.study.folder import commitment, viewer_path
from srh_clinic.validation.study.making import Planted, Studio, View, study_method
from srh_clinic.validation.study.planning import sample_size
from srh_clinic.validation.study.protocol_page import protocol_page
from srh_clinic.validation.study.records import (
    QUESTIONS,
    KeyEntry,
    Kind,
    Rater,
    Sentinel,
    StudyProtocol,
    Task,
    TaskKind,
    canonical,
)
from srh_clinic.validation.study.shown import Planes, planes_of, window_of
from srh_clinic.validation.study.sources import TILES_PER_CASE, StudyImage, case_images, phantom_images
from srh_clinic.validation.study.viewer import write_viewer

Preset = Literal["default", "paper"]

DEFAULT_RESTORERS = ("rscd", "median", "nlm", "synthetic_noise", "cyclegan", "ccdf")
"""The method under test and five that it is compared with."""

REPEATED = 0.1
"""Share of a rater's tasks that come a second time."""

SENTINELS: dict[Kind, dict[Sentinel, int]] = {
    "preference": {"same": 3, "blurred": 3, "added": 6, "removed": 6},
    "review": {"same": 4, "added": 6, "removed": 6},
}
"""Tasks for each rater whose answer is known."""

KNOWN: dict[Kind, tuple[Sentinel, ...]] = {
    "preference": ("same", "blurred", "added", "removed"),
    "review": ("same", "added", "removed"),
}
"""Kinds of sentinels by kind of study; a review has no other side to compare with a blur."""

BLOCK = 25
"""Tasks after which the viewer offers a rest."""

LEAST_FOCUS_PX, FOCUS_PX = 40, 56
"""Edge of the smallest region that a review asks of, and of one that the guards did not flag."""

FLAGGED_SHARE = 0.75
"""Share of the restorations with a flag in which a review asks of the flagged region."""

SPARE = 0.5
"""Further images for each nucleus that is to be planted or erased: an image may have no nucleus, or no room for one."""


@dataclass(frozen=True)
class StudyPlan:
    """What is to be exported.

    Parameters
    ----------
    kind
        ``preference``: the restorer under test beside another, blinded; ``review``: one restoration beside its input, with a
        region to judge.
    preset
        ``paper``: 100 images with every baseline, each task to two raters, no repeats and no sentinels; ``default``: every
        rater sees each image once, with repeats and sentinels.
    restorers
        The first is under test.
    raters, clinicians
        How many rate, and how many of them, the first, are clinicians; the others are imaging experts. None leaves groups out.
    images
        How many images; None takes the preset's (150 or 100), or all that the sources have.
    repeats
        Tasks that each rater sees twice; None takes a tenth.
    sentinels
        Tasks for each rater whose answer is known, by kind; None takes :data:`SENTINELS`.
    """

    kind: Kind = "preference"
    preset: Preset = "default"
    restorers: tuple[str, ...] = DEFAULT_RESTORERS
    raters: int = 6
    clinicians: int | None = None
    images: int | None = None
    repeats: int | None = None
    sentinels: Mapping[Sentinel, int] | None = None
    seed: int = 0
    title: str = "Restoration of stimulated Raman histology"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"the kind {self.kind!r}", " or ".join(get_args(Kind)))
        if self.preset not in get_args(Preset):
            raise InputError(f"the preset {self.preset!r}", " or ".join(get_args(Preset)))
        least = 2 if self.kind == "preference" else 1
        if len(self.restorers) < least or len(set(self.restorers)) < len(self.restorers):
            raise InputError(f"the restorers {', '.join(self.restorers) or 'none'}", f"at least {least}, each of them once")
        if self.raters < 1 or not 0 <= (self.clinicians or 0) <= self.raters:
            raise InputError(
                f"{self.raters} raters, {self.clinicians} of them clinicians",
                "at least one rater, and no more clinicians than raters",
            )
        if self.images is not None and self.images < 1:
            raise InputError(f"{self.images} images", "at least one")
        wrong = [
            f"{kind}={count}" for kind, count in (self.sentinels or {}).items() if kind not in KNOWN[self.kind] or count < 0
        ]
        if wrong:
            raise InputError(f"the sentinels {', '.join(wrong)}", f"counts of {', '.join(KNOWN[self.kind])}")

    @property
    def planned_sentinels(self) -> dict[Sentinel, int]:
        """Sentinels of each kind for each rater."""
        if self.sentinels is not None:
            return {kind: count for kind, count in self.sentinels.items() if count}
        return {} if self.preset == "paper" else dict(SENTINELS[self.kind])

    @property
    def sentinel_images(self) -> int:
        """Images that sentinels are made of; no real task shows one of them."""
        planted = sum(count for kind, count in self.planned_sentinels.items() if kind in ("added", "removed"))
        return sum(self.planned_sentinels.values()) + ceil(SPARE * planted)

    @property
    def rater_list(self) -> tuple[Rater, ...]:
        """The raters by id and group."""
        digits = len(str(self.raters))
        return tuple(
            Rater(rater_id=f"r{number + 1:0{max(digits, 2)}}", group=self._group(number)) for number in range(self.raters)
        )

    def _group(self, number: int) -> str:
        if self.clinicians is None:
            return ""
        return "clinician" if number < self.clinicians else "imaging expert"


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


@dataclass(frozen=True, eq=False)
class Blinding:
    """Sides and names, drawn from the salt, which lies sealed: the seed alone tells neither."""

    salt: bytes
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        drawn = hmac.new(self.salt, b"sides and names", hashlib.sha256).digest()
        object.__setattr__(self, "rng", np.random.default_rng(int.from_bytes(drawn)))

    def name(self) -> str:
        """A name of 128 random bits."""
        return self.rng.bytes(16).hex()

    def coin(self) -> bool:
        return bool(self.rng.integers(2))

    def hashed(self, text: str) -> str:
        """A name that only who has the salt can compute."""
        return hmac.new(self.salt, text.encode(), hashlib.sha256).hexdigest()


def export_study(
    out: str | Path,
    plan: StudyPlan | None = None,
    *,
    sources: Sequence[str | Path] = (),
    reading: Reading | None = None,
    per_case: int = TILES_PER_CASE,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    salt: bytes | None = None,
    report: Progress = silent,
) -> StudyProtocol:
    """Export a blinded study into a new folder.

    ``public/`` is for raters: one offline viewer each, the protocol, and a commitment to the key. ``sealed/`` holds the key,
    readable by its owner alone. ``returned/`` waits for ratings. The export is audited for leaks before it gets its name.

    Parameters
    ----------
    out
        Where the study goes; must not exist, or be empty. Restored tiles wait beside it, so that a cut export goes on.
    sources
        Cases or folders of images; simulated tissue when there are none.
    reading, per_case
        What files do not say of themselves, and how many tiles of a case are shown at most.
    bundle, weights
        Weights of the method under test, and the folder of those that only comparisons use.
    salt
        32 secret bytes that sides and names are drawn from; drawn by the system when None.

    Raises
    ------
    InputError
        When the plan cannot be met with these images and weights, ``out`` is taken, or the audit finds a leak.
    """
    plan, out = plan or StudyPlan(), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("a file, or a folder that is not empty", "a new or empty folder for the study", out)
    protocol = load_protocol()
    work = out.resolve().with_name(f".{out.resolve().name}.partial")
    bench = Bench(protocol, load_bundle(bundle), work, device, None, report, Path(weights))
    for name in plan.restorers:
        method = study_method(name, bench)
        for part in method.parts:
            bench.bundle_of(method).config(part)
    images, real = _images(plan, [Path(source) for source in sources], reading or Reading(), per_case)
    secret = secrets.token_bytes(32) if salt is None else salt
    assignment = _assignment(plan, real)
    studio = Studio(bench, images)
    studio.restore(_wanted(plan, assignment, range(real, len(images))))
    sentinels = _sentinels(plan, studio, range(real, len(images)))
    described = _protocol(plan, assignment, real, sources, secret, notice(bench.bundle))
    draft = out.resolve().with_name(f".{out.resolve().name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        write_study(draft, plan, described, studio, assignment, sentinels, Blinding(secret))
        require_blind(draft)
        if out.exists():
            out.rmdir()
        draft.replace(out)
    except OSError as error:
        raise InputError(error.strerror or str(error), "room and permission to write a study", out) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    return described


def _images(plan: StudyPlan, sources: Sequence[Path], reading: Reading, per_case: int) -> tuple[list[StudyImage], int]:
    """All images, those of sentinels last, and how many are of real tasks."""
    protocol = load_protocol()
    usual = 100 if plan.preset == "paper" else 150
    if not sources:
        real = plan.images or usual
        return phantom_images(protocol, real + plan.sentinel_images, plan.seed), real
    found = case_images(sources, protocol, per_case, reading, plan.seed)
    order = np.random.default_rng([plan.seed, 6]).permutation(len(found))
    real = plan.images or len(found) - plan.sentinel_images
    if real < 1 or real + plan.sentinel_images > len(found):
        needed = f"{plan.images or 'some'} for the study and {plan.sentinel_images} for tasks with known answers"
        raise InputError(f"{len(found)} tiles", needed, sources[0])
    return [found[place] for place in order[: real + plan.sentinel_images]], real


def _assignment(plan: StudyPlan, images: int) -> Assignment:
    rng = np.random.default_rng([plan.seed, 1])
    compared = len(plan.restorers) - (plan.kind == "preference")
    make = assign_all if plan.preset == "paper" else assign
    return make(images, plan.raters, compared, rng)


def _wanted(plan: StudyPlan, assignment: Assignment, spare: Sequence[int]) -> dict[str, list[int]]:
    """Images that each method has to restore."""
    wanted: dict[str, list[int]] = {name: [] for name in plan.restorers}
    test = plan.restorers[0]
    for task in assignment.tasks:
        if plan.kind == "preference":
            wanted[test].append(task.image)
        wanted[_method(plan, task.baseline)].append(task.image)
    wanted[test] += spare
    return wanted


def _method(plan: StudyPlan, number: int) -> str:
    """The method that a number of the assignment stands for: a baseline, in a review any."""
    return plan.restorers[number + (plan.kind == "preference")]


def _sentinels(plan: StudyPlan, studio: Studio, spare: Sequence[int]) -> list[Planted]:
    rng, free = np.random.default_rng([plan.seed, 2]), list(spare)
    made: list[Planted] = []
    for kind, count in plan.planned_sentinels.items():
        done = 0
        while done < count and free:
            planted = studio.sentinel(kind, plan.restorers[0], free.pop(0), rng)
            if planted is not None:
                made.append(planted)
                done += 1
        if done < count:
            raise InputError(
                f"{done} images for sentinels of the kind {kind}", f"{count}, with nuclei to erase and room to add some"
            )
    return made


def _protocol(
    plan: StudyPlan, assignment: Assignment, images: int, sources: Sequence[str | Path], salt: bytes, said: str
) -> StudyProtocol:
    compared = [(task.image, rater) for task in assignment.tasks if task.baseline == 0 for rater in task.raters]
    tasks_each = len(assignment.of_rater(0))
    repeats = _repeats(plan, tasks_each)
    return StudyProtocol(
        study_id=hashlib.sha256(salt + b"study").hexdigest()[:12],
        title=plan.title,
        kind=plan.kind,
        preset=plan.preset,
        date=datetime.now(UTC).date().isoformat(),
        test=plan.restorers[0],
        baselines=plan.restorers[1:],
        raters=plan.rater_list,
        images=images,
        tasks=len(assignment.tasks),
        raters_per_task=len(assignment.tasks[0].raters),
        repeats=repeats,
        repeat_gap=order_with_repeats(tasks_each, repeats, np.random.default_rng(0))[1],
        sentinels=plan.planned_sentinels,
        questions=QUESTIONS[plan.kind],
        sample_size=sample_size(np.array(compared), plan.seed),
        imbalance=assignment.imbalance,
        sources=f"{len(sources)} sources of scanned tissue" if sources else "simulated tissue",
        notice=said,
    )


def _repeats(plan: StudyPlan, tasks: int) -> int:
    if plan.repeats is not None:
        return plan.repeats
    return 0 if plan.preset == "paper" else round(REPEATED * tasks)


def write_study(
    folder: Path,
    plan: StudyPlan,
    described: StudyProtocol,
    studio: Studio,
    assignment: Assignment,
    sentinels: Sequence[Planted],
    blinding: Blinding,
) -> None:
    """Blind a study and write its folder.

    Parameters
    ----------
    studio
        Has restored whatever the assignment shows.
    sentinels
        The same for every rater.
    """
    (folder / "sealed").mkdir(parents=True, mode=0o700)
    (folder / "returned").mkdir()
    public = folder / "public"
    entries: list[KeyEntry] = []
    for number, rater in enumerate(described.raters):
        shown = _tasks_of(plan, studio, assignment, sentinels, number, described.repeats)
        tasks, known, planes = _blind(shown, studio.images, rater, described, plan.seed, blinding)
        entries += known
        (public / rater.rater_id).mkdir(parents=True)
        write_viewer(viewer_path(folder, rater.rater_id), described.title, described.kind, described.notice, tasks, planes)
        studio.bench.report("viewers", number + 1, len(described.raters))
    content = canonical(described.model_dump(mode="json"))
    key = canonical(
        {
            "study_id": described.study_id,
            "protocol_sha256": hashlib.sha256(content).hexdigest(),
            "seed": plan.seed,
            "restorers": list(plan.restorers),
            "identifiers": sorted({word for image in studio.images for word in image.identifiers}),
            "entries": [entry.model_dump(mode="json") for entry in entries],
        }
    )
    (public / "protocol.json").write_bytes(content)
    (public / "protocol.html").write_text(protocol_page(described), encoding="utf-8")
    (public / "commitment.txt").write_text(commitment(key, blinding.salt) + "\n", encoding="ascii")
    for name, secret in (("key.json", key), ("salt", blinding.salt)):
        handle = os.open(folder / "sealed" / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
    for path in (*public.rglob("*"), public):
        os.utime(path, (STAMP, STAMP))


def _tasks_of(
    plan: StudyPlan,
    studio: Studio,
    assignment: Assignment,
    sentinels: Sequence[Planted],
    rater: int,
    repeats: int,
) -> list[tuple[Shown, int | None]]:
    """A rater's tasks in their order; a repeat with the place of the task that it repeats."""
    rng = np.random.default_rng([plan.seed, 3, rater])
    real = [_real(plan, studio, assignment, number) for number in assignment.of_rater(rater)]
    order, _ = order_with_repeats(len(real), repeats, rng)
    places: dict[int, int] = {}
    tasks: list[tuple[Shown, int | None]] = []
    known = [(float(rng.uniform(0, len(order))), _known(planted, plan, rng)) for planted in sentinels]
    between = defaultdict(list)
    for place, task in known:
        between[int(place)].append(task)
    for place, (number, again) in enumerate(order):
        tasks += [(task, None) for task in between[place]]
        if again:
            tasks.append((replace(real[number], kind="repeat"), places[number]))
        else:
            places[number] = len(tasks)
            tasks.append((real[number], None))
    return tasks


def _real(plan: StudyPlan, studio: Studio, assignment: Assignment, number: int) -> Shown:
    task = assignment.tasks[number]
    other = studio.view(_method(plan, task.baseline), task.image)
    if plan.kind == "preference":
        return Shown(task.image, (studio.view(plan.restorers[0], task.image), other))
    # Of the task, not of the rater: all who review it judge one region.
    focus, flagged = _focus(other, np.random.default_rng([plan.seed, 4, number]))
    return Shown(task.image, (other, None), focus=focus, focus_flagged=flagged)


def _known(planted: Planted, plan: StudyPlan, rng: np.random.Generator) -> Shown:
    if plan.kind == "preference":
        views: tuple[View, View | None] = planted.views
        return Shown(planted.image, views, "sentinel", planted.sentinel, planted.changed, planted.place)
    changed = planted.views[planted.changed or 0]
    if planted.place is None:
        focus, flagged = _focus(changed, rng)
    else:
        x, y, _ = planted.place
        focus, flagged = _box(x, y, FOCUS_PX, FOCUS_PX, changed), None
    side = None if planted.changed is None else 0
    return Shown(planted.image, (changed, None), "sentinel", planted.sentinel, side, planted.place, focus, flagged)


def _focus(view: View, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], bool]:
    """A region to judge: one that the guards flagged, or another, and which of the two."""
    if view.flags and rng.random() < FLAGGED_SHARE:
        x, y, width, height, _ = view.flags[int(rng.integers(len(view.flags)))]
        return _box(x + width / 2, y + height / 2, max(width, LEAST_FOCUS_PX), max(height, LEAST_FOCUS_PX), view), True
    height, width = view.counts.shape[1:]
    for _ in range(100):
        x, y = rng.uniform(FOCUS_PX / 2, width - FOCUS_PX / 2), rng.uniform(FOCUS_PX / 2, height - FOCUS_PX / 2)
        box = _box(float(x), float(y), FOCUS_PX, FOCUS_PX, view)
        if not any(_overlap(box, flag) for flag in view.flags):
            return box, False
    x, y, wide, high, _ = view.flags[0]
    return _box(x + wide / 2, y + high / 2, max(wide, LEAST_FOCUS_PX), max(high, LEAST_FOCUS_PX), view), True


def _box(x: float, y: float, width: int, height: int, view: View) -> tuple[int, int, int, int]:
    """A box about a place, moved into the image: x, y, width and height in px."""
    rows, columns = view.counts.shape[1:]
    width, height = min(width, columns), min(height, rows)
    left, top = min(max(round(x - width / 2), 0), columns - width), min(max(round(y - height / 2), 0), rows - height)
    return left, top, width, height


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int, str]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _blind(
    shown: Sequence[tuple[Shown, int | None]],
    images: Sequence[StudyImage],
    rater: Rater,
    described: StudyProtocol,
    seed: int,
    blinding: Blinding,
) -> tuple[list[Task], list[KeyEntry], dict[str, Planes]]:
    """Tasks with random names and sides, the key to them, and the planes by name."""
    tasks: list[Task] = []
    key: list[KeyEntry] = []
    planes: dict[str, Planes] = {}
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
        planes[task.lq_img] = planes_of(image.counts, window)
        planes[task.img_A] = planes_of(_sure(views[0]).counts, window)
        if views[1] is not None and task.img_B is not None:
            planes[task.img_B] = planes_of(views[1].counts, window)
        tasks.append(task)
        key.append(_key(task, one, views, swap, image, key[repeats].task_id if repeats is not None else None, seed, blinding))
    return tasks, key, planes


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
