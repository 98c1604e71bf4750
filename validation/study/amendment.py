"""An amendment of a running study: one more rater, who gets the tasks of another in a new order, with new sides and names.

Images are added by :mod:`~srh_clinic.validation.study.further_images`.
"""

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
    persons,
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
    protocol, sealed = amendable(study, reason)
    whose = persons(study)
    if like not in (names := [rater.rater_id for rater in protocol.raters if rater.rater_id not in whose]):
        raise InputError(f"the rater {like!r}", f"one of {', '.join(names)}", study)
    with claimed(study / "public"):
        return _add(study, protocol, sealed, like, reason.strip())


def amendable(study: Path, reason: str) -> tuple[StudyProtocol, Sealed]:
    """Protocol and key of a study that may be amended.

    Raises
    ------
    InputError
        When no reason is given, the key was opened, or the study was exported by an earlier version.
    """
    protocol, _ = read_protocol(study)
    sealed = read_sealed(study)
    if not sealed.logged:
        raise InputError("a study of an earlier version", "a study with a log, which an amendment is signed in", study)
    if not reason.strip():
        raise InputError("no reason", "the reason for the amendment, for the report", study)
    if any(event.event == "opened" for event in read_log(study, sealed.salt, required=True)):
        raise InputError("a study whose key was opened", "amendments before that: afterwards they could be chosen", study)
    return protocol, sealed


def _add(study: Path, protocol: StudyProtocol, sealed: Sealed, like: str, reason: str) -> str:
    whose = persons(study)
    place = len(protocol.raters) - len(whose)
    group = next(rater.group for rater in protocol.raters if rater.rater_id == like)
    rater = Rater(rater_id=f"r{place + 1:0{len(like) - 1}}", group=group)
    known: list[Task] = []
    stored: dict[str, bytes] = {}
    for name in (like, *(page for page, owner in whose.items() if owner == like)):
        contents, shown = read_tasks(viewer_path(study, name))
        stored, known = {**stored, **contents.images}, [*known, *shown]
    images = {}
    tasks, entries = [], []
    for task, entry, pictures in _drawn(known, sealed, rater.rater_id, place):
        for new, old in pictures.items():
            raw = np.frombuffer(stored[old], dtype=np.uint8)
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
    page = Page(protocol.title, protocol.kind, protocol.notice, secret, committed)
    write_viewer(viewer_path(study, rater.rater_id), page, tasks, images)
    said = Amendment(number=number, rater=rater, like=like, reason=reason, commitment=committed)
    seal_amendment(study, sealed, said, key, f"in the place of {like}: {reason}")
    return rater.rater_id


def seal_amendment(study: Path, sealed: Sealed, said: Amendment, key: bytes, what: str) -> None:
    """Seal the key of an amendment whose pages are written, sign it in the log, and publish what it says."""
    write_whole(study / "sealed" / f"amendment-{said.number}.json", key).chmod(0o600)
    rater = "" if said.rater is None else said.rater.rater_id
    log_event(study, sealed.salt, "amended", rater=rater, what=what, commitment=said.commitment)
    public = study / "public" / f"amendment-{said.number}.json"
    # Comes last: without it there is no amendment, and the same call makes it anew.
    write_whole(public, canonical(said.model_dump(mode="json")))
    pages = [viewer_path(study, one.rater_id) for one in said.added]
    for changed in (*pages, *(page.parent for page in pages), public, public.parent):
        os.utime(changed, (STAMP, STAMP))


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
