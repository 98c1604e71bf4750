"""A restored slide lies on the pixels of its scan, whatever pixel size the networks saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flat_case import FLAT, ContrastClassifier, FakeBundle
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, gaussian_filter
from skimage.registration import phase_cross_correlation

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.result import CaseResult
from srh_clinic.case.scan_grid import ScanGridSlide
from srh_clinic.case.workflow import diagnose_into, diagnosed_before
from srh_clinic.integration import read_slide
from srh_clinic.restorers import create_restorer
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.tiling import MosaicSlide

NETWORKS_UM = 0.47

RATIOS = (0.5, 0.93, 1.0, 1.3)
"""Pixel sizes of scans in those of the networks: much finer, within the tolerance, the same, coarser."""

LANDMARKS = ((40.3, 50.8), (61.7, 211.2), (170.5, 190.1))
"""Centres of bright spots in pixels of the scan, between pixels on purpose."""


def scan(
    ratio: float, shape: tuple[int, int] = (231, 263), glass_from: int | None = None, contrast: float = 3_000
) -> ArraySlide:
    """Texture without a direction that both pixel sizes can show, with spots of known centres; glass right of a column."""
    rng = np.random.default_rng(5)
    texture = gaussian_filter(rng.standard_normal((2, *shape)), (0, 3, 3))
    image = FLAT + contrast * texture / texture.std()
    y, x = np.mgrid[: shape[0], : shape[1]]
    for row, column in LANDMARKS:
        image += 25_000 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 4.0**2))
    if glass_from is not None:
        image[:, :, glass_from:] = 100 + 20 * rng.random((2, shape[0], shape[1] - glass_from))
    return ArraySlide(
        np.clip(image, 1, 65_535).astype(np.uint16), ratio * NETWORKS_UM, Identity(patient_id="P", specimen_id="S")
    )


def pipeline() -> RestoreThenClassify:
    # A median moves nothing; what is compared is the way there and back.
    return RestoreThenClassify(FakeBundle(), create_restorer("median", size=3), ContrastClassifier())  # type: ignore[arg-type]


def restored(slide: ArraySlide) -> CaseResult:
    return pipeline()(slide)


def whole(slide: object) -> NDArray[np.uint16]:
    return slide.read(0, 0, *slide.shape)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("ratio", RATIOS)
def test_it_has_the_scans_shape_and_no_shift(ratio: float) -> None:
    slide = scan(ratio)
    shown = restored(slide).restored.on_scan
    assert (shown.shape, shown.um_per_px, shown.identity) == (slide.shape, slide.um_per_px, slide.identity)
    counts = whole(shown).astype(np.float64)
    assert not np.array_equal(counts, slide.counts)
    for channel in (0, 1):
        shift, _, _ = phase_cross_correlation(slide.counts[channel], counts[channel], upsample_factor=200)
        assert np.abs(shift).max() < 0.05
        # In every corner: a scale that is wrong by a thousandth would move the far ones.
        for corner in (np.s_[:80, :80], np.s_[-80:, :80], np.s_[:80, -80:], np.s_[-80:, -80:]):
            shift, _, _ = phase_cross_correlation(slide.counts[channel][corner], counts[channel][corner], upsample_factor=200)
            assert np.abs(shift).max() < 0.05


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_landmark_stays_where_it_was(ratio: float) -> None:
    slide = scan(ratio, contrast=0)
    counts = whole(restored(slide).restored.on_scan)
    for row, column in LANDMARKS:
        box = np.s_[round(row) - 18 : round(row) + 19, round(column) - 18 : round(column) + 19]
        before, after = (center_of_mass(image[0][box].astype(float) - FLAT) for image in (slide.counts, counts))
        # A median rounds the top of a spot by a pixel of the networks at most, and moves its centre by a hundredth of one.
        np.testing.assert_allclose(after, before, atol=0.05)


@pytest.mark.parametrize("ratio", RATIOS)
def test_what_a_region_shows_does_not_depend_on_how_the_slide_is_cut(ratio: float) -> None:
    shown = restored(scan(ratio)).restored.on_scan
    counts = whole(shown)
    for y, x, height, width in [(0, 0, 1, 1), (230, 262, 1, 1), (17, 31, 100, 64), (63, 0, 2, 263), (0, 128, 231, 3)]:
        np.testing.assert_array_equal(shown.read(y, x, height, width), counts[:, y : y + height, x : x + width])
    with pytest.raises(ValueError, match="not within"):
        shown.read(0, 0, 232, 1)


@pytest.mark.parametrize("ratio", RATIOS)
def test_glass_is_the_scans_own(ratio: float) -> None:
    slide = scan(ratio, (256, 640), glass_from=230)
    counts = whole(restored(slide).restored.on_scan)
    np.testing.assert_array_equal(counts[:, :, 520:], slide.counts[:, :, 520:])
    assert (counts[:, :, :200] != slide.counts[:, :, :200]).any()


def test_where_everything_is_restored_it_is_what_the_networks_saw() -> None:
    slide = scan(0.5)
    result = restored(slide)
    shown = result.restored.on_scan
    assert isinstance(shown, ScanGridSlide)
    # Two pixels of the scan are one of the networks: their mean is it, but for what interpolation takes of the finest detail.
    counts = whole(shown).astype(np.float64)[:, :230, :262]
    seen = whole(result.restored.slide).astype(np.float64)[:, :115, :131]
    # A shift of half a pixel of the networks would be ten times that.
    assert np.std(counts.reshape(2, 115, 2, 131, 2).mean((2, 4)) - seen) < 150


def test_a_scan_at_the_networks_pixel_size_is_the_mosaic_itself() -> None:
    result = restored(scan(1.0))
    assert isinstance(result.restored.on_scan, MosaicSlide)
    assert result.restored.on_scan is result.restored.slide


@pytest.mark.usefixtures("little_drawn")
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_dicom_slide_is_the_scans_size_and_found_again(tmp_path: Path, ratio: float) -> None:
    from srh_clinic.case.provenance import origin_of

    slide, run = scan(ratio), pipeline()
    origin = origin_of(slide)
    where = {"out": tmp_path / "out", "dicom_out": tmp_path / "dicom"}
    result = diagnose_into(run, slide, origin, **where)
    written = read_slide(tmp_path / "dicom")
    assert (written.shape, written.um_per_px) == (slide.shape, pytest.approx(slide.um_per_px, rel=1e-9))
    np.testing.assert_array_equal(whole(written), whole(result.restored.on_scan))
    assert diagnosed_before(run, slide, origin, **where) is not None


def test_tiles_of_a_run_that_was_cut_give_the_same_slide(tmp_path: Path) -> None:
    slide = scan(1.3)
    first = pipeline()(slide, work=tmp_path)
    again = pipeline()(slide, work=tmp_path)
    assert again.restored.computed == 0
    np.testing.assert_array_equal(whole(again.restored.on_scan), whole(first.restored.on_scan))
