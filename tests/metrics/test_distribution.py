"""Distances of distributions against brute force, scipy, scikit-learn and torchmetrics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import rbf_kernel

from srh_clinic.errors import InputError
from srh_clinic.metrics import (
    bootstrap_interval,
    frechet_distance,
    kid,
    paired_bootstrap_interval,
    printed_name,
    psnr,
    radial_power,
    rbf_mmd,
    spectrum_distance,
)
from srh_clinic.metrics.distribution import frechet_under_weights, kid_under_weights, rbf_mmd_under_weights


def features(seed: int, n: int, dimension: int = 8, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 0.5, (n, dimension)) + shift


def cubic(p: np.ndarray, q: np.ndarray) -> float:
    return float((p @ q / len(p) + 1) ** 3)


def test_kid_is_the_mean_over_pairs_written_out() -> None:
    x, y = features(0, 12), features(1, 9, shift=0.3)
    xx = np.mean([cubic(x[i], x[j]) for i, j in product(range(12), repeat=2) if i != j])
    yy = np.mean([cubic(y[i], y[j]) for i, j in product(range(9), repeat=2) if i != j])
    xy = np.mean([cubic(p, q) for p, q in product(x, y)])
    assert kid(x, y) == pytest.approx(xx + yy - 2 * xy)


def test_kid_is_that_of_torchmetrics() -> None:
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    x, y = features(0, 50, 32), features(1, 50, 32, 0.2)
    assert kid(x, y) == pytest.approx(float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))), rel=1e-9)


def test_kid_counts_no_pair_of_one_unit() -> None:
    """Both sets show two patients, three images each: pairs across patients count, no others."""
    x, y = features(0, 6), features(1, 6)
    patient = np.array(["a", "b", "a", "b", "a", "b"])

    def across(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.mean([cubic(p[i], q[j]) for i, j in product(range(6), repeat=2) if patient[i] != patient[j]]))

    assert kid(x, y, patient, patient) == pytest.approx(across(x, x) + across(y, y) - 2 * across(x, y))


def test_kid_of_samples_of_one_distribution_is_zero_on_average() -> None:
    values = [kid(features(2 * seed, 20), features(2 * seed + 1, 20)) for seed in range(400)]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / 20)


def test_a_unit_drawn_twice_is_not_paired_with_itself() -> None:
    """Over resamples KID averages to the estimate; pairing copies would add about (k(a, a) - k(a, b)) / n."""
    x, y = features(0, 40), features(1, 40, shift=0.1)
    draws = np.random.default_rng(0).integers(0, 40, (4000, 40))
    weights = np.stack([np.bincount(draw, minlength=40) for draw in draws]).astype(float)
    resampled = kid_under_weights(x, y)(weights, np.ones((1, 40)))
    naive = np.array([kid(x[draw], y) for draw in draws[:400]])
    noise = 4 * resampled.std() / np.sqrt(4000)
    gram = (x @ x.T / 8 + 1) ** 3
    excess = (np.diag(gram).mean() - gram[~np.eye(40, dtype=bool)].mean()) / 40
    assert resampled.mean() == pytest.approx(kid(x, y), abs=noise)
    assert naive.mean() - kid(x, y) == pytest.approx(excess, abs=4 * naive.std() / 20)
    assert excess > 10 * noise


def test_weights_are_the_resample_written_out() -> None:
    """Unit by unit against a loop over the images of the drawn units, pairs of one unit left out."""
    x, y, patient = features(0, 9), features(1, 5), np.repeat([0, 1, 2], 3)
    weights = np.array([[2.0, 1.0, 0.0]])
    drawn = np.concatenate([np.flatnonzero(patient == unit) for unit in (0, 0, 1)])
    xx = np.mean([cubic(x[i], x[j]) for i, j in product(drawn, repeat=2) if patient[i] != patient[j]])
    yy = np.mean([cubic(y[i], y[j]) for i, j in product(range(5), repeat=2) if i != j])
    xy = np.mean([cubic(x[i], y[j]) for i, j in product(drawn, range(5))])
    assert kid_under_weights(x, y, patient)(weights, np.ones((1, 5)))[0] == pytest.approx(xx + yy - 2 * xy)


@pytest.mark.parametrize("bandwidth", [10.0, 0.7])
def test_rbf_mmd_is_that_of_scikit_learns_kernel(bandwidth: float) -> None:
    x, y = features(0, 30), features(1, 20, shift=0.5)
    a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, y))
    k = {(p, q): rbf_kernel(u, v, 1 / (2 * bandwidth**2)).mean() for (p, u), (q, v) in product(enumerate((a, b)), repeat=2)}
    expected = 1000 * (k[0, 0] + k[1, 1] - 2 * k[0, 1])
    assert rbf_mmd(x, y, bandwidth) == pytest.approx(expected, rel=1e-9)
    assert rbf_mmd(y, y, bandwidth) == pytest.approx(0, abs=1e-9)


def test_without_a_bandwidth_the_reference_sets_it() -> None:
    x, y = features(0, 30), features(1, 21, shift=0.5)
    b = y / np.linalg.norm(y, axis=1, keepdims=True)
    median = np.median([np.linalg.norm(b[i] - b[j]) for i, j in product(range(21), repeat=2) if i < j])
    assert rbf_mmd(x, y) == pytest.approx(rbf_mmd(x, y, float(median)))


def test_units_do_not_change_the_rbf_mmd_of_the_sample() -> None:
    x, y, patient = features(0, 24), features(1, 24, shift=0.5), np.arange(24) // 3
    form = rbf_mmd_under_weights(x, y, patient, patient, bandwidth=1.0)
    assert form(np.ones((1, 8)), np.ones((1, 8)))[0] == pytest.approx(rbf_mmd(x, y, 1.0))


def test_resamples_of_the_rbf_mmd_are_no_further_apart_than_the_sample() -> None:
    x, y = features(0, 40), features(1, 40, shift=0.3)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 4000).astype(float)
    resampled = rbf_mmd_under_weights(x, y, bandwidth=1.0)(weights, np.ones((1, 40)))
    assert resampled.mean() == pytest.approx(rbf_mmd(x, y, 1.0), abs=4 * resampled.std() / np.sqrt(4000))


def frechet_of_scipy(x: np.ndarray, y: np.ndarray) -> float:
    first, second = np.cov(x.T), np.cov(y.T)
    root = sqrtm(first @ second).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


def test_frechet_distance_is_that_of_scipys_square_root() -> None:
    x, y = features(0, 300, 6), features(1, 280, 6, 0.4)
    assert frechet_distance(x, y, None) == pytest.approx(frechet_of_scipy(x, y), rel=1e-8)
    assert frechet_distance(x, y, 6) == pytest.approx(frechet_of_scipy(x, y), rel=1e-8)
    assert frechet_distance(y, y, 6) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_that_of_torchmetrics() -> None:
    compute = pytest.importorskip("torchmetrics.image.fid")._compute_fid
    x, y = features(0, 300, 6), features(1, 280, 6, 0.4)
    moments = (torch.from_numpy(m) for one in (x, y) for m in (one.mean(0), np.cov(one.T)))
    assert frechet_distance(x, y, None) == pytest.approx(float(compute(*moments)), rel=1e-8)


def test_components_are_those_of_the_reference() -> None:
    from sklearn.decomposition import PCA

    x, y = features(0, 260, 12), features(1, 270, 12, 0.4)
    fitted = PCA(4).fit(y)
    assert frechet_distance(x, y, 4) == pytest.approx(frechet_of_scipy(fitted.transform(x), fitted.transform(y)), rel=1e-8)


def test_frechet_weights_are_the_resample_itself() -> None:
    x, y = features(0, 300, 6), features(1, 280, 6, 0.4)
    draw = np.random.default_rng(0).integers(0, 300, 300)
    weights = np.bincount(draw, minlength=300)[None].astype(float)
    expected = frechet_of_scipy(x[draw], y)
    assert frechet_under_weights(x, y, components=None)(weights, np.ones((1, 280)))[0] == pytest.approx(expected, rel=1e-8)


def test_few_images_have_no_frechet_distance() -> None:
    with pytest.raises(InputError, match="found 255 images against 300; needed 256 or more"):
        frechet_distance(features(0, 255), features(1, 300), 4)
    with pytest.raises(InputError, match="needed 401 or more"):
        frechet_distance(features(0, 300, 400), features(1, 300, 400), None)


@pytest.mark.parametrize(
    ("statistic", "extractor", "options", "name"),
    [
        (frechet_distance, "inception_v3", {"components": None}, "FID"),
        (frechet_distance, "inception_v3", {}, "FD[inception_v3]"),
        (frechet_distance, "inception_v3_imagenet", {"components": None}, "FD[inception_v3_imagenet]"),
        (frechet_distance, "efficientnet_lite0", {"components": None}, "FD[efficientnet_lite0]"),
        (kid, "inception_v3", {}, "KID"),
        (kid, "efficientnet_lite0", {}, "KID[efficientnet_lite0]"),
        (rbf_mmd, "clip_vit_l14_336", {"bandwidth": 10.0}, "CMMD"),
        (rbf_mmd, "clip_vit_l14_336", {}, "RBF-MMD[clip_vit_l14_336]"),
        (rbf_mmd, "efficientnet_lite0", {"bandwidth": 10.0}, "RBF-MMD[efficientnet_lite0]"),
    ],
)
def test_only_the_published_metric_bears_its_name(
    statistic: Callable[..., float], extractor: str, options: dict[str, object], name: str
) -> None:
    assert printed_name(statistic, extractor, **options) == name


SHIFTED = [(kid, {}), (rbf_mmd, {"bandwidth": 1.0}), (frechet_distance, {"components": 4})]


@pytest.mark.parametrize(("statistic", "options"), SHIFTED)
def test_intervals_are_as_wide_as_new_samples_scatter(statistic: Callable[..., float], options: dict[str, object]) -> None:
    """The interval's half width is 1.96 standard deviations of the distance over 60 new sets of images, within a third."""
    y = features(10_000, 300)
    values = [statistic(features(seed, 300, shift=0.2), y, **options) for seed in range(60)]
    interval = bootstrap_interval(statistic, features(99, 300, shift=0.2), y, resamples=400, **options)
    assert interval.low < interval.value < interval.high
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * np.std(values), rel=0.35)
    assert interval.n == 300


@pytest.mark.parametrize(("statistic", "options"), SHIFTED)
def test_what_two_methods_share_cancels_in_their_difference(
    statistic: Callable[..., float], options: dict[str, object]
) -> None:
    x, y = features(0, 300, shift=0.2), features(1, 300)
    other = x + 0.02 + np.random.default_rng(2).normal(0, 0.01, x.shape)
    difference = paired_bootstrap_interval(statistic, x, other, y, resamples=300, **options)
    alone = bootstrap_interval(statistic, x, y, resamples=300, **options)
    assert difference.value == pytest.approx(statistic(x, y, **options) - statistic(other, y, **options))
    assert difference.high < 0
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_patients_are_drawn_whole() -> None:
    """Ten images of each of 30 patients, alike but for noise, know no more than 30 images: the interval is that of 30."""
    rng = np.random.default_rng(0)
    patients, y = features(0, 30, shift=0.3), features(1, 300)
    images = np.repeat(patients, 10, axis=0) + rng.normal(0, 0.01, (300, 8))
    units = np.repeat(np.arange(30), 10)
    of_patients = bootstrap_interval(kid, patients, y)
    clustered, naive = bootstrap_interval(kid, images, y, units=units), bootstrap_interval(kid, images, y)
    assert clustered.n == 30
    assert clustered.high - clustered.low == pytest.approx(of_patients.high - of_patients.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (clustered.high - clustered.low)


def test_a_resampled_reference_makes_an_interval_wider() -> None:
    x, y = features(0, 100, shift=0.3), features(1, 60)
    fixed = bootstrap_interval(kid, x, y)
    both = bootstrap_interval(kid, x, y, reference_units=np.arange(60))
    assert both.value == fixed.value
    assert both.high - both.low > 1.1 * (fixed.high - fixed.low)


def test_a_reference_of_the_same_units_is_drawn_with_them() -> None:
    """Restored and clean images of one patient move together: the difference that remains is known better."""
    y, units = features(1, 60), np.arange(60)
    x = y + 0.1 + np.random.default_rng(0).normal(0, 0.05, y.shape)
    joint = bootstrap_interval(kid, x, y, units=units, reference_units=units)
    apart = bootstrap_interval(kid, x, y, units=units, reference_units=units + 100)
    assert joint.high - joint.low < 0.5 * (apart.high - apart.low)


def test_spectra_are_resampled_like_features() -> None:
    images, reference = (np.random.default_rng(seed).normal(0, 0.05, (20, 2, 64, 64)) for seed in (0, 1))
    power, other = radial_power(1.5 * images), radial_power(reference)
    interval = bootstrap_interval(spectrum_distance, power, other)
    assert interval.value == pytest.approx(spectrum_distance(power, other))
    assert interval.value == pytest.approx(20 * np.log10(1.5), abs=0.3)
    assert interval.low < interval.value < interval.high


def test_intervals_repeat() -> None:
    x, y = features(0, 30), features(1, 30)
    assert bootstrap_interval(kid, x, y, seed=4) == bootstrap_interval(kid, x, y, seed=4)
    assert bootstrap_interval(kid, x, y, seed=4) != bootstrap_interval(kid, x, y, seed=5)


def test_wrong_sets_are_refused() -> None:
    x = features(0, 20)
    with pytest.raises(InputError, match="from one extractor"):
        kid(x, features(1, 20, 9))
    with pytest.raises(InputError, match="NaN or infinite"):
        rbf_mmd(np.full((3, 8), np.nan), x)
    with pytest.raises(InputError, match="zero throughout"):
        rbf_mmd(np.zeros((3, 8)), x)
    with pytest.raises(InputError, match="two or more independent units"):
        kid(x, x, np.zeros(20))
    with pytest.raises(InputError, match="one unit for each image"):
        kid(x, x, np.zeros(19))
    with pytest.raises(InputError, match="10 units in common"):
        kid(x, x, np.arange(20), np.arange(20) + 10)
    with pytest.raises(InputError, match="found 7 independent units"):
        bootstrap_interval(kid, x[:7], x)
    with pytest.raises(InputError, match="values of the same images from both methods"):
        paired_bootstrap_interval(kid, x, x[1:], x)
    with pytest.raises(ValueError, match="needed one of kid"):
        bootstrap_interval(psnr, x, x)
