"""How many ratings a study needs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from srh_clinic.validation.study.assignment import assign
from srh_clinic.validation.study.sample_size import (
    exact_power,
    images_needed,
    ratings_needed,
    sample_size,
    simulated_power,
)


def test_the_sample_sizes_are_those_of_the_reference() -> None:
    assert [ratings_needed(p) for p in (0.60, 0.65, 0.70, 0.75)] == [384, 169, 97, 59]
    assert [images_needed(seen) for seen in range(3)] == [72, 110, 142]


def test_the_exact_power_is_what_the_binomial_test_finds() -> None:
    rejected = [k for k in range(60) if stats.binomtest(k, 59).pvalue < 0.01]
    assert exact_power(59, 0.75) == pytest.approx(stats.binom(59, 0.75).pmf(rejected).sum())


@pytest.mark.parametrize("comparisons", [1, 2, 5, 8])
def test_the_level_planned_for_follows_the_number_of_comparisons(comparisons: int) -> None:
    ratings = np.column_stack([np.arange(120) // 2, np.arange(120) % 6])
    said = sample_size(ratings, 0, comparisons)
    assert said["alpha"] == pytest.approx(0.05 / comparisons)
    assert [row["needed"] for row in said["comparisons"]] == [
        ratings_needed(p, alpha=0.05 / comparisons) for p in (0.60, 0.65, 0.70, 0.75)
    ]
    one = sample_size(ratings, 0, 1)["comparisons"][2]
    assert one["needed"] == ratings_needed(0.70, alpha=0.05) < 97
    assert one["exact"] >= said["comparisons"][2]["exact"]


def test_raters_that_differ_cost_power() -> None:
    made = assign(150, 6, 5, np.random.default_rng(0))
    ratings = np.array([(task.image, rater) for task in made.tasks if task.baseline == 0 for rater in task.raters])
    alike = simulated_power(ratings, 0.75, rater_sd=0.0, image_sd=0.0, studies=100)
    differing = simulated_power(ratings, 0.75, rater_sd=1.5, image_sd=1.5, studies=100)
    assert differing < 0.8 < alike
    said = sample_size(ratings)
    assert [row["planned"] for row in said["comparisons"]] == [180] * 4
    assert all(row["simulated"] < row["exact"] for row in said["comparisons"])
