"""Simulated tissue: what each kind must show, and that a seed says all."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.simulation import CLASSES, DIAGNOSIS_OF_KIND, Phantom, simulate_case, simulate_patch
from srh_clinic.simulation.tissue import PAINTERS

SEEDS = range(4)


@cache
def patch(kind: str, seed: int) -> Phantom:
    return simulate_patch(kind, 0.2, seed)


def clean(kind: str, seed: int) -> np.ndarray:
    return patch(kind, seed).clean.astype(np.float64)


def nuclei_per_patch(kind: str) -> float:
    return float(np.mean([len(patch(kind, seed).nuclei) for seed in SEEDS]))


def test_every_kind_has_a_painter_and_a_diagnosis() -> None:
    assert set(PAINTERS) == set(DIAGNOSIS_OF_KIND)
    assert set(DIAGNOSIS_OF_KIND.values()) == set(CLASSES)


@pytest.mark.parametrize("kind", sorted(PAINTERS))
def test_a_seed_says_all(kind: str) -> None:
    first, second, other = (simulate_patch(kind, 0.5, seed, size=96) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.clean, second.clean)
    assert not np.array_equal(first.clean, other.clean)
    assert first.counts.dtype == np.uint16
    assert first.counts.shape == (2, 96, 96)


def test_glioma_is_hypercellular() -> None:
    assert nuclei_per_patch("glioma") > 3 * nuclei_per_patch("white_matter")
    assert nuclei_per_patch("glioma") > 3 * nuclei_per_patch("grey_matter")


def test_white_matter_is_brightest_in_lipid() -> None:
    order = ("white_matter", "glioma", "metastasis_glandular", "blood")
    ratios = [np.mean([np.divide(*clean(kind, seed).mean(axis=(1, 2))) for seed in SEEDS]) for kind in order]
    assert ratios == sorted(ratios, reverse=True)


def test_nuclei_are_dark_in_lipid_and_bright_in_protein() -> None:
    """At the true centres CH2 lies below the field's median and CH3 - CH2 above it, for nearly all nuclei of a glioma."""
    dark, bright, total = 0, 0, 0
    for seed in SEEDS:
        phantom = patch("glioma", seed)
        ch2, ch3 = phantom.clean.astype(np.float64)
        for y, x, _ in phantom.nuclei:
            row, column = int(y), int(x)
            window = (slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
            dark += ch2[window].mean() < np.median(ch2)
            bright += (ch3 - ch2)[window].mean() > np.median(ch3 - ch2)
            total += 1
    assert dark / total > 0.9
    assert bright / total > 0.9


@pytest.mark.parametrize("kind", ["blood", "necrosis", "debris", "empty"])
def test_what_holds_no_diagnosis_holds_hardly_a_nucleus(kind: str) -> None:
    assert nuclei_per_patch(kind) < 3


def test_white_matter_is_oriented() -> None:
    """The structure tensor of white matter is more coherent than that of empty glass, whose texture has no direction."""

    def coherence(image: np.ndarray) -> float:
        gy, gx = np.gradient(image)
        xx, yy, xy = (gx * gx).mean(), (gy * gy).mean(), (gx * gy).mean()
        return float(np.hypot(xx - yy, 2 * xy) / (xx + yy))

    white = np.mean([coherence(clean("white_matter", seed)[0]) for seed in SEEDS])
    glass = np.mean([coherence(clean("empty", seed)[0]) for seed in SEEDS])
    assert white > 3 * glass


def test_out_of_focus_has_lost_its_fine_structure() -> None:
    def fine_share(image: np.ndarray) -> float:
        return float(np.diff(image, axis=0).std() / image.std())

    blurred = max(fine_share(clean("out_of_focus", seed)[0]) for seed in SEEDS)
    sharp = min(fine_share(clean("glioma", seed)[0]) for seed in SEEDS)
    assert blurred < 0.3 * sharp


def test_the_same_seed_at_another_severity_shows_the_same_tissue() -> None:
    mild, severe = simulate_patch("glioma", 0.1, 5), simulate_patch("glioma", 0.9, 5)
    np.testing.assert_array_equal(mild.clean, severe.clean)
    assert severe.severity.mean() > 2 * mild.severity.mean()


def test_a_case_knows_the_class_of_every_pixel() -> None:
    case = simulate_case("mixed", size=320, seed=2)
    assert set(np.unique(case.class_map)) == {0, 1, 2}
    assert case.diagnosis == "tumor"
    for y, x, _ in case.nuclei:
        assert 0 <= y < 320
        assert 0 <= x < 320
    tumor = simulate_case("tumor", size=320, seed=2)
    assert (tumor.class_map == CLASSES.index("tumor")).mean() > 0.7


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({"diagnosis": "benign"}, "tumor, normal, nondiagnostic or mixed"),
        ({"quality": 1.5}, "a number from 0"),
        ({"size": 8}, "64 to 16384"),
        ({"size": 10**6}, "64 to 16384"),
    ],
)
def test_a_case_out_of_range_is_refused(arguments: dict, needed: str) -> None:
    with pytest.raises(InputError, match=needed):
        simulate_case(**arguments)
