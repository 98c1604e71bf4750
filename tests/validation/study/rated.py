"""Tasks, answers to them and the study that they are of, as the tests of exchange share them."""

from __future__ import annotations

import numpy as np

from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import KeyEntry, Rater, Rating, StudyProtocol, Task, Window
from srh_clinic.validation.study.returns import read_return, require_whole, write_return
from srh_clinic.validation.study.unblinding import Answer, Unblinded

PX = 64


STUDY = "study-1"


WINDOW = Window(low=0, high=5100, red=(0, 2000), green=(100, 4000), blue=(200, 5000))
"""A plane's level is 20 counts, so that colours of the planes are those of whole counts."""


BOX = {"side": "A", "shape": "box", "xy": [10, 20, 30.5, 40], "category": "added nucleus", "severity": "minor"}


POINT = {"side": "B", "shape": "point", "xy": [5, 63.75], "category": "stripe or stitch", "severity": "major"}


ANSWERS = {
    "pref_quality": "B",
    "pref_fidelity": "tie",
    "confidence": 4,
    "halluc_A": "definite",
    "halluc_B": "possible",
    "method_guess": "unsure",
}


SHOWN, ANSWERED = 1_772_600_000_000, 1_772_600_012_500


def image_id(number: int) -> str:
    return f"{number:032x}"


def task(seq: int, rater: str = "r1", kind: str = "preference", **changes: object) -> Task:
    first = 1000 * int(rater[1:]) + 10 * seq
    fields = {
        "study_id": STUDY,
        "rater_id": rater,
        "seq": seq,
        "block": 0,
        "task_id": image_id(first),
        "lq_img": image_id(first + 1),
        "img_A": image_id(first + 2),
        "img_B": image_id(first + 3) if kind == "preference" else None,
        "height": PX,
        "width": PX,
        "um_per_px": 0.47,
        "window": WINDOW,
        "questions": QUESTIONS[kind],
    }
    return Task(**fields | changes)


def planes(tasks: list[Task]) -> dict[str, np.ndarray]:
    """Noise for some images and flat fields for others: nothing compresses less, nothing more."""
    random = np.random.default_rng(0)
    ids = [one for task in tasks for one in (task.lq_img, task.img_A, task.img_B) if one is not None]
    noisy = {one: random.integers(0, 256, (2, PX, PX), np.uint8) for one in ids}
    return {one: np.full_like(noisy[one], 7) if number % 3 == 1 else noisy[one] for number, one in enumerate(ids)}


def row(one: Task, regions: tuple[dict, ...] = (BOX, POINT), **changes: object) -> dict:
    answers = {name: ANSWERS[name] for name in one.questions}
    times = {"t_shown": SHOWN, "t_answered": ANSWERED}
    return {"seq": one.seq, "task_id": one.task_id, **answers, "regions": list(regions), "comment": "", **times} | changes


def rating(one: Task, **changes: object) -> Rating:
    changes = {"regions": ()} | changes
    return Rating(**{**row(one), "study_id": STUDY, "rater_id": one.rater_id, "prev_hash": "0" * 64} | changes)


def assert_a_return_takes_them(rows: list[dict], tasks: list[Task], tmp_path) -> None:
    """Written as the viewer writes it, the answers pass every check of a return, with nothing lost."""
    path = tmp_path / "r1.jsonl"
    path.write_text(write_return(rows, STUDY, "r1"), encoding="utf-8")
    returned = read_return(path, STUDY)
    require_whole(returned, [one.task_id for one in tasks], path)
    assert [one.model_dump(mode="json", include=set(rows[0])) for one in returned.ratings] == rows


# Label Studio


def key(one: Task, case: str, **changes: object) -> KeyEntry:
    fields = {
        "task_id": one.task_id,
        "rater_id": one.rater_id,
        "kind": "real",
        "side_A_method": "rscd",
        "side_B_method": "noise2void",
        "case_id": case,
        "patient_hash": "0" * 64,
        "source_sha256": "1" * 64,
        "model_sha256": "2" * 64,
        "seed": 0,
    }
    return KeyEntry(**fields | changes)


def answer(one: Task, case: str, entry: dict[str, object] | None = None, **changes: object) -> Answer:
    return Answer(one, key(one, case, **(entry or {})), rating(one, **changes))


def unblinded(*answers: Answer) -> Unblinded:
    raters = tuple(Rater(rater_id=one) for one in ("r1", "r2"))
    protocol = StudyProtocol(
        study_id=STUDY,
        title="Which restoration",
        kind="preference",
        preset="default",
        date="2026-03-04",
        test="rscd",
        baselines=("noise2void",),
        raters=raters,
        images=1,
        tasks=1,
        raters_per_task=2,
        repeats=0,
        sentinels={},
        questions=QUESTIONS["preference"],
        sample_size={},
        imbalance={},
        sources="phantoms",
    )
    return Unblinded(protocol, answers, dict.fromkeys(("r1", "r2"), "3" * 64))


def planted(kind: str, side: str, x: float = 20.0) -> dict[str, object]:
    both = {"side_A_method": "rscd", "side_B_method": "rscd"}
    return {"kind": "sentinel", "sentinel": kind, "sentinel_side": side, "planted": (x, 30.0, 5.5), **both}


SAME = {"kind": "sentinel", "sentinel": "same", "side_A_method": "rscd", "side_B_method": "rscd"}
