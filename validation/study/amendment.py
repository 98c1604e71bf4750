"""An amendment of a running study: one more rater, who gets the tasks of another in a new order, with new sides and names."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.files import claimed, write_whole
from srh_clinic.validation.study.assignment import order_with_repeats
from srh_clinic.validation.study.audit import STAMP
from srh_clinic.validation.study.blinding import BLOCK, Blinding
from srh_clinic.validation.study.folder import (
    Sealed,
    amendments,
    commitment,
    read_protocol,
    read_sealed,
    read_tasks,
    viewer_path,
)
from srh_clinic.validation.study.log import log_event, read_log
from srh_clinic.validation.study.records import Amendment, KeyEntry, Rater, StudyProtocol, Task, canonical
from srh_clinic.validation.study.streams import Stream, drawn, secret_stream
from srh_clinic.validation.study.viewer import Page, write_viewer

NAMES_EACH = 4
"""Names that blinding gives to each task."""


def add_rater(study: str | Path, like: str, reason: str) -> str:
    """Add a rater to a study whose key is sealed.

    The new rater gets the tasks of ``like``, who may have dropped out: images, baselines, sentinels and regions are the same,
    so the design stays as balanced as it was. Order, repeats, sides and names are drawn anew from the salt. What the export
    committed to is not touched: the new entries have a key file, a commitment and an event of the log of their own.

    Returns
    -------
    The id of the new rater, whose page is ``public/ID/viewer.html``.

    Raises
    ------
    InputError
        When there is no such rater, no reason is given, the key was opened, or the study was exported by an earlier version.
    """
    study = Path(study)
    protocol, _ = read_protocol(study)
    sealed = read_sealed(study)
    if not sealed.logged:
        raise InputError("a study of an earlier version", "a study with a log, which an amendment is signed in", study)
    if like not in (names := [rater.rater_id for rater in protocol.raters]):
        raise InputError(f"the rater {like!r}", f"one of {', '.join(names)}", study)
    if not reason.strip():
        raise InputError("no reason", "the reason why a rater is added, for the report", study)
    if any(event.event == "opened" for event in read_log(study, sealed.salt, required=True)):
        raise InputError("a study whose key was opened", "raters added before that: afterwards they could be chosen", study)
    with claimed(study / "public"):
        return _add(study, protocol, sealed, like, reason.strip())


def _add(study: Path, protocol: StudyProtocol, sealed: Sealed, like: str, reason: str) -> str:
    place = len(protocol.raters)
    group = next(rater.group for rater in protocol.raters if rater.rater_id == like)
    rater = Rater(rater_id=f"r{place + 1:0{len(like) - 1}}", group=group)
    contents, known = read_tasks(viewer_path(study, like))
    images = {}
    tasks, entries = [], []
    for task, entry, pictures in _drawn(known, sealed, rater.rater_id, place):
        for new, old in pictures.items():
            raw = np.frombuffer(contents.images[old], dtype=np.uint8)
            images[new] = raw.reshape(2, task.height, task.width)
        tasks.append(task)
        entries.append(entry)
    number = len(amendments(study)) + 1
    secret = drawn(sealed.salt, Stream.PAGES, place).hex()
    key = canonical(
        {
            "study_id": protocol.study_id,
            "amendment": number,
            "pages": {rater.rater_id: secret},
            "entries": [entry.model_dump(mode="json") for entry in entries],
        }
    )
    committed = commitment(key, sealed.salt)
    path = viewer_path(study, rater.rater_id)
    write_viewer(path, Page(protocol.title, protocol.kind, protocol.notice, secret, committed), tasks, images)
    write_whole(study / "sealed" / f"amendment-{number}.json", key).chmod(0o600)
    log_event(
        study, sealed.salt, "amended", rater=rater.rater_id, what=f"in the place of {like}: {reason}", commitment=committed
    )
    said = Amendment(number=number, rater=rater, like=like, reason=reason, commitment=committed)
    public = study / "public" / f"amendment-{number}.json"
    # Comes last: without it there is no amendment, and the same call makes it anew.
    write_whole(public, canonical(said.model_dump(mode="json")))
    for changed in (path, path.parent, public, public.parent):
        os.utime(changed, (STAMP, STAMP))
    return rater.rater_id


def _drawn(known: list[Task], sealed: Sealed, rater: str, place: int) -> list[tuple[Task, KeyEntry, dict[str, str]]]:
    """A rater's tasks for another: each with its entry of the key, and the images that its new names stand for."""
    rng = secret_stream(sealed.salt, Stream.ORDER, place)
    sides = secret_stream(sealed.salt, Stream.SIDES, place)
    blinding = Blinding(sealed.salt, names=NAMES_EACH * len(sealed.entries))
    real = [task for task in known if sealed.entries[task.task_id].kind == "real"]
    repeats = sum(sealed.entries[task.task_id].kind == "repeat" for task in known)
    between = defaultdict(list)
    order, _ = order_with_repeats(len(real), repeats, rng)
    for task in known:
        if sealed.entries[task.task_id].kind == "sentinel":
            between[int(rng.uniform(0, len(order)))].append(task)
    shown: list[tuple[Task, bool]] = []
    for at, (number, again) in enumerate(order):
        shown += [(task, False) for task in between[at]]
        shown.append((real[number], again))
    made: list[tuple[Task, KeyEntry, dict[str, str]]] = []
    first: dict[str, tuple[str, bool]] = {}
    for seq, (task, again) in enumerate(shown):
        names = [blinding.name() for _ in range(NAMES_EACH)]
        swap = (not first[task.task_id][1]) if again else bool(sides.integers(2))
        repeat_of = first[task.task_id][0] if again else None
        first.setdefault(task.task_id, (names[0], swap))
        made.append(_renamed(task, sealed.entries[task.task_id], rater, seq, names, repeat_of, swap=swap))
    return made


def _renamed(
    task: Task, entry: KeyEntry, rater: str, seq: int, names: list[str], repeat_of: str | None, *, swap: bool
) -> tuple[Task, KeyEntry, dict[str, str]]:
    """A task under new names, its sides swapped or not."""
    shown = [task.img_A] if task.img_B is None else [task.img_A, task.img_B]
    methods = [entry.side_A_method, entry.side_B_method]
    swap = swap and task.img_B is not None
    if swap:
        shown, methods = shown[::-1], methods[::-1]
    other = {"A": "B", "B": "A"} if swap else {"A": "A", "B": "B"}
    pictures = dict(zip(names[1:], [task.lq_img, *shown], strict=False))
    named = {"task_id": names[0], "lq_img": names[1], "img_A": names[2], "img_B": None if task.img_B is None else names[3]}
    moved = task.model_copy(update={**named, "rater_id": rater, "seq": seq, "block": seq // BLOCK})
    known = {
        "task_id": names[0],
        "rater_id": rater,
        "side_A_method": methods[0],
        "side_B_method": methods[1],
        "kind": "repeat" if repeat_of else entry.kind,
        "repeat_of": repeat_of,
        "sentinel_side": entry.sentinel_side and other[entry.sentinel_side],
        "flagged": tuple((other[side], *rest) for side, *rest in entry.flagged),
    }
    return moved, entry.model_copy(update=known), pictures
