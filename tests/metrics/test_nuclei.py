"""Nuclei found, added and removed, on phantoms whose nuclei are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.optimize import linear_sum_assignment

from srh_clinic.errors import InputError
from srh_clinic.intensity import counts_to_unit
from srh_clinic.metrics import detect_nuclei, nuclei_changes
from srh_clinic.metrics.nuclei import RADII_UM, nuclear_contrast, nuclear_responses
from srh_clinic.simulation import simulate_patch

UM_PER_PX = 0.47

SEED = 8_500_000
"""Neither training, validation nor test phantoms; the thresholds were set on others, from 8,000,000."""

TISSUES = ("glioma", "white_matter", "grey_matter", "metastasis_discohesive")


@cache
def phantom(kind: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Clean image in unit intensity and its nuclei in focus."""
    simulated = simulate_patch(kind, 0.5, SEED + index)
    return counts_to_unit(simulated.clean), simulated.nuclei


def phantoms(kinds: tuple[str, ...] = TISSUES, each: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    return [phantom(kind, index) for kind in kinds for index in range(each)]


def disc(shape: tuple[int, ...], y: float, x: float, radius: float) -> np.ndarray:
    """1 inside, 0 outside, over about a pixel."""
    distance = np.hypot(np.arange(shape[-2])[:, None] - y, np.arange(shape[-1])[None] - x)
    return np.clip(radius - distance + 0.5, 0, 1)


def matches(found: np.ndarray, true: np.ndarray) -> int:
    """Pairs of a detection and a true nucleus, each used once, whose centres are less than 0.7 radii apart."""
    if not len(found) or not len(true):
        return 0
    apart = np.hypot(*(found[:, None, :2] - true[None, :, :2]).transpose(2, 0, 1)) / true[:, 2]
    rows, columns = linear_sum_assignment(np.where(apart < 0.7, apart, 1e3))
    return int((apart[rows, columns] < 0.7).sum())


def detection(kind: str, each: int) -> tuple[float, float]:
    """Recall and precision over ``each`` phantoms."""
    pairs = found = true = 0
    for image, nuclei in phantoms((kind,), each):
        detected = detect_nuclei(image, UM_PER_PX)
        pairs, found, true = pairs + matches(detected, nuclei), found + len(detected), true + len(nuclei)
    return pairs / true, pairs / found


# What is found out of focus is no nucleus in truth: up to 40 % of those painted, so precision cannot be 1. In glioma and in
# glands nuclei overlap and some are slivers, which limits recall. Measured (recall, precision): glioma .81, .71; white matter
# .99, .91; grey matter .93, .78; metastasis .94, .89 and .70, .84.
@pytest.mark.parametrize(
    ("kind", "recall", "precision"),
    [
        ("glioma", 0.75, 0.62),
        ("white_matter", 0.9, 0.8),
        ("grey_matter", 0.85, 0.68),
        ("metastasis_discohesive", 0.88, 0.8),
        ("metastasis_glandular", 0.62, 0.75),
    ],
)
def test_nuclei_are_found(kind: str, recall: float, precision: float) -> None:
    measured = detection(kind, 8)
    assert measured[0] >= recall
    assert measured[1] >= precision


@pytest.mark.parametrize("radius_um", RADII_UM[1:-1])
@pytest.mark.parametrize("um_per_px", [0.3, 0.47, 0.7])
def test_a_disc_is_found_where_and_as_large_as_it_is(radius_um: float, um_per_px: float) -> None:
    image = np.full((2, 128, 128), 0.2)
    nucleus = disc(image.shape, 60, 71, radius_um / um_per_px)
    image[0] -= 0.14 * nucleus
    image[1] += 0.02 * nucleus
    (found,) = detect_nuclei(image, um_per_px)
    assert found[:2] == pytest.approx([60, 71], abs=0.5)
    assert found[2] * um_per_px == pytest.approx(radius_um, rel=0.25)  # one step of the radii


def test_a_disc_answers_with_its_contrast() -> None:
    """Contrast inside less outside, from the definition; smoothing and the steps of the radii take a tenth."""
    image = np.full((2, 128, 128), 0.2)
    image[0] -= 0.12 * disc(image.shape, 64, 64, RADII_UM[3] / UM_PER_PX)
    contrast = nuclear_contrast(image, UM_PER_PX)
    step = contrast[64, 64] - contrast[5, 5]
    assert step == pytest.approx((0.2 - 0.08) / (0.28 + 0.04 + 0.02), rel=0.1)
    assert nuclear_responses(image, UM_PER_PX)[3, 64, 64] == pytest.approx(step, rel=0.1)


def test_responses_are_those_of_scipys_laplacian_of_gaussian() -> None:
    image = phantom("glioma", 0)[0]
    responses, contrast = nuclear_responses(image, UM_PER_PX), nuclear_contrast(image, UM_PER_PX)
    for response, radius in zip(responses, RADII_UM, strict=True):
        sigma = radius / UM_PER_PX / np.sqrt(2)
        expected = -np.e / 2 * sigma**2 * ndi.gaussian_laplace(contrast, sigma, mode="reflect", truncate=8)
        np.testing.assert_allclose(response, expected, atol=0.002)


def test_an_image_changed_nothing_in_itself() -> None:
    for image, nuclei in phantoms():
        for truth in (None, nuclei):
            changes = nuclei_changes(image, image, UM_PER_PX, truth)
            assert (changes.added, changes.removed) == (0, 0)
            assert changes.area_mm2 == pytest.approx((256 * 0.47e-3) ** 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: ndi.gaussian_filter(image, (0, 1, 1)),
        lambda image: 1.15 * image,
        lambda image: image * np.array([1, 1.05])[:, None, None],
        lambda image: ndi.shift(image, (0, 0.7, -0.7), order=1, mode="reflect"),
        lambda image: image + np.random.default_rng(0).normal(0, 500 / 65536, image.shape),
    ],
    ids=["blur of 1 px", "gain", "gain of one channel", "shift by a pixel", "noise of 500 counts"],
)
def test_what_moves_no_nucleus_changes_none(change: object) -> None:
    """At most one of about a thousand."""
    changes = [nuclei_changes(change(image), image, UM_PER_PX) for image, _ in phantoms()]  # type: ignore[operator]
    assert sum(one.added + one.removed for one in changes) <= 1
    assert sum(one.reference for one in changes) > 300


def planted(image: np.ndarray, nuclei: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
    """Up to four discs of nuclear contrast (dark in CH2, bright in CH3) on free ground, and how many they are.

    Truth does not list nuclei out of focus, so ground is where CH3 over CH2 is below its median.
    """
    smooth, result, taken = ndi.gaussian_filter(image, (0, 10, 10)), image.copy(), list(nuclei)
    ratio = np.divide(*ndi.gaussian_filter(image, (0, 3, 3))[::-1])
    ground = ratio < np.median(ratio)
    count = 0
    for _ in range(400):
        radius, (y, x) = random.uniform(5, 8), random.uniform(12, 244, 2)
        free = ground[int(y), int(x)] and all(np.hypot(y - a, x - b) > radius + c + 2 for a, b, c in taken)
        if count < 4 and free:
            inside = disc(image.shape, y, x, radius)
            for channel, level in enumerate((0.35, 1.1)):
                result[channel] += inside * (level * smooth[channel, int(y), int(x)] - result[channel])
            taken.append(np.array([y, x, radius]))
            count += 1
    return result, count


@pytest.mark.parametrize("kind", TISSUES)
def test_planted_nuclei_are_counted_as_added(kind: str) -> None:
    """At least 19 of 20; measured: all of 32 in each tissue."""
    random = np.random.default_rng(0)
    sites = added = 0
    for image, nuclei in phantoms((kind,), 8):
        edited, count = planted(image, nuclei, random)
        changes = nuclei_changes(edited, image, UM_PER_PX, nuclei)
        assert changes.removed == 0
        sites, added = sites + count, added + changes.added
    assert sites >= 24
    assert 0.95 * sites <= added <= sites


def test_nuclei_painted_over_are_counted_as_removed() -> None:
    """Those that were found, stand alone and are filled with what is around them: nine of ten."""
    gone = removed = added = 0
    for image, nuclei in phantoms():
        detected = detect_nuclei(image, UM_PER_PX)
        apart = [np.sort(np.hypot(*(nuclei[:, :2] - one[:2]).T)) for one in nuclei]
        lonely = [
            one for one, d in zip(nuclei, apart, strict=True) if (len(d) < 2 or d[1] > 22) and matches(detected, one[None])
        ]
        edited = image.copy()
        for y, x, radius in lonely[:4]:
            near = disc(image.shape, y, x, 2 * radius + 6) > 0.5
            ring = near & (disc(image.shape, y, x, 1.5 * radius) == 0)
            inside = disc(image.shape, y, x, 1.6 * radius + 1)
            edited += inside * (np.median(image[:, ring], axis=1)[:, None, None] - edited)
        changes = nuclei_changes(edited, image, UM_PER_PX, nuclei)
        gone, removed, added = gone + len(lonely[:4]), removed + changes.removed, added + changes.added
    assert gone >= 20
    assert 0.9 * gone <= removed <= gone + 2
    assert added == 0


def test_glass_has_no_nuclei() -> None:
    assert sum(len(detect_nuclei(image, UM_PER_PX)) for image, _ in phantoms(("empty",))) == 0


@pytest.mark.parametrize("level", [0.005, 0.02, 0.3])
def test_denoised_ground_is_not_stretched_into_nuclei(level: float) -> None:
    """Contrast is relative to brightness, not to its own spread: blobs of 33 counts are none, on glass or on tissue."""
    noise = ndi.gaussian_filter(np.random.default_rng(0).normal(0, 1, (2, 256, 256)), (0, 4, 4))
    assert len(detect_nuclei(level + 0.0005 * noise / noise.std(), UM_PER_PX)) == 0


def test_rates_are_per_square_millimetre() -> None:
    image = np.full((2, 128, 128), 0.2)
    edited = image.copy()
    edited[0] -= 0.14 * disc(image.shape, 60, 70, 7)
    changes = nuclei_changes(edited, image, 0.5)
    assert (changes.added, changes.removed, changes.reference) == (1, 0, 0)
    assert changes.added_per_mm2 == pytest.approx(1 / 0.064**2)
    back = nuclei_changes(image, edited, 0.5)
    assert (back.added, back.removed, back.reference) == (0, 1, 1)
    assert back.removed_per_mm2 == pytest.approx(1 / 0.064**2)


def test_a_nucleus_of_the_truth_is_not_invented() -> None:
    """One that the clean image does not show, but the truth states: no addition."""
    image = np.full((2, 128, 128), 0.2)
    edited = image.copy()
    edited[0] -= 0.14 * disc(image.shape, 60, 70, 7)
    assert nuclei_changes(edited, image, 0.5, np.array([[60.0, 70.0, 7.0]])).added == 0
    assert nuclei_changes(edited, image, 0.5, np.array([[100.0, 20.0, 7.0]])).added == 1
    assert nuclei_changes(image, edited, 0.5, np.empty((0, 3))).reference == 0


def test_wrong_images_are_refused() -> None:
    with pytest.raises(InputError, match="needed unit intensity"):
        detect_nuclei(np.zeros((2, 64, 64), np.uint16), UM_PER_PX)
    with pytest.raises(InputError, match="NaN"):
        detect_nuclei(np.full((2, 64, 64), np.nan), UM_PER_PX)
    with pytest.raises(InputError, match="found 2 um per px"):
        detect_nuclei(np.zeros((2, 64, 64)), 2)
    with pytest.raises(InputError, match="two of one shape"):
        nuclei_changes(np.zeros((2, 64, 64)), np.zeros((2, 64, 65)), UM_PER_PX)
