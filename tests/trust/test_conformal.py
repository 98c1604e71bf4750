import numpy as np
import pytest
from scipy import stats

from srh_clinic.errors import InputError
from srh_clinic.trust import conformal_threshold, fewest_cases, miss_rate


def test_the_threshold_is_the_rank_that_the_theorem_names():
    assert conformal_threshold(np.arange(1, 20), 0.05) == 1  # floor(0.05 * 20) = 1
    assert conformal_threshold(np.arange(1, 30)[::-1], 0.1) == 3  # floor(0.1 * 30) = 3, whatever floats make of it
    assert conformal_threshold(np.arange(1, 40), 0.1) == 4


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_the_promise_holds_on_average_over_calibrations(alpha):
    """Given a calibration the miss rate is Beta distributed with mean ``k / (n + 1)``, whatever the strengths are."""
    rng, n, runs = np.random.default_rng(0), 99, 4000
    thresholds = np.array([conformal_threshold(rng.gamma(2, 3, n), alpha) for _ in range(runs)])
    missed = stats.gamma(2, scale=3).cdf(thresholds)
    rank = round(alpha * (n + 1))
    expected = stats.beta(rank, n + 1 - rank)
    # Four standard errors of a mean over the runs.
    assert missed.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / runs**0.5)
    assert missed.std() == pytest.approx(expected.std(), rel=0.1)


def test_too_few_places_make_no_promise():
    assert fewest_cases(0.05) == 19
    assert conformal_threshold(np.ones(19), 0.05) == 1
    with pytest.raises(InputError, match="18 calibration places; needed 19"):
        conformal_threshold(np.ones(18), 0.05)
    with pytest.raises(InputError, match="no number"):
        conformal_threshold([np.nan] * 30, 0.05)
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_threshold(np.ones(30), 1.0)


def test_misses_are_counted_with_the_exact_interval():
    found = miss_rate([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2)
    assert (found.value * found.n, found.n, found.value) == (1, 10, 0.1)  # at the threshold is flagged
    # Clopper and Pearson (1934): 1 of 10.
    assert (found.low, found.high) == (pytest.approx(0.0025, abs=5e-5), pytest.approx(0.4450, abs=5e-5))
    with pytest.raises(InputError, match="no held-out"):
        miss_rate([], 1)
