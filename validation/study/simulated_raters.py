"""Simulated raters: answers to a study's tasks from known truths, to test the viewer's return path and the analysis.

Preferences follow a logistic model with normal effects of image and rater; the rate over all images and raters that it implies
is known exactly (:func:`marginal_rate`), so it can be told how often an interval contains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from srh_clinic.validation.study.assignment import EXACT_BASELINES, EXACT_RATERS, assign
from srh_clinic.validation.study.records import CATEGORIES, KeyEntry, Task

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


def balanced_assignment() -> NDArray[np.int64]:
    """The default design's real tasks, six raters and five baselines: image, baseline and two raters of each, ``(450, 4)``."""
    made = assign(150, EXACT_RATERS, EXACT_BASELINES, np.random.default_rng(0))
    return np.array([(task.image, task.baseline, *task.raters) for task in made.tasks], dtype=np.int64)


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
