"""Simulated raters: answers to a study's tasks from known truths, to test the viewer's return path and the analysis.

Preferences follow a logistic model with normal effects of image and rater; the rate over all images and raters that it implies
is known exactly (:func:`marginal_rate`), so it can be told how often an interval contains it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from srh_clinic.validation.study.assignment import EXACT_BASELINES, EXACT_RATERS, assign
from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import CATEGORIES, KeyEntry, Kind, Rater, Rating, StudyProtocol, Task, Window
from srh_clinic.validation.study.unblinding import Answer, Unblinded

NODES = 60
"""Of the Gauss-Hermite rule: exact to 1e-9 up to a standard deviation of 3."""


@dataclass(frozen=True)
class Truth:
    """What simulated raters are like.

    ``preference`` maps baselines to the true rate at which the method under test is preferred, a tie counting half, over all
    images and raters; standard deviations are on the logit scale.
    """

    preference: Mapping[str, float]
    image_sd: float = 1.5
    rater_sd: float = 0.7
    tie: float = 0.1
    """Probability of a tie, whatever the image."""
    side_bias: float = 0.0
    """Logits in favour of side A."""
    hallucination: Mapping[str, float] = field(default_factory=dict)
    """Proportion of each method's images that hold a hallucination."""
    sensitivity: Mapping[str, float] | float = 0.8
    """Probability that a rater notices one, by rater or for all."""
    false_alarm: float = 0.02
    """Probability that a rater calls an image that holds none."""
    flagged_real: float = 0.6
    """In a review, the proportion of flagged regions that hold a hallucination."""
    consistency: float = 0.7
    """Probability that a repeat gets the first answer again; else it is drawn anew."""
    recognition: float = 0.0
    """Probability that a rater knows the method under test; else the guess is A, B or unsure at random."""
    seconds: float = 20.0
    """Median time for a task."""

    def notices(self, rater: str) -> float:
        """A rater's sensitivity."""
        return self.sensitivity if isinstance(self.sensitivity, int | float) else self.sensitivity[rater]


def marginal_rate(logit: float, sd: float, *, tie: float = 0.0, side_bias: float = 0.0) -> float:
    """The preference rate over all images and raters, sides at random, a tie counting half.

    ``tie / 2 + (1 - tie) E[expit(logit +- side_bias + sd z)]`` with a standard normal z, by Gauss-Hermite quadrature.
    """
    z, weight = _nodes()
    sides = (expit(logit + side_bias + sd * z) + expit(logit - side_bias + sd * z)) / 2
    return float(tie / 2 + (1 - tie) * (weight * sides).sum())


@lru_cache(maxsize=256)
def marginal_logit(rate: float, sd: float, *, tie: float = 0.0, side_bias: float = 0.0) -> float:
    """The logit at which :func:`marginal_rate` is ``rate``.

    Raises
    ------
    ValueError
        When so many ties leave no room for such a rate.
    """
    if not tie / 2 < rate < 1 - tie / 2:
        raise ValueError(f"found a rate of {rate} with {tie:.0%} ties; needed one between {tie / 2} and {1 - tie / 2}.")
    return float(brentq(lambda at: marginal_rate(at, sd, tie=tie, side_bias=side_bias) - rate, -40, 40, xtol=1e-12))


def simulated_ratings(
    tasks: Sequence[Task], key: Sequence[KeyEntry], truth: Truth, test: str, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Each rater's answers in the order of the tasks, as :func:`.returns.write_return` takes them.

    The same tasks, truth and seed give the same answers.
    """
    entries = {entry.task_id: entry for entry in key}
    random = np.random.default_rng(seed)
    raters = sorted({task.rater_id for task in tasks})
    cases = sorted({entry.case_id for entry in key})
    image_effect = dict(zip(cases, random.normal(0, truth.image_sd, len(cases)), strict=True))
    rater_effect = dict(zip(raters, random.normal(0, truth.rater_sd, len(raters)), strict=True))
    methods = sorted({one for entry in key for one in (entry.side_A_method, entry.side_B_method) if one})
    chance = {(case, method): random.random() for case in cases for method in methods}
    answered: dict[str, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {rater: [] for rater in raters}
    clock = dict.fromkeys(raters, 1_700_000_000_000)
    for task in sorted(tasks, key=lambda one: (one.rater_id, one.seq)):
        entry = entries[task.task_id]
        rater = task.rater_id
        effect = image_effect[entry.case_id] + rater_effect[rater]
        holds = {
            side: _holds(entry, side, chance[entry.case_id, method] if method else 1.0, truth)
            for side, method in (("A", entry.side_A_method), ("B", entry.side_B_method))
        }
        before = answered.get(entry.repeat_of or "")
        answer = _answer(task, entry, truth, test, effect, holds, before, random)
        shown = clock[rater] + 500
        clock[rater] = shown + int(1000 * truth.seconds * np.exp(random.normal(0, 0.4)))
        answer |= {"seq": task.seq, "task_id": task.task_id, "t_shown": shown, "t_answered": clock[rater]}
        answer |= {"n_zoom": int(random.poisson(1.2)), "n_flicker": int(random.poisson(2.5))}
        answered[task.task_id] = {**answer, "swapped": entry.side_A_method}
        found[rater].append(answer)
    return found


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


def balanced_assignment() -> NDArray[np.int64]:
    """The default design's real tasks, six raters and five baselines: image, baseline and two raters of each, ``(450, 4)``."""
    made = assign(150, EXACT_RATERS, EXACT_BASELINES, np.random.default_rng(0))
    return np.array([(task.image, task.baseline, *task.raters) for task in made.tasks], dtype=np.int64)


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


@lru_cache(maxsize=1)
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z, weight = np.polynomial.hermite_e.hermegauss(NODES)
    return z, weight / weight.sum()


def _holds(entry: KeyEntry, side: str, chance: float, truth: Truth) -> bool:
    """Whether an image really holds a hallucination."""
    if entry.kind == "sentinel":
        return side == entry.sentinel_side and entry.sentinel in ("added", "removed")
    method = entry.side_A_method if side == "A" else entry.side_B_method
    if entry.focus_flagged:
        return chance < truth.flagged_real
    return chance < truth.hallucination.get(method or "", 0.0)


def _answer(
    task: Task,
    entry: KeyEntry,
    truth: Truth,
    test: str,
    effect: float,
    holds: Mapping[str, bool],
    before: Mapping[str, Any] | None,
    random: np.random.Generator,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"confidence": int(random.integers(2, 6))}
    for question in ("pref_quality", "pref_fidelity"):
        if question in task.questions:
            answer[question] = _preferred(entry, truth, test, effect, random)
            if before and random.random() < truth.consistency:
                answer[question] = _side_of(before[question], swapped=before["swapped"] != entry.side_A_method)
    regions = []
    for side in ("A", "B"):
        if f"halluc_{side}" in task.questions:
            noticed = truth.notices(task.rater_id) if holds[side] else truth.false_alarm
            called = random.random() < noticed
            answer[f"halluc_{side}"] = ("definite" if random.random() < 0.6 else "possible") if called else "none"
            if called:
                regions.append(_region(task, entry, side, random))
    if "method_guess" in task.questions:
        known = "A" if entry.side_A_method == test else "B"
        answer["method_guess"] = known if random.random() < truth.recognition else str(random.choice(["A", "B", "unsure"]))
    return answer | {"regions": regions}


def _preferred(entry: KeyEntry, truth: Truth, test: str, effect: float, random: np.random.Generator) -> str:
    if entry.kind == "sentinel":
        if entry.sentinel == "blurred" and random.random() < 0.95:
            return "B" if entry.sentinel_side == "A" else "A"
        return "tie" if random.random() < 0.7 else str(random.choice(["A", "B"]))
    on_a = entry.side_A_method == test
    baseline = str(entry.side_B_method if on_a else entry.side_A_method)
    sd = float(np.hypot(truth.image_sd, truth.rater_sd))
    logit = marginal_logit(truth.preference[baseline], sd, tie=truth.tie, side_bias=truth.side_bias) + effect
    logit += truth.side_bias if on_a else -truth.side_bias
    tie, ours = random.random() < truth.tie, random.random() < expit(logit)
    return "tie" if tie else "A" if bool(ours) == on_a else "B"


def _side_of(side: str, *, swapped: bool) -> str:
    return {"A": "B", "B": "A"}.get(side, side) if swapped else side


def _region(task: Task, entry: KeyEntry, side: str, random: np.random.Generator) -> dict[str, Any]:
    flagged = [one for one in entry.flagged if one[0] == side]
    if entry.planted and side == entry.sentinel_side:
        x, y = entry.planted[0] + random.normal(0, 1), entry.planted[1] + random.normal(0, 1)
    elif flagged and random.random() < 0.7:
        _, left, top, width, height, _ = flagged[0]
        x, y = left + width / 2, top + height / 2
    else:
        x, y = random.uniform(0, task.width), random.uniform(0, task.height)
    category = str(random.choice(np.array(CATEGORIES)))
    return {"side": side, "shape": "point", "xy": [float(x), float(y)], "category": category, "severity": "minor"}


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
