import numpy as np
import pytest
from scipy import stats

from srh_clinic.errors import InputError
from srh_clinic.trust import conformal_limit, conformal_threshold, fewest_cases, miss_rate


def test_the_threshold_is_the_largest_rank_that_keeps_the_promise():
    """The ``k``-th weakest of n misses more than alpha when fewer than k of n uniform draws lie below alpha."""
    n = 180
    for alpha, confidence in ((0.05, 0.95), (0.1, 0.95), (0.1, 0.5)):
        rank = int(conformal_threshold(np.arange(1, n + 1), alpha, confidence))
        kept = [1 - stats.binom.cdf(k - 1, n, alpha) for k in (rank, rank + 1)]
        assert kept[0] >= confidence > kept[1]
        assert conformal_threshold(np.arange(1, n + 1)[::-1], alpha, confidence) == rank


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_of_twenty_calibrations_nineteen_keep_the_promise(alpha):
    rng, n, runs = np.random.default_rng(0), 180, 4000
    thresholds = np.array([conformal_threshold(rng.gamma(2, 3, n), alpha) for _ in range(runs)])
    kept = (stats.gamma(2, scale=3).cdf(thresholds) <= alpha).mean()
    rank = int(conformal_threshold(np.arange(1, n + 1), alpha))
    expected = stats.beta(rank, n + 1 - rank).cdf(alpha)
    assert expected >= 0.95
    # Four standard errors of a share over the runs.
    assert kept == pytest.approx(expected, abs=4 * (expected * (1 - expected) / runs) ** 0.5)


def test_too_few_places_make_no_promise():
    assert fewest_cases(0.05) == 59  # 1 - 0.95 ** 59 is the first above 0.95
    assert conformal_threshold(np.ones(59), 0.05) == 1
    with pytest.raises(InputError, match="58 calibration places; needed 59"):
        conformal_threshold(np.ones(58), 0.05)
    with pytest.raises(InputError, match="not a number"):
        conformal_threshold([np.nan] * 90, 0.05)
    for alpha, confidence in ((1.0, 0.95), (0.05, 1.0)):
        with pytest.raises(InputError, match="between 0 and 1"):
            conformal_threshold(np.ones(90), alpha, confidence)


def test_misses_are_counted_with_the_exact_interval():
    found = miss_rate([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2)
    assert (found.value * found.n, found.n, found.value) == (1, 10, 0.1)  # at the threshold is flagged
    # Clopper and Pearson (1934): 1 of 10.
    assert (found.low, found.high) == (pytest.approx(0.0025, abs=5e-5), pytest.approx(0.4450, abs=5e-5))
    with pytest.raises(InputError, match="no held-out"):
        miss_rate([], 1)


def test_a_limit_is_exceeded_by_at_most_the_share_of_further_places():
    assert conformal_limit(np.arange(1, 400), 0.005) == 398  # of 399 the 0.995 * 400-th
    assert conformal_limit(np.arange(1, 11), 0.005) == 10  # too few: the largest
    rng, n, share = np.random.default_rng(0), 199, 0.02
    exceeded = np.mean([rng.standard_normal() > conformal_limit(rng.standard_normal(n), share) for _ in range(4000)])
    # Four standard errors of a share of 4,000 runs.
    assert exceeded == pytest.approx(share, abs=4 * (share / 4000) ** 0.5)
    for wrong in ([], [1.0, np.nan]):
        with pytest.raises(InputError, match="needed numbers, at least one"):
            conformal_limit(wrong, 0.1)
