"""Who rates what: a balanced assignment of images and baselines to raters, and the order in which each rater sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError

EXACT_RATERS, EXACT_BASELINES = 6, 5
"""The numbers that the exact design is for; they are the paper's."""

FAMILIES = ((0, 1, 2), (0, 1, 3))
"""Shifts of the three tasks of an image; image k of a family gets baseline ``(k + shift) mod 5`` in each."""

REPEAT_GAP = 30
"""Tasks that at least lie between a task and its repeat."""


@dataclass(frozen=True)
class Assigned:
    """One task of the design: the restorer under test against ``baseline`` on ``image``, rated by each of ``raters``."""

    image: int
    baseline: int
    raters: tuple[int, ...]


@dataclass(frozen=True)
class Assignment:
    """All tasks of a study, for ``raters`` raters and ``baselines`` baselines."""

    tasks: tuple[Assigned, ...]
    raters: int
    baselines: int

    @property
    def imbalance(self) -> dict[str, int]:
        """Largest less smallest number of tasks per baseline, per rater, and per rater and baseline; 0 is exact."""
        seen = [(rater, task.baseline) for task in self.tasks for rater in task.raters]
        per_pair = Counter(seen)
        return {
            "tasks per baseline": _spread(Counter(task.baseline for task in self.tasks), range(self.baselines)),
            "tasks per rater": _spread(Counter(rater for rater, _ in seen), range(self.raters)),
            "tasks per rater and baseline": _spread(per_pair, product(range(self.raters), range(self.baselines))),
        }

    def relabelled(self, rng: np.random.Generator) -> Assignment:
        """The same design with images, baselines and raters in random places, so that its pattern tells nothing."""
        images, baselines, raters = (
            [int(one) for one in rng.permutation(count)]
            for count in (max(task.image for task in self.tasks) + 1, self.baselines, self.raters)
        )
        tasks = [
            Assigned(images[task.image], baselines[task.baseline], tuple(sorted(raters[rater] for rater in task.raters)))
            for task in self.tasks
        ]
        return Assignment(tuple(sorted(tasks, key=lambda task: (task.image, task.baseline))), self.raters, self.baselines)

    def of_rater(self, rater: int) -> list[int]:
        """Numbers of the tasks that a rater sees."""
        return [number for number, task in enumerate(self.tasks) if rater in task.raters]


def assign(images: int, raters: int, baselines: int, rng: np.random.Generator) -> Assignment:
    """Each rater sees each image once; baselines, raters and their pairs come up as evenly as the numbers allow.

    With six raters, five baselines and a multiple of 75 images it is exact: the 15 perfect matchings of the raters into three
    pairs, each with all five shifts of three baselines, in one family of shifts for 75 images and in both for 150, which is
    where pairs of baselines come up most evenly. Any other numbers are balanced greedily; see :attr:`Assignment.imbalance`.

    Raises
    ------
    InputError
        When there is no image, no baseline, or no rater.
    """
    if images < 1 or raters < 1 or baselines < 1:
        raise InputError(f"{images} images, {raters} raters and {baselines} baselines", "at least one of each")
    block = EXACT_BASELINES * len(_matchings())
    if (raters, baselines) == (EXACT_RATERS, EXACT_BASELINES) and images % block == 0:
        families = [FAMILIES[copy % len(FAMILIES)] for copy in range(images // block)]
        return Assignment(tuple(_exact(families)), raters, baselines)
    together = min(2, raters)
    a_day = min(raters // together, baselines)
    return Assignment(tuple(_greedy(images, raters, baselines, together, a_day, rng)), raters, baselines)


def assign_all(images: int, raters: int, baselines: int, rng: np.random.Generator) -> Assignment:
    """The paper's design: every image with every baseline, each task to two raters, who see an image again and again.

    Raises
    ------
    InputError
        When there is no image, no baseline, or no rater.
    """
    if images < 1 or raters < 1 or baselines < 1:
        raise InputError(f"{images} images, {raters} raters and {baselines} baselines", "at least one of each")
    load, per_pair = np.zeros(raters), np.zeros((raters, baselines))
    tasks = []
    for image in range(images):
        for baseline in range(baselines):
            cost = np.column_stack([per_pair[:, baseline], load])
            chosen = _least(range(raters), min(2, raters), cost, rng)
            for rater in chosen:
                load[rater] += 1
                per_pair[rater, baseline] += 1
            tasks.append(Assigned(image, baseline, tuple(sorted(chosen))))
    return Assignment(tuple(tasks), raters, baselines)


def order_with_repeats(tasks: int, repeats: int, rng: np.random.Generator) -> tuple[list[tuple[int, bool]], int]:
    """A random order of a rater's tasks with some of them once more, and the least number of tasks between the two.

    Repeats lie :data:`REPEAT_GAP` tasks apart, in a study of fewer than twice as many half its length.

    Returns
    -------
    Task numbers with whether it is the repeat, and the gap.
    """
    order = [int(place) for place in rng.permutation(tasks)]
    gap = min(REPEAT_GAP, tasks // 2)
    early = [place for place in range(tasks) if place + gap < tasks]
    chosen = sorted(rng.choice(early, size=min(repeats, len(early)), replace=False)) if early and repeats else []
    placed = [(float(place), order[place], False) for place in range(tasks)]
    placed += [(float(rng.uniform(place + gap, tasks)) + 1e-6, order[place], True) for place in chosen]
    return [(task, again) for _, task, again in sorted(placed)], gap


def _exact(families: Sequence[tuple[int, ...]]) -> Iterator[Assigned]:
    image = 0
    for shifts in families:
        for matching in _matchings():
            for k in range(EXACT_BASELINES):
                for pair, shift in zip(matching, shifts, strict=True):
                    yield Assigned(image, (k + shift) % EXACT_BASELINES, pair)
                image += 1


def _matchings(raters: tuple[int, ...] = tuple(range(EXACT_RATERS))) -> list[tuple[tuple[int, int], ...]]:
    """Every way to make pairs of all raters."""
    if not raters:
        return [()]
    first, rest = raters[0], raters[1:]
    return [
        ((first, partner), *others)
        for partner in rest
        for others in _matchings(tuple(rater for rater in rest if rater != partner))
    ]


def _greedy(
    images: int, raters: int, baselines: int, together: int, a_day: int, rng: np.random.Generator
) -> Iterator[Assigned]:
    """For each image the baselines that came up least, and for each of those the free raters that saw it least."""
    used, load, per_pair = np.zeros(baselines), np.zeros(raters), np.zeros((raters, baselines))
    for image in range(images):
        free = set(range(raters))
        for baseline in _least(range(baselines), a_day, used[:, None], rng):
            chosen = _least(sorted(free), together, np.column_stack([load, per_pair[:, baseline]]), rng)
            free -= set(chosen)
            used[baseline] += 1
            for rater in chosen:
                load[rater] += 1
                per_pair[rater, baseline] += 1
            yield Assigned(image, baseline, tuple(sorted(chosen)))


def _least(candidates: Sequence[int], count: int, cost: NDArray[np.float64], rng: np.random.Generator) -> list[int]:
    """The ``count`` candidates whose rows of ``cost`` come first in lexical order, equals in random order."""
    drawn = [int(one) for one in rng.permutation(candidates)]
    return sorted(drawn, key=lambda one: tuple(cost[one]))[:count]


def _spread(counts: Counter[Any], every: Iterable[Any]) -> int:
    values = [counts[one] for one in every]
    return max(values) - min(values)
