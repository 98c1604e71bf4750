"""A study without images, of the default design, that simulated raters answered."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import KeyEntry, Kind, Rater, Rating, StudyProtocol, Task, Window
from srh_clinic.validation.study.simulated_raters import Truth, balanced_assignment, simulated_ratings
from srh_clinic.validation.study.unblinding import Answer, Unblinded


def simulated_answers(
    tasks: Sequence[Task], key: Sequence[KeyEntry], truth: Truth, test: str, seed: int = 0
) -> tuple[Answer, ...]:
    """The same answers joined with their tasks and key, as unblinding joins them; their hashes are not chained."""
    entries = {entry.task_id: entry for entry in key}
    of = {task.task_id: task for task in tasks}
    return tuple(
        Answer(
            of[row["task_id"]],
            entries[row["task_id"]],
            Rating.model_validate({**row, "study_id": of[row["task_id"]].study_id, "rater_id": rater, "prev_hash": "0" * 64}),
        )
        for rater, rows in simulated_ratings(tasks, key, truth, test, seed).items()
        for row in rows
    )


def simulated_study(
    truth: Truth, *, kind: Kind = "preference", images: int = 150, repeats: int = 15, sentinels: int = 5, seed: int = 0
) -> tuple[StudyProtocol, list[Task], list[KeyEntry]]:
    """A study without images, of the default design cut to its first ``images``: protocol, tasks and key.

    The baselines are those of ``truth.preference`` (five), the method under test is called ``rscd``. ``sentinels`` is the
    number of each kind for each rater. A review asks the same raters of one region of ``rscd`` each, every other one flagged.
    """
    random = np.random.default_rng(seed)
    baselines = tuple(truth.preference)
    raters = [Rater(rater_id=f"r{at}", group="clinician" if at < 3 else "imaging expert") for at in range(6)]
    assigned = balanced_assignment()
    assigned = assigned[assigned[:, 0] < images]
    protocol = StudyProtocol(
        study_id="simulated",
        title="Simulated study",
        kind=kind,
        preset="default",
        date="2026-01-01",
        test="rscd",
        baselines=baselines,
        raters=tuple(raters),
        images=images,
        tasks=len(assigned),
        raters_per_task=2,
        repeats=repeats,
        sentinels=dict.fromkeys(("same", "blurred", "added", "removed"), sentinels),
        questions=QUESTIONS[kind],
        sample_size={},
        imbalance={},
        sources="none",
        notice="Simulated raters: nobody looked at anything.",
    )
    tasks: list[Task] = []
    key: list[KeyEntry] = []
    for at, rater in enumerate(raters):
        own = assigned[(assigned[:, 2] == at) | (assigned[:, 3] == at)]
        entries = [_real(rater.rater_id, f"image {row[0]:03d}", baselines[row[1]], kind, int(row[0]), random) for row in own]
        again = [entries[one] for one in random.permutation(len(entries))[:repeats]]
        entries += [_again(entry, random) for entry in again]
        for number, what in itertools.product(range(sentinels), protocol.sentinels):
            entries.append(_sentinel(rater.rater_id, what, number, kind, random))
        key += entries
        tasks += [_task(entry, seq, kind, random) for seq, entry in enumerate(entries)]
    return protocol, tasks, key


def simulated_unblinded(truth: Truth, *, seed: int = 0, interim: bool = False, **design: Any) -> Unblinded:
    """A simulated study that simulated raters answered; see :func:`simulated_study` for ``design``."""
    protocol, tasks, key = simulated_study(truth, seed=seed, **design)
    answers = simulated_answers(tasks, key, truth, protocol.test, seed)
    kept = [rater.rater_id for rater in protocol.raters][: 4 if interim else None]
    returns = {rater: hashlib.sha256(rater.encode()).hexdigest() for rater in kept}
    return Unblinded(protocol, tuple(one for one in answers if one.rating.rater_id in returns), returns, interim)


def _real(rater: str, case: str, baseline: str, kind: Kind, number: int, random: np.random.Generator) -> KeyEntry:
    on_a = random.random() < 0.5
    review = kind == "review"
    sides = ("rscd", None) if review else ("rscd", baseline) if on_a else (baseline, "rscd")
    flagged = number % 2 == 0
    side: Literal["A", "B"] = "A" if review or on_a else "B"
    return KeyEntry(
        task_id=_id(random),
        rater_id=rater,
        kind="real",
        side_A_method=str(sides[0]),
        side_B_method=sides[1],
        case_id=case,
        patient_hash=_hash(case),
        stratum=("mild", "moderate", "severe")[number % 3],
        focus_flagged=flagged if review else None,
        flagged=((side, 100, 100, 24, 24, "added nucleus" if number % 4 else "texture"),) if flagged else (),
        source_sha256=_hash(f"source {case}"),
        model_sha256="",
        seed=number,
    )


def _again(entry: KeyEntry, random: np.random.Generator) -> KeyEntry:
    swapped: dict[str, Any] = {"task_id": _id(random), "kind": "repeat", "repeat_of": entry.task_id}
    if entry.side_B_method is not None:
        swapped |= {"side_A_method": entry.side_B_method, "side_B_method": entry.side_A_method}
        other = {"A": "B", "B": "A"}
        swapped["flagged"] = tuple((other[side], *rest) for side, *rest in entry.flagged)
    return KeyEntry.model_validate({**entry.model_dump(), **swapped})


def _sentinel(rater: str, what: Any, number: int, kind: Kind, random: np.random.Generator) -> KeyEntry:
    case = f"sentinel {what} {number}"
    side: Any = "A" if kind == "review" or random.random() < 0.5 else "B"
    return KeyEntry(
        task_id=_id(random),
        rater_id=rater,
        kind="sentinel",
        side_A_method="rscd",
        side_B_method=None if kind == "review" else "rscd",
        case_id=case,
        patient_hash=_hash(case),
        sentinel=what,
        sentinel_side=None if what == "same" else side,
        planted=(64.0, 80.0, 8.0) if what in ("added", "removed") else None,
        source_sha256=_hash(case),
        model_sha256="",
        seed=number,
    )


def _task(entry: KeyEntry, seq: int, kind: Kind, random: np.random.Generator) -> Task:
    return Task(
        study_id="simulated",
        rater_id=entry.rater_id,
        seq=seq,
        block=seq // 50,
        task_id=entry.task_id,
        lq_img=_id(random),
        img_A=_id(random),
        img_B=None if entry.side_B_method is None else _id(random),
        height=256,
        width=256,
        um_per_px=0.5,
        window=Window(low=0, high=1, red=(0, 1), green=(0, 1), blue=(0, 1)),
        focus=(96, 96, 32, 32) if entry.focus_flagged is not None else None,
        questions=QUESTIONS[kind],
    )


def _id(random: np.random.Generator) -> str:
    return random.bytes(16).hex()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
