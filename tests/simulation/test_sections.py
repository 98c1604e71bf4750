"""Sections of a block: depth 0 is the patch, near planes are alike, far ones of the same kind; pairs and z-stacks of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.simulation import ATTENUATION_UM, NearRegisteredPair, simulate_pair, simulate_patch, simulate_z_stack
from srh_clinic.simulation.pairs import cut_tissue
from srh_clinic.simulation.tissue import PAINTERS

KINDS = ("glioma", "grey_matter", "white_matter", "blood")
PX = 128


@cache
def pair(kind: str, severity: float, seed: int) -> NearRegisteredPair:
    return simulate_pair(kind, severity, seed, PX)


@cache
def section(kind: str, seed: int, depth_um: float) -> np.ndarray:
    return cut_tissue(kind, seed, depth_um, PX)[1].astype(np.float64)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]))


class TestSection:
    @pytest.mark.parametrize("kind", sorted(PAINTERS))
    def test_at_depth_0_it_is_the_patch(self, kind: str) -> None:
        canvas, signal = cut_tissue(kind, 5, 0.0, 96)
        patch = simulate_patch(kind, 0.3, 5, 96)
        np.testing.assert_array_equal(np.rint(signal), patch.clean)
        np.testing.assert_array_equal(np.reshape(canvas.nuclei, (-1, 3)), patch.nuclei)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_nearer_the_more_alike(self, kind: str) -> None:
        alike = [np.mean([likeness(section(kind, s, 0.0), section(kind, s, d)) for s in (1, 2)]) for d in (0.2, 1.0, 2.5, 8.0)]
        assert alike == sorted(alike, reverse=True)
        assert alike[0] > 0.9
        assert alike[-1] < 0.5

    @pytest.mark.parametrize("kind", KINDS)
    def test_two_deep_ones_are_as_alike_as_two_at_the_top(self, kind: str) -> None:
        """The block has no preferred plane; 0.15 is the spread between seeds."""
        top = np.mean([likeness(section(kind, s, 0.0), section(kind, s, 1.0)) for s in (1, 2)])
        deep = np.mean([likeness(section(kind, s, 40.0), section(kind, s, 41.0)) for s in (1, 2)])
        assert deep == pytest.approx(top, abs=0.15)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_deep_one_is_of_the_same_kind(self, kind: str) -> None:
        """Mean and contrast stay; 20 % is what fields of one block differ by."""
        for number in (np.mean, np.std):
            top, deep = (np.mean([number(section(kind, s, d)) for s in (1, 2)]) for d in (0.0, 60.0))
            assert deep == pytest.approx(top, rel=0.2)

    def test_nuclei_leave_and_others_enter(self) -> None:
        top, below = (np.array(cut_tissue("glioma", 3, depth, 256)[0].nuclei)[:, :2] for depth in (0.0, 8.0))
        nearest = np.sqrt(((top[:, None] - below[None]) ** 2).sum(axis=2)).min(axis=1)
        assert (nearest > 0).mean() > 0.5
        assert len(below) == pytest.approx(len(top), rel=0.3)


class TestPair:
    def test_the_low_one_is_the_patch(self) -> None:
        patch = simulate_patch("glioma", 0.6, 11, PX)
        np.testing.assert_array_equal(pair("glioma", 0.6, 11).low.counts, patch.counts)

    def test_the_high_one_does_not_know_the_severity(self) -> None:
        np.testing.assert_array_equal(pair("glioma", 0.1, 11).high, pair("glioma", 0.6, 11).high)

    def test_a_seed_says_all(self) -> None:
        again = simulate_pair("glioma", 0.6, 11, PX)
        np.testing.assert_array_equal(again.high, pair("glioma", 0.6, 11).high)
        assert not np.array_equal(pair("glioma", 0.6, 12).high, again.high)

    @pytest.mark.parametrize("kind", ["glioma", "white_matter"])
    def test_the_displacement_is_where_the_tissue_lies(self, kind: str) -> None:
        """Undoing it leaves the section and a little noise."""
        made = pair(kind, 0.3, 7)
        place = np.mgrid[0:PX, 0:PX] + made.displacement
        there = section(kind, 7, made.section_um)
        seen = np.stack([ndi.map_coordinates(channel, place, order=3) for channel in there])[:, made.inside]
        assert likeness(seen, made.high[:, made.inside]) > 0.95
        assert likeness(there[:, made.inside], made.high[:, made.inside]) < 0.6

    def test_no_affine_map_undoes_it(self) -> None:
        """Of a warp of 1 to 3 px rms an affine map takes the part that is linear in a field of two correlation lengths."""
        left = []
        for seed in range(6):
            place = np.mgrid[0:PX, 0:PX].reshape(2, -1).T
            terms = np.column_stack([place, np.ones(len(place))])
            displacement = pair("empty", 0.3, seed).displacement.reshape(2, -1).T
            residual = displacement - terms @ np.linalg.lstsq(terms, displacement, rcond=None)[0]
            left.append(np.sqrt((residual**2).sum(axis=1).mean()))
        assert 0.5 < np.mean(left) < 3

    @pytest.mark.parametrize(
        ("arguments", "needed"),
        [
            (("bone", 0.3, 1), "one of white_matter"),
            (("glioma", 1.1, 1), "a number from 0"),
            (("glioma", 0.3, 1, 32), "32 pixels; needed 64 or more"),
        ],
    )
    def test_out_of_range(self, arguments: tuple, needed: str) -> None:
        with pytest.raises(InputError, match=needed):
            simulate_pair(*arguments)


class TestZStack:
    def test_it_begins_with_the_patch(self) -> None:
        stack = simulate_z_stack("glioma", [0, 5], 21, PX)
        np.testing.assert_array_equal(stack.clean[0], simulate_patch("glioma", 0.5, 21, PX).clean)
        assert stack.counts.shape == stack.clean.shape == stack.expected.shape == (2, 2, PX, PX)
        assert (stack.counts.dtype, stack.clean.dtype) == (np.uint16, np.uint16)
        assert (len(stack.nuclei), len(stack.sources), stack.diagnosis) == (2, 2, "tumor")

    def test_a_slice_does_not_know_of_the_others(self) -> None:
        one, many = simulate_z_stack("glioma", [30.0], 21, 96), simulate_z_stack("glioma", [10.0, 30.0], 21, 96)
        np.testing.assert_array_equal(one.counts[0], many.counts[1])

    def test_noise_grows_as_the_signal_left_falls(self) -> None:
        """Between the root of 1/e (shot noise of the signal alone) and 1/e (noise that does not know of the signal)."""
        stacks = [simulate_z_stack("white_matter", [0.0, ATTENUATION_UM, 2 * ATTENUATION_UM], seed, 96) for seed in range(3)]
        noise = np.mean([(stack.counts - stack.expected).std(axis=(1, 2, 3)) for stack in stacks], axis=0)
        for ratio in noise[1:] / noise[:-1]:
            assert np.exp(0.5) < ratio < np.exp(1)
        severity = np.mean([stack.severity.mean(axis=(1, 2)) for stack in stacks], axis=0)
        assert list(severity) == sorted(severity)

    def test_the_gain_makes_up_for_the_loss(self) -> None:
        """What scattering of the field takes besides, at most 36 %, is left dark."""
        stack = simulate_z_stack("white_matter", [0.0, 100.0], 22, 96)
        left = stack.expected.mean(axis=(1, 2, 3)) / stack.clean.mean(axis=(1, 2, 3))
        assert 0.64 < left[1] / left[0] < 1.05

    def test_deep_slices_lose_fine_contrast(self) -> None:
        stack = simulate_z_stack("glioma", [0.0, 100.0], 23, PX)
        fine = [[np.diff(image, axis=-1).std() / image.mean() for image in images] for images in (stack.expected, stack.clean)]
        kept = np.divide(*fine)
        assert kept[1] < 0.9 * kept[0]

    @pytest.mark.parametrize(
        ("kind", "depths_um", "needed"),
        [
            ("bone", [0], "one of white_matter"),
            ("glioma", [], "one or more"),
            ("glioma", [-1], "from 0 to 400 um"),
            ("glioma", [0, 401], "from 0 to 400 um"),
            ("glioma", [float("nan")], "from 0 to 400 um"),
        ],
    )
    def test_out_of_range(self, kind: str, depths_um: list[float], needed: str) -> None:
        with pytest.raises(InputError, match=needed):
            simulate_z_stack(kind, depths_um, 1, 96)
