"""The tissue mask: glass is left out, tissue is not."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.intensity import Counts
from srh_clinic.tissue import tissue_mask


def slide(tissue: float, glass: float, covered: slice, size: int = 512) -> Counts:
    """Tissue (gamma-distributed texture, half of it darker) in the columns ``covered``, glass elsewhere, shot noise."""
    rng = np.random.default_rng(0)
    mean = np.full((2, size, size), glass, dtype=np.float64)
    texture = rng.gamma(8, 1 / 8, (2, size // 8, size // 8)).repeat(8, 1).repeat(8, 2)
    mean[:, :, covered] = tissue * texture[:, :, covered]
    mean[:, : size // 2, covered] *= 0.5
    return np.minimum(rng.poisson(mean / 20) * 20, 65_535).astype(np.uint16)


@pytest.mark.parametrize("gain", [0.05, 1.0, 5.0])
def test_glass_is_left_out_at_any_brightness(gain: float) -> None:
    mask = tissue_mask(slide(9_000 * gain, 400 * gain, slice(0, 256)))
    assert mask.within(0, 0, 512, 240) == 1.0
    # Smoothing and growing may keep glass for five cells beside the tissue.
    assert mask.within(0, 336, 512, 176) == 0.0


@pytest.mark.parametrize("level", [300, 9_000, 50_000])
def test_a_slide_of_tissue_alone_is_kept_whole(level: float) -> None:
    assert tissue_mask(slide(level, 0, slice(0, 512))).fraction == 1.0


def test_tissue_that_fades_from_scattering_is_kept() -> None:
    counts = slide(12_000, 0, slice(0, 512)).astype(np.float64)
    counts *= np.linspace(1.0, 0.12, 512)
    assert tissue_mask(counts.astype(np.uint16)).fraction == 1.0


def test_faint_tissue_beside_glass_is_kept() -> None:
    counts = slide(9_000, 400, slice(0, 256))
    counts[:, 100:200, 300:400] = np.minimum(counts[:, 100:200, 300:400] + 700, 65_535)
    assert tissue_mask(counts).within(100, 300, 100, 100) == 1.0


@pytest.mark.parametrize("edge", [16, 40, 120])
def test_debris_on_tissue_makes_no_glass_of_the_tissue(edge: int) -> None:
    counts = slide(9_000, 0, slice(0, 512))
    counts[:, 200 : 200 + edge, 300 : 300 + edge] = 65_535
    assert tissue_mask(counts).fraction == 1.0


def test_a_scrap_of_tissue_is_found_on_glass() -> None:
    mask = tissue_mask(slide(9_000, 400, slice(200, 230)))
    assert mask.within(0, 192, 512, 48) == 1.0
    assert mask.within(0, 0, 512, 112) == 0.0
    assert mask.within(0, 320, 512, 192) == 0.0


def test_what_was_not_scanned_is_not_tissue() -> None:
    counts = slide(9_000, 9_000, slice(0, 512))
    counts[:, :, 320:] = 0
    mask = tissue_mask(counts)
    assert mask.within(0, 0, 512, 320) == 1.0
    assert mask.within(0, 320, 512, 192) == 0.0


@pytest.mark.parametrize("value", [0, 500])
def test_a_flat_slide_has_no_glass_to_compare_with(value: int) -> None:
    mask = tissue_mask(np.full((2, 100, 70), value, dtype=np.uint16))
    assert mask.fraction == float(value > 0)


def test_the_mask_of_a_thumbnail_speaks_of_slide_pixels() -> None:
    counts = slide(9_000, 400, slice(0, 256))
    mask = tissue_mask(counts, factor=8)
    assert mask.cell == 16
    assert mask.within(0, 0, 512 * 8, 240 * 8) == 1.0
    assert mask.within(0, 336 * 8, 512 * 8, 176 * 8) < 0.01
