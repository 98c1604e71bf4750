"""Who rates what: exact where it can be, balanced elsewhere."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.validation.study.assignment import REPEAT_GAP, assign, assign_all, order_with_repeats


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_design_for_six_raters_and_five_baselines_is_exact() -> None:
    made = assign(150, 6, 5, rng())
    assert len(made.tasks) == 450
    assert set(Counter(task.baseline for task in made.tasks).values()) == {90}
    seen = Counter((rater, task.image) for task in made.tasks for rater in task.raters)
    assert set(seen.values()) == {1}
    assert {rater: len(made.of_rater(rater)) for rater in range(6)} == dict.fromkeys(range(6), 150)
    assert set(Counter((rater, task.baseline) for task in made.tasks for rater in task.raters).values()) == {30}
    assert set(Counter((task.raters, task.baseline) for task in made.tasks).values()) == {6}
    assert set(made.imbalance.values()) == {0}
    of_image = {image: sorted(t.baseline for t in made.tasks if t.image == image) for image in range(150)}
    assert Counter(pair for three in of_image.values() for pair in combinations(three, 2)) == dict.fromkeys(
        combinations(range(5), 2), 45
    )


@pytest.mark.parametrize(("images", "raters", "baselines"), [(100, 6, 5), (40, 4, 3), (9, 3, 2), (7, 1, 2), (30, 5, 1)])
def test_other_numbers_are_balanced_as_far_as_they_go(images: int, raters: int, baselines: int) -> None:
    made = assign(images, raters, baselines, rng())
    assert max(Counter((rater, task.image) for task in made.tasks for rater in task.raters).values()) == 1
    assert made.imbalance["tasks per baseline"] <= 1
    assert made.imbalance["tasks per rater"] <= 1
    assert made.imbalance["tasks per rater and baseline"] <= 2


def test_the_papers_design_shows_every_image_with_every_baseline_to_two_raters() -> None:
    made = assign_all(100, 6, 5, rng())
    assert len(made.tasks) == 500
    assert sum(len(task.raters) for task in made.tasks) == 1000
    assert Counter(task.image for task in made.tasks) == dict.fromkeys(range(100), 5)
    assert made.imbalance["tasks per rater"] <= 1


def test_nothing_to_assign_is_refused() -> None:
    with pytest.raises(InputError, match="found 0 images, 6 raters and 5 baselines; needed at least one of each"):
        assign(0, 6, 5, rng())
    with pytest.raises(InputError, match="found 3 images, 0 raters"):
        assign_all(3, 0, 5, rng())


@pytest.mark.parametrize(("tasks", "gap"), [(150, REPEAT_GAP), (60, REPEAT_GAP), (12, 6)])
def test_a_task_and_its_repeat_lie_far_apart(tasks: int, gap: int) -> None:
    for seed in range(20):
        order, promised = order_with_repeats(tasks, tasks // 10, np.random.default_rng(seed))
        assert promised == gap
        assert len(order) == tasks + tasks // 10
        assert sorted(task for task, again in order if not again) == list(range(tasks))
        place = {task: number for number, (task, again) in enumerate(order) if not again}
        assert all(number - place[task] > gap for number, (task, again) in enumerate(order) if again)
