"""Export of a study: what raters get, and the sealed key to it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from srh_clinic.bundles import load_bundle
from srh_clinic.case.provenance import notice
from srh_clinic.errors import InputError
from srh_clinic.files import claimed, fingerprint, require_no_link, whole_folder
from srh_clinic.intensity import Counts
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Reading
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study.assignment import Assignment, assign, assign_all, order_with_repeats
from srh_clinic.validation.study.audit import STAMP, require_blind
from srh_clinic.validation.study.blinding import Blinding, Shown, blind
from srh_clinic.validation.study.folder import commitment, read_protocol, read_sealed, viewer_path
from srh_clinic.validation.study.images import TILES_PER_CASE, StudyImage, case_images, phantom_images
from srh_clinic.validation.study.log import log_event, read_log
from srh_clinic.validation.study.plan import REPEATED, StudyPlan
from srh_clinic.validation.study.protocol_page import protocol_page
from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import KeyEntry, StudyProtocol, Task, Window, canonical
from srh_clinic.validation.study.restored import Planted, RestoredImages, View, study_method
from srh_clinic.validation.study.sample_size import sample_size
from srh_clinic.validation.study.streams import Stream, drawn, secret_stream
from srh_clinic.validation.study.viewer import Page, write_viewer
from srh_clinic.validation.study.window import planes_of

LEAST_FOCUS_PX, FOCUS_PX = 40, 56
"""Edge of the smallest region that a review asks of, and of one that the guards did not flag."""

FLAGGED_PROPORTION = 0.75
"""Proportion of the restorations with a flag in which a review asks of the flagged region."""


SALT_BYTES = 32

BY_CALL = ", by the call "
"""In the log's first line, before what names the call that exported the study."""

PHANTOM_SEED_BYTES = 6
"""Of the number that a study's phantoms have their seeds from: 2^48 are too many to try, and their seeds fit 64 bits."""


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
        32 secret bytes that assignment, order, repeats, sentinels, sides and names are drawn from; drawn by the system when
        None, and kept with the restored tiles until the export is whole, for one that goes on to make the same study.

    Raises
    ------
    InputError
        When the plan cannot be met with these images and weights, ``out`` is taken, or the audit finds a leak. A study
        that the same call has exported is no obstacle: it is returned as it is.
    """
    plan, out = plan or StudyPlan(), Path(out)
    # Weights that are missing are told before anything is written.
    work = out.resolve().with_name(f".{out.resolve().name}.partial")
    bench = Bench(load_protocol(), load_bundle(bundle), work, device, None, report, Path(weights))
    for name in plan.restorers:
        method = study_method(name, bench)
        for part in method.parts:
            bench.bundle_of(method).config(part)
    try:
        with claimed(out):
            call = fingerprint(
                plan=plan,
                sources=[str(Path(one).resolve()) for one in sources],
                reading=reading,
                per_case=per_case,
                weights=bench.bundle.weights_sha256,
            )
            if (before := _exported_before(out, call, salt)) is not None:
                shutil.rmtree(work, ignore_errors=True)
                return before
            _require_free(out)
            secret = _salt_of(work) if salt is None else salt
            images, real = _images(plan, [Path(source) for source in sources], reading or Reading(), per_case, secret)
            return _export(out, plan, bench, images, real, sources, secret, call)
    except OSError as error:
        raise InputError(error.strerror or str(error), "room and permission to write a study", out) from error


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("a file, or a folder that is not empty", "a new or empty folder for the study", out)


def _exported_before(out: Path, call: str, salt: bytes | None) -> StudyProtocol | None:
    """The study that the same call has exported, whole; None when there is none."""
    if not (out / "sealed").is_dir():
        return None
    try:
        sealed = read_sealed(out)
        events = read_log(out, sealed.salt, required=True)
        if salt in (None, sealed.salt) and events[0].what.endswith(f"{BY_CALL}{call}"):
            return read_protocol(out)[0]
    except InputError:
        pass
    return None


def _export(
    out: Path,
    plan: StudyPlan,
    bench: Bench,
    images: Sequence[StudyImage],
    real: int,
    sources: Sequence[str | Path],
    secret: bytes,
    call: str,
) -> StudyProtocol:
    """Restore the images, write the study, audit it, and give it its name."""
    assignment = assignment_of(plan, real, secret)
    restored = RestoredImages(bench, images)
    restored.restore(wanted_images(plan, assignment, range(real, len(images))))
    sentinels = _sentinels(plan, restored, range(real, len(images)), secret)
    described = _protocol(plan, assignment, real, sources, secret, notice(bench.bundle))
    with whole_folder(out.resolve()) as draft:
        write_study(draft, plan, described, restored, assignment, sentinels, Blinding(secret), call)
        require_blind(draft)
    shutil.rmtree(bench.out, ignore_errors=True)
    return described


def _salt_of(work: Path) -> bytes:
    """The salt of the export that was cut here, or a new one, for its owner alone."""
    path = work / "salt"
    require_no_link(work, path)
    if path.is_file() and len(kept := path.read_bytes()) == SALT_BYTES:
        return kept
    salt = secrets.token_bytes(SALT_BYTES)
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        _write_secret(path, salt)
    except OSError as error:
        raise InputError(error.strerror or str(error), "room and permission to write a study", work) from error
    return salt


def _write_secret(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone can read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _images(
    plan: StudyPlan, sources: Sequence[Path], reading: Reading, per_case: int, salt: bytes
) -> tuple[list[StudyImage], int]:
    """All images, those of sentinels last, and how many are of real tasks."""
    protocol = load_protocol()
    usual = 100 if plan.preset == "paper" else 150
    if not sources:
        real = plan.images or usual
        own = int.from_bytes(drawn(salt, Stream.PHANTOMS)[:PHANTOM_SEED_BYTES])
        return phantom_images(protocol, real + plan.sentinel_images, own), real
    found = case_images(sources, protocol, per_case, reading, plan.seed)
    order = secret_stream(salt, Stream.IMAGES).permutation(len(found))
    real = plan.images or len(found) - plan.sentinel_images
    if real < 1 or real + plan.sentinel_images > len(found):
        needed = f"{plan.images or 'some'} for the study and {plan.sentinel_images} for tasks with known answers"
        raise InputError(f"{len(found)} tiles", needed, sources[0])
    return [found[place] for place in order[: real + plan.sentinel_images]], real


def assignment_of(plan: StudyPlan, images: int, salt: bytes) -> Assignment:
    """Which rater rates which image against which baseline, drawn from a salt."""
    rng = secret_stream(salt, Stream.ASSIGNMENT)
    compared = len(plan.restorers) - (plan.kind == "preference")
    make = assign_all if plan.preset == "paper" else assign
    return make(images, plan.raters, compared, rng).relabelled(rng)


def wanted_images(plan: StudyPlan, assignment: Assignment, spare: Sequence[int]) -> dict[str, list[int]]:
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


def _sentinels(plan: StudyPlan, restored: RestoredImages, spare: Sequence[int], salt: bytes) -> list[Planted]:
    rng = secret_stream(salt, Stream.SENTINELS)
    free = [int(one) for one in rng.permutation(list(spare))]
    made: list[Planted] = []
    for kind, count in plan.planned_sentinels.items():
        done = 0
        while done < count and free:
            planted = restored.sentinel(kind, plan.restorers[0], free.pop(0), rng)
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
        sample_size=sample_size(np.array(compared), plan.seed, max(len(plan.restorers) - 1, 1)),
        imbalance=assignment.imbalance,
        sources=f"{len(sources)} source{'s' * (len(sources) != 1)} of scanned tissue" if sources else "simulated tissue",
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
    restored: RestoredImages,
    assignment: Assignment,
    sentinels: Sequence[Planted],
    blinding: Blinding,
    call: str = "",
) -> None:
    """Blind a study and write its folder.

    Parameters
    ----------
    restored
        Has restored whatever the assignment shows.
    sentinels
        The same for every rater.
    call
        Names the call that exports it, so that the same call finds it.
    """
    (folder / "sealed").mkdir(parents=True, mode=0o700)
    (folder / "returned").mkdir()
    public = folder / "public"
    entries: list[KeyEntry] = []
    pages: list[tuple[Page, list[Task], dict[str, tuple[Counts, Window]]]] = []
    for number, rater in enumerate(described.raters):
        shown = tasks_of(plan, restored, assignment, sentinels, number, described.repeats, blinding.salt)
        tasks, known, pictures = blind(shown, restored.images, rater, described, plan.seed, blinding)
        entries += known
        page = Page(described.title, described.kind, described.notice, drawn(blinding.salt, Stream.PAGES, number).hex())
        pages.append((page, tasks, pictures))
    content = canonical(described.model_dump(mode="json"))
    key = canonical(
        {
            "study_id": described.study_id,
            "protocol_sha256": hashlib.sha256(content).hexdigest(),
            "seed": plan.seed,
            "restorers": list(plan.restorers),
            "identifiers": sorted({word for image in restored.images for word in image.identifiers}),
            "channel_orders": {one.case_id: one.channel_order for one in restored.images if one.channel_order},
            "pages": {rater.rater_id: page.secret for rater, (page, _, _) in zip(described.raters, pages, strict=True)},
            "entries": [entry.model_dump(mode="json") for entry in entries],
        }
    )
    committed = commitment(key, blinding.salt)
    for number, (page, tasks, pictures) in enumerate(pages, start=1):
        planes = {name: planes_of(counts, window) for name, (counts, window) in pictures.items()}
        write_viewer(viewer_path(folder, tasks[0].rater_id), replace(page, commitment=committed), tasks, planes)
        restored.bench.report("viewers", number, len(pages))
    (public / "protocol.json").write_bytes(content)
    (public / "protocol.html").write_text(protocol_page(described, committed), encoding="utf-8")
    (public / "commitment.txt").write_text(committed + "\n", encoding="ascii")
    _write_secret(folder / "sealed" / "key.json", key)
    _write_secret(folder / "sealed" / "salt", blinding.salt)
    log_event(folder, blinding.salt, "exported", what=f"{described.title}{BY_CALL}{call}", commitment=committed)
    for path in (*public.rglob("*"), public):
        os.utime(path, (STAMP, STAMP))


def tasks_of(
    plan: StudyPlan,
    restored: RestoredImages,
    assignment: Assignment,
    sentinels: Sequence[Planted],
    rater: int,
    repeats: int,
    salt: bytes,
) -> list[tuple[Shown, int | None]]:
    """A rater's tasks in their order; a repeat with the place of the task that it repeats."""
    rng = secret_stream(salt, Stream.ORDER, rater)
    real = [_real(plan, restored, assignment, number, salt) for number in assignment.of_rater(rater)]
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


def _real(plan: StudyPlan, restored: RestoredImages, assignment: Assignment, number: int, salt: bytes) -> Shown:
    task = assignment.tasks[number]
    other = restored.view(_method(plan, task.baseline), task.image)
    if plan.kind == "preference":
        return Shown(task.image, (restored.view(plan.restorers[0], task.image), other))
    # Of the task, not of the rater: all who review it judge one region.
    focus, flagged = _focus(other, secret_stream(salt, Stream.FOCUS, number))
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
    if view.flags and rng.random() < FLAGGED_PROPORTION:
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
