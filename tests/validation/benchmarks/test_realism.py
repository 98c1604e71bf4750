"""The measures that set phantoms beside real patches, on images whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.simulation.fields import power_law_field
from srh_clinic.validation.benchmarks.realism import (
    nuclear_diameters,
    radial_spectrum,
    read_real_patches,
    realism,
    srh_rgb,
)


def test_the_spectrum_of_a_power_law_field_is_a_power_law() -> None:
    """Amplitude f**-1.3 is power f**-2.6: over bands 3 to 14 the slope is -2.6 within 0.1 (one field of finite size)."""
    field = power_law_field(np.random.default_rng(0), (256, 256), 1.3)
    spectrum = radial_spectrum(np.clip(128 + 40 * field, 0, 255))
    frequency = (np.arange(16) + 0.5) / 32
    slope = np.polyfit(np.log10(frequency[3:14]), spectrum[3:14], 1)[0]
    assert slope == pytest.approx(-2.6, abs=0.1)


def test_discs_are_found_at_their_size() -> None:
    """Discs of 16 px on a dark ground; half a pixel is what the smoothing and the threshold cost."""
    rows, columns = np.mgrid[:128, :128]
    image = np.zeros((128, 128, 3), np.uint8)
    for y, x in ((30, 30), (30, 90), (90, 60)):
        image[(rows - y) ** 2 + (columns - x) ** 2 < 8.0**2, 0] = 255
    diameters = nuclear_diameters(image)
    assert len(diameters) == 3
    np.testing.assert_allclose(diameters, 16.0, atol=0.5)


def test_a_field_without_bodies_has_none() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :, 0] = 255
    assert len(nuclear_diameters(image)) == 0


def test_the_stretch_forgets_gain_and_offset() -> None:
    counts = np.random.default_rng(1).integers(1_000, 9_000, (2, 32, 32)).astype(np.uint16)
    np.testing.assert_array_equal(srh_rgb(counts), srh_rgb(3 * counts + 500))


def test_a_folder_without_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no PNG file"):
        read_real_patches(tmp_path)


def test_phantoms_sit_beside_the_real_patches(real_data: Path, tmp_path: Path) -> None:
    """What docs/simulation.md claims: histograms within 35 of 255, correlation within 0.1, nuclei within a fifth in size."""
    report = realism(real_data / "nio_srh_rgb", tmp_path)
    rows = {row["set"]: row for row in report.tables[0].rows}
    real, phantom = rows["real"], rows["phantom, clean"]
    for channel in ("ch2", "ch3"):
        quantiles = [np.array(row[channel].split(" / "), float) for row in (real, phantom)]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 35
    assert abs(real["correlation"] - phantom["correlation"]) < 0.1
    medians = [float(row["diameter"].split(" / ")[1]) for row in (real, phantom)]
    assert medians[1] == pytest.approx(medians[0], rel=0.2)
    assert (tmp_path / "realism.png").is_file()
