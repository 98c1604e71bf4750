"""p is below 0.05 just where the 95 % interval beside it excludes the null: every small table, and random cohorts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from srh_clinic.estimates import Interval, Undefined, proportion
from srh_clinic.validation.statistics.clusters import difference, p_of_change
from srh_clinic.validation.statistics.paired import mcnemar, within_patient_permutation
from srh_clinic.validation.statistics.roc import TwoAucs, delong, obuchowski
from srh_clinic.validation.statistics.two_way import TwoWay, around_zero, paired_two_way, two_way

LARGEST = 12

PLACES = {
    "an image and a rater each": lambda n: (np.arange(n), np.arange(n)),
    "one rater": lambda n: (np.arange(n), np.zeros(n)),
    "two raters an image": lambda n: (np.arange(n) // 2, np.arange(n) % 2),
    "three images": lambda n: (np.arange(n) % 3, np.arange(n) // 3),
}


def tables() -> Iterator[tuple[int, int, int]]:
    """For, undecided and against: all there are of up to 12."""
    for n in range(1, LARGEST + 1):
        for first in range(n + 1):
            yield from ((first, second, n - first - second) for second in range(n + 1 - first))


def assert_agree(p: float, interval: Interval, null: float, of: object) -> None:
    assert interval.low < interval.high, of
    assert (p < 0.05) == (not interval.low <= null <= interval.high), (of, p, interval)


@pytest.mark.parametrize("design", PLACES)
def test_preference_and_paired_difference_over_all_small_tables(design: str) -> None:
    tried = 0
    for table in tables():
        images, raters = PLACES[design](sum(table))
        found = two_way(np.repeat([1, 0.5, 0], table), images, raters)
        paired = paired_two_way(np.repeat([1, 0, -1], table), images, raters)
        if isinstance(found, TwoWay) and isinstance(paired, TwoWay):
            assert_agree(found.p_value(), found.interval(), 0.5, table)
            assert_agree(paired.p_value(), around_zero(paired.interval()), 0, table)
            tried += 1
    assert tried > 400


def test_mcnemar_and_the_share_of_the_changed_over_all_small_tables() -> None:
    for gained, same, lost in tables():
        if gained + lost:
            test = mcnemar(*_before_and_after(gained, lost, same))
            assert not isinstance(test, Undefined)
            assert_agree(test.p, proportion(gained, gained + lost), 0.5, (gained, lost))


def _before_and_after(gained: int, lost: int, same: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.repeat([False, True, True], [gained, lost, same]), np.repeat([True, False, True], [gained, lost, same])


@pytest.mark.parametrize("patients", [0, 20, 60])
def test_change_in_accuracy_over_all_small_tables(patients: int) -> None:
    """0 patients: as many as changed or stayed; with one case a patient McNemar's test is of the same numbers."""
    tried = 0
    for gained, same, lost in tables():
        more = max(patients - gained - lost - same, 0)
        n = gained + same + lost + more
        if n < 8 or not gained + lost or (patients and same):
            continue
        before, after = _before_and_after(gained, lost, same + more)
        interval, p, test = (
            difference(after, before, np.arange(n)),
            p_of_change(after, before, np.arange(n)),
            mcnemar(before, after),
        )
        assert isinstance(interval, Interval)
        assert not isinstance(test, Undefined)
        assert isinstance(p, float)
        assert_agree(p, interval, 0, (gained, lost, n))
        assert_agree(test.p, interval, 0, (gained, lost, n))
        tried += 1
    assert tried > 80


def test_change_in_accuracy_over_random_cohorts() -> None:
    random, moved = np.random.default_rng(1), 0
    for _ in range(120):
        patient = np.repeat(np.arange(size := random.integers(8, 50)), random.integers(1, 7, size))
        before, uniform = random.random(len(patient)) < random.uniform(0.2, 0.9), random.random(len(patient))
        after = np.where(random.random(len(patient)) < 0.7, before, uniform < random.uniform(0.2, 0.9))
        interval, p = difference(after, before, patient), p_of_change(after, before, patient)
        if isinstance(p, float):
            assert isinstance(interval, Interval)
            assert_agree(p, interval, 0, (size, len(patient)))
            test = within_patient_permutation(before, after, patient)
            assert not isinstance(test, Undefined)
            assert p >= test.p
            moved += p > test.p
    assert moved > 2


def test_areas_under_the_curve_of_few_cases() -> None:
    random, tried = np.random.default_rng(0), 0
    for n in (8, 9, 10, 12):
        for _ in range(150):
            positive = np.arange(n) < random.integers(2, n - 1)
            before, after = random.integers(0, random.integers(2, 5), (2, n)) / 4
            for found in (delong(positive, before, after), obuchowski(positive, before, after, random.integers(0, 9, n))):
                if isinstance(found, TwoAucs) and isinstance(found.difference, Interval):
                    assert found.p is not None
                    assert_agree(found.p, found.difference, 0, n)
                    tried += 1
    assert tried > 500
