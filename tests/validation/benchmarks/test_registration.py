"""Registration: finds the map that was applied, says how good the match is, and refuses what is not one field."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage as ndi

from srh_clinic.errors import InputError
from srh_clinic.simulation import degrade, draw_sources, simulate_pair, simulate_patch
from srh_clinic.validation.benchmarks.registration import (
    GOOD_QUALITY,
    Registration,
    alignment_quality,
    register,
    require_good,
)

PX, MARGIN = 192, 48
CENTRE = (PX - 1) / 2
GRID = np.mgrid[0:PX, 0:PX].astype(np.float64)


def rigid(shift: tuple[float, float] = (0.0, 0.0), degrees: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """A turn about the centre and a translation, as a registration's matrix."""
    angle = np.deg2rad(degrees)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, 2] = CENTRE - matrix[:2, :2] @ [CENTRE, CENTRE] + shift
    return matrix


def places(matrix: np.ndarray) -> np.ndarray:
    return np.tensordot(matrix[:2, :2], GRID, axes=1) + matrix[:2, 2].reshape(2, 1, 1)


@cache
def tissue(kind: str, seed: int = 1) -> np.ndarray:
    return simulate_patch(kind, 0.0, seed, PX + 2 * MARGIN).clean.astype(np.float32)


def acquired(kind: str, severity: float, matrix: np.ndarray, noise_seed: int) -> np.ndarray:
    """The field as it lies under a map, degraded by a draw of its own."""
    rng = np.random.default_rng(noise_seed)
    there = np.stack([ndi.map_coordinates(channel, places(matrix) + MARGIN, order=3) for channel in tissue(kind)])
    return degrade(rng, np.clip(there, 0, 65_535), draw_sources(rng, severity)).counts


def error(found: np.ndarray, true: np.ndarray) -> float:
    """Root mean square distance in px over the field."""
    return float(np.sqrt(((places(found) - places(true)) ** 2).sum(axis=0).mean()))


@cache
def near_pair(kind: str, severity: float) -> tuple[Registration, float]:
    """The registration of a simulated pair, and the distance to its true displacement in px."""
    pair = simulate_pair(kind, severity, 3)
    registration = register(pair.high, pair.low.counts)
    here = np.mgrid[0:256, 0:256].astype(np.float64)[:, pair.inside]
    there = here + pair.displacement[:, pair.inside]
    back = registration.matrix[:2, :2] @ there + registration.matrix[:2, 2:]
    return registration, float(np.sqrt(((back - here) ** 2).sum(axis=0).mean()))


class TestKnownMaps:
    @pytest.mark.parametrize("kind", ["glioma", "white_matter", "grey_matter", "blood"])
    @pytest.mark.parametrize(("severity", "tolerance"), [(0.1, 0.08), (0.5, 0.2), (0.9, 0.6)])
    def test_they_are_found_at_every_noise(self, kind: str, severity: float, tolerance: float) -> None:
        """Twice the error met on 120 fields of 256 px; noise of both acquisitions is drawn apart."""
        true = rigid((7.3, -11.6), 2.5)
        found = register(acquired(kind, severity, np.eye(3), 1), acquired(kind, severity, true, 2))
        assert error(found.matrix, true) < tolerance
        assert require_good(found) is found

    @pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.6), (40.0, 3.0), (-30.0, -44.0)])
    def test_shifts_of_any_size(self, shift: tuple[float, float]) -> None:
        found = register(acquired("glioma", 0.5, np.eye(3), 1), acquired("glioma", 0.5, rigid(shift), 2))
        assert found.shift == pytest.approx(shift, abs=0.2)

    def test_rotation_and_scale_are_named(self) -> None:
        found = register(acquired("glioma", 0.3, np.eye(3), 1), acquired("glioma", 0.3, rigid(degrees=-4, scale=1.02), 2))
        assert found.rotation_deg == pytest.approx(-4, abs=0.1)
        assert found.scales == pytest.approx((1.02, 1.02), abs=0.003)

    def test_sizes_may_differ(self) -> None:
        moving = acquired("glioma", 0.3, np.eye(3), 1)[:, 10:, :-20]
        found = register(moving, acquired("glioma", 0.3, rigid((3, 4)), 2))
        true = rigid((3, 4))
        true[0, 2] -= 10
        assert error(found.matrix, true) < 0.15
        assert found.overlap.shape == (PX, PX)
        assert found.apply(moving).shape == (2, PX, PX)

    @pytest.mark.parametrize("name", ["srs_gastric/gastric_01.tif", "srs_brain_zstack/z025.tif"])
    def test_real_tissue_under_simulated_noise(self, real_data: Path, name: str) -> None:
        real = tifffile.imread(real_data / name)[:, :320, :320]
        counts = real * 16 if real.dtype == np.uint16 else real.astype(np.uint16) * 257
        rng = np.random.default_rng(1)
        noisy = degrade(rng, counts[:, 17:273, 9:265].astype(np.float32), draw_sources(rng, 0.9)).counts
        found = require_good(register(counts[:, 10:266, 20:276], noisy))
        assert found.shift == pytest.approx((7, -11), abs=0.1)

    def test_an_image_registers_with_itself_exactly(self) -> None:
        image = acquired("glioma", 0.3, np.eye(3), 1)
        found = register(image, image)
        np.testing.assert_allclose(found.matrix, np.eye(3), atol=1e-9)
        assert found.quality == pytest.approx(1, abs=1e-6)
        assert found.overlap.all()


class TestNearRegisteredPairs:
    @pytest.mark.parametrize("kind", ["glioma", "white_matter", "metastasis_glandular", "blood"])
    @pytest.mark.parametrize("severity", [0.2, 0.9])
    def test_they_are_accepted_and_nearly_as_close_as_an_affine_map_can_be(self, kind: str, severity: float) -> None:
        """The warp leaves 1 to 3 px to every affine map, this one within the px by which the sections differ."""
        registration, distance = near_pair(kind, severity)
        require_good(registration)
        pair = simulate_pair(kind, severity, 3)
        here = np.mgrid[0:256, 0:256].astype(np.float64)[:, pair.inside]
        terms = np.vstack([here + pair.displacement[:, pair.inside], np.ones(here.shape[1])]).T
        best = here.T - terms @ np.linalg.lstsq(terms, here.T, rcond=None)[0]
        assert distance < 1.3 * np.sqrt((best**2).sum(axis=1).mean()) + 0.1

    def test_noise_hardly_changes_what_the_quality_says(self) -> None:
        assert near_pair("glioma", 0.9)[0].quality > 0.8 * near_pair("glioma", 0.2)[0].quality


class TestQuality:
    @pytest.mark.parametrize("wrong", [rigid((1, 0)), rigid((0, 1)), rigid(degrees=0.7)], ids=["down", "across", "turned"])
    def test_it_falls_with_every_step_off_the_true_place(self, wrong: np.ndarray) -> None:
        moving, fixed = acquired("glioma", 0.5, np.eye(3), 1), acquired("glioma", 0.5, np.eye(3), 2)
        qualities = [alignment_quality(moving, fixed, np.linalg.matrix_power(wrong, steps)) for steps in (0, 1, 2, 3, 5, 8)]
        assert qualities == sorted(qualities, reverse=True)
        assert qualities[0] > 0.8
        assert qualities[-1] < 0.3

    def test_it_knows_neither_brightness_nor_shading(self) -> None:
        image = acquired("glioma", 0.1, np.eye(3), 1)
        shaded = (image * np.linspace(0.3, 0.9, PX)).astype(np.uint16)
        assert alignment_quality(image, shaded, np.eye(3)) > 0.98

    def test_no_overlap_has_none(self) -> None:
        image = acquired("glioma", 0.1, np.eye(3), 1)
        assert alignment_quality(image, image, rigid((500, 0))) == 0


class TestRefusals:
    @pytest.mark.parametrize("kind", ["glioma", "white_matter", "blood", "out_of_focus"])
    def test_another_field_of_the_same_kind(self, kind: str) -> None:
        moving, fixed = simulate_patch(kind, 0.05, 1, PX).counts, simulate_patch(kind, 0.3, 2, PX).counts
        with pytest.raises(InputError, match="needed two acquisitions of one field"):
            require_good(register(moving, fixed))

    def test_an_image_without_structure(self) -> None:
        flat = np.full((2, PX, PX), 9_000, np.uint16)
        with pytest.raises(InputError, match=r"agree by 0\.00"):
            require_good(register(flat, flat))

    @pytest.mark.parametrize(
        ("matrix", "quality", "found"),
        [
            (rigid(scale=1.06), 0.9, r"stretched to 1\.06\.\.1\.06"),
            (rigid(scale=0.94), 0.9, r"stretched to 0\.94\.\.0\.94"),
            (np.diag([-1.0, 1.0, 1.0]), 0.9, "stretched to"),
            (rigid(degrees=5.5), 0.9, r"turned by 5\.5 degrees"),
            (rigid(), GOOD_QUALITY - 0.01, "agree by"),
            (rigid(), float("nan"), "agree by nan"),
        ],
    )
    def test_a_map_or_a_match_that_is_not_credible(self, matrix: np.ndarray, quality: float, found: str) -> None:
        with pytest.raises(InputError, match=found):
            require_good(Registration(matrix, quality, np.ones((PX, PX), bool), (PX, PX)))

    def test_a_field_shared_by_less_than_half(self) -> None:
        overlap = np.zeros((PX, PX), bool)
        overlap[: PX // 2 - 1] = True
        with pytest.raises(InputError, match="images that share 49% of the field"):
            require_good(Registration(rigid((97, 0)), 0.9, overlap, (PX, PX)))

    @pytest.mark.parametrize(
        ("moving", "found"),
        [
            (np.zeros((2, PX, PX), np.float32), "an array of float32"),
            (np.zeros((PX, PX), np.uint16), "an array of uint16"),
            (np.zeros((2, 32, PX), np.uint16), "an image of 32 x 192"),
            (np.zeros((2, 300, PX), np.uint16), "edges of 300 and 192"),
        ],
    )
    def test_other_images(self, moving: np.ndarray, found: str) -> None:
        with pytest.raises(InputError, match=found):
            register(moving, np.zeros((2, PX, PX), np.uint16))

    def test_real_fields_of_two_places(self, real_data: Path) -> None:
        one, other = (tifffile.imread(real_data / "srs_gastric" / f"gastric_0{n}.tif") * 16 for n in (1, 2))
        with pytest.raises(InputError, match="needed two acquisitions of one field"):
            require_good(register(one, other))


class TestApply:
    def test_the_moved_image_lies_on_the_fixed_one(self) -> None:
        true = rigid((6.4, -3.7), 2.0)
        moving, fixed = acquired("glioma", 0.0, np.eye(3), 1), acquired("glioma", 0.0, true, 2)
        moved = register(moving, fixed).apply(moving)
        overlap = register(moving, fixed).overlap
        assert moved.dtype == np.uint16
        assert not moved[:, ~overlap].any()
        assert np.corrcoef(moved[:, overlap].ravel(), fixed[:, overlap].ravel())[0, 1] > 0.97

    def test_the_overlap_is_where_the_moving_image_reaches(self) -> None:
        found = register(acquired("glioma", 0.1, np.eye(3), 1), acquired("glioma", 0.1, rigid((10.5, 0)), 2))
        assert found.overlap[: PX - 11, 2:-2].all()
        assert not found.overlap[PX - 10 :].any()

    def test_a_whole_shift_moves_counts_unchanged(self) -> None:
        image = acquired("glioma", 0.3, np.eye(3), 1)
        shifted = np.eye(3)
        shifted[:2, 2] = 5, -3
        overlap = np.zeros((PX, PX), bool)
        overlap[:-5, 3:] = True
        moved = Registration(shifted, 1.0, overlap, (PX, PX)).apply(image)
        np.testing.assert_array_equal(moved[:, :-5, 3:], image[:, 5:, :-3])

    def test_any_image_of_that_size(self) -> None:
        registration = Registration(np.eye(3), 1.0, np.ones((PX, PX), bool), (PX, PX))
        mask = np.zeros((PX, PX), np.float32)
        mask[20:40, 30:50] = 1
        np.testing.assert_allclose(registration.apply(mask), mask, atol=1e-6)
        with pytest.raises(InputError, match="one of 192 x 192 pixels"):
            registration.apply(mask[:100])
