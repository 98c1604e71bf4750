"""The calibrator's measures, asked of calibrators whose answers are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from srh_clinic.intensity import counts_to_model
from srh_clinic.rscd.schedule import create_schedule
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.benchmarks.calibrator import KNOWN_T, calibration, other_noise, two_regions, uniform_noise

SCHEDULE = create_schedule()
MEMBERS = range(6)


@pytest.fixture
def flat() -> Tensor:
    """Grey images: all that varies in what the calibrator is shown is the noise."""
    return torch.zeros(len(MEMBERS), 2, 64, 64)


def index_of(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(SCHEDULE.sigma - sigma[:, None]).argmin(axis=1).astype(np.float64)


def whole_image(images: Tensor) -> NDArray[np.float64]:
    return index_of(images.double().flatten(1).std(dim=1).numpy())


def noisiest_place(images: Tensor) -> NDArray[np.float64]:
    places = images.double().unfold(2, 16, 16).unfold(3, 16, 16).flatten(4).std(dim=4)
    return index_of(places.flatten(1).amax(dim=1).numpy())


def test_uniform_noise_has_the_sigma_of_its_index(bench: Bench, flat: Tensor) -> None:
    for name, pairs in uniform_noise(bench, whole_image, SCHEDULE, flat, MEMBERS).items():
        true, predicted = pairs.T
        assert ((true >= 0) & (true <= 200)).all(), name
        # 8,192 draws know sigma to 0.8 %, which is 2 steps at t = 200; six images stay within three times that.
        assert np.abs(predicted - true).max() <= 6, name


def test_two_regions_differ_by_the_gap_and_are_told_by_the_noisier(bench: Bench, flat: Tensor) -> None:
    shown: dict[str, Callable[[Tensor], NDArray[np.float64]]] = {"noisiest": noisiest_place, "mean": whole_image}
    nearer = {}
    for name, predict in shown.items():
        triples = np.concatenate(list(two_regions(bench, predict, SCHEDULE, flat, MEMBERS).values()))
        larger, smaller, predicted = triples.T
        assert (larger - smaller >= 20).all()
        assert (larger <= 200).all()
        assert (smaller >= 0).all()
        nearer[name] = (np.abs(predicted - larger) < np.abs(predicted - smaller)).mean()
    assert nearer["noisiest"] > 0.8 > nearer["mean"]


def test_other_noise_has_a_known_mean_variance(bench: Bench, flat: Tensor) -> None:
    found = other_noise(bench, whole_image, SCHEDULE, flat, MEMBERS)
    assert {kind for kind, _ in found} == {"white", "row", "smooth", "shot"}
    for (kind, t), predicted in found.items():
        if t == KNOWN_T[0]:
            # 128 rows share half of row-correlated noise: its variance is known to 6 %, t to about one step at t = 20.
            assert predicted.mean() == pytest.approx(t, abs=2), kind


def test_a_smaller_run_is_part_of_a_larger_one(bench: Bench) -> None:
    x0 = torch.from_numpy(np.stack([counts_to_model(bench.protocol.phantom(i).clean) for i in range(2)]))
    both = uniform_noise(bench, whole_image, SCHEDULE, x0, [0, 1])["gain 1"]
    second = uniform_noise(bench, whole_image, SCHEDULE, x0[1:], [1])["gain 1"]
    assert np.array_equal(both[1:], second)


def test_the_report_counts_every_phantom(bench: Bench) -> None:
    report = calibration(bench)
    errors = {(row["fed"], row["true"]): row for row in report.tables[1].rows}
    for fed in ("state", "gain 1"):
        assert errors[fed, "all"]["n"] == 6
        assert sum(row["n"] for (name, true), row in errors.items() if name == fed and true != "all") == 6
    # The bundle's calibrator sees about 8 steps in everything: in indices up to 200 it errs by about the mean index.
    assert errors["gain 1", "all"]["error"].value > 40
    assert errors["gain 1", "all"]["bias"] < -40
    assert [row["met"] for row in report.tables[0].rows] == [False] * 6
    nearer = {(row["fed"], row["shape"]): row["share"] for row in report.tables[2].rows}
    assert nearer["gain 1", "all"].n == 4 * nearer["gain 1", "rectangle"].n == 24
