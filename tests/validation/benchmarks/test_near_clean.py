"""Nearly clean fields: how they are read, and what is measured of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import psnr
from srh_clinic.simulation import simulate_patch
from srh_clinic.slide import Reading
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.images import FolderImages, told_orders
from srh_clinic.validation.bench.methods import METHODS, WHOLE, chosen_methods
from srh_clinic.validation.benchmarks.near_clean import (
    BRIGHTEST,
    STRENGTHS,
    FieldSet,
    _too_noisy,
    default_methods,
    measures,
    near_clean,
    read_fields,
)

PX = 64
READING = Reading(um_per_px=0.47, full_scale=4096)
CHOSEN = chosen_methods(("input", WHOLE, "nlm"))


def clean(seed: int, size: int = PX) -> Counts:
    return simulate_patch("glioma", 0.0, seed, size).clean


def test_measures_of_channels_and_difference() -> None:
    reference = clean(1)
    error = np.zeros(reference.shape, np.int64)
    error[0, ::2], error[0, 1::2] = 600, -600
    restored = (reference.astype(np.int64) + error).clip(0, 65_535).astype(np.uint16)
    found = measures(restored, reference, reference)
    assert found["psnr"] == pytest.approx(psnr(counts_to_unit(restored), counts_to_unit(reference)))
    # All of the error stands in the difference, half of it in the mean of the channels.
    assert found["psnr_difference"] == pytest.approx(found["psnr"] - 10 * np.log10(2), abs=0.01)
    assert found["rows"] > 10 * max(found["checkerboard"], found["columns"])
    assert found["gain"] == -np.inf  # the input was the reference itself
    assert 0 < found["micro_ssim"] < 1


def test_fields_are_the_brightened_centres_of_the_files(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 3000, (2, 4 * PX, 4 * PX)).astype(np.uint16)
    for name in ("a.tif", "b.tif", "c.tif"):
        tifffile.imwrite(tmp_path / name, stack)
    whole = read_fields(tmp_path, PX, reading=READING)
    halved = read_fields(tmp_path, PX, reading=READING, halved=True, every=2)
    assert list(whole.fields) == ["a.tif", "b.tif", "c.tif"]
    assert list(halved.fields) == ["a.tif", "c.tif"]
    assert halved.title == f"{tmp_path.name}, halved"
    field, centre = whole.fields["a.tif"], stack[:, 96:160, 96:160]
    assert np.percentile(field, 99.9) == pytest.approx(BRIGHTEST, rel=1e-3)
    np.testing.assert_allclose(field, centre * (BRIGHTEST / np.percentile(centre, 99.9)), atol=0.6)
    # Means over 2 x 2 px of white noise have half of its standard deviation.
    contrast = [one.std() / one.mean() for one in (field.astype(float), halved.fields["a.tif"].astype(float))]
    assert contrast[1] == pytest.approx(contrast[0] / 2, rel=0.05)


def test_channels_of_fields_are_those_that_the_caller_says(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 3000, (2, PX, PX)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack)
    for name, channel in zip(("CH2", "CH3"), stack, strict=True):
        tifffile.imwrite(tmp_path / f"b_{name}.tif", channel)
    found = read_fields(tmp_path, PX, reading=READING)
    assert list(found.fields) == ["a.tif", "b_CH2.tif"]
    np.testing.assert_array_equal(found.fields["a.tif"], found.fields["b_CH2.tif"])
    assert [order.rpartition(": ")[2] for order in found.channel_orders] == [
        "in the file's order, which names neither",
        "by name (ch2 and ch3)",
    ]
    (tmp_path / "b_CH2.tif").unlink()
    (tmp_path / "b_CH3.tif").unlink()
    swapped = read_fields(tmp_path, PX, reading=replace(READING, channels="CH3,CH2"))
    np.testing.assert_array_equal(swapped.fields["a.tif"], found.fields["a.tif"][::-1])
    assert told_orders([*swapped.channel_orders] * 2) == (
        "CH2 is channel 2, CH3 is channel 1: as the caller says (CH3,CH2) (2 images)"
    )


def test_a_folder_of_images_says_their_channels(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 3000, (2, 2, PX, PX)).astype(np.uint16)
    about = {"axes": "ZCYX", "PhysicalSizeX": 0.47, "PhysicalSizeY": 0.47, "Channel": {"Name": ["CH3", "CH2"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, ome=True, metadata=about)
    images = FolderImages(tmp_path, PX, 0.47, reading=Reading(full_scale=4096, plane=2))
    np.testing.assert_array_equal(images.image(0).counts, stack[1, ::-1] * 16)
    assert images.channel_orders == "CH2 is channel 2, CH3 is channel 1: by name (ch2 and ch3) (1 images)"


def test_small_fields_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_fields(tmp_path / "none", PX, reading=READING)
    with pytest.raises(InputError, match="no files"):
        read_fields(tmp_path, PX, reading=READING)
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, PX, PX), np.uint16))
    with pytest.raises(InputError, match="at least 128 px"):
        read_fields(tmp_path, PX, reading=READING, halved=True)


def test_a_field_that_shows_nothing_is_refused_before_anything_is_restored(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 3000, (2, PX, PX)).astype(np.uint16)
    stack[1] = 7
    tifffile.imwrite(tmp_path / "a.tif", stack)
    with pytest.raises(InputError, match="a field whose CH3 is 112 everywhere"):
        read_fields(tmp_path, PX, reading=READING)


def test_references_noisier_than_what_is_added_are_told() -> None:
    noise = np.random.default_rng(0).normal(0, 3000, (2, PX, PX))
    fields = FieldSet("own", {"clean": clean(1, 256), "noisy": (clean(1) + noise).clip(0, 65_535).astype(np.uint16)})
    said = _too_noisy(fields, [{"psnr": 33.0}, {"psnr": 33.0}])
    assert said.startswith("Not nearly clean, for this strength: noisy (2")
    assert "clean (" not in said.removeprefix("Not nearly clean")
    assert _too_noisy(fields, [{"psnr": 15.0}, {"psnr": 15.0}]) == ""


def test_the_report_compares_every_method_at_every_strength(bench: Bench) -> None:
    fields = FieldSet("phantoms", {f"field {i}": clean(i) for i in (1, 2)})
    patches = {f"patch {i}": clean(i, 128) for i in (3, 4)}
    report = near_clean(bench, [fields], CHOSEN, patches)
    again = near_clean(bench, [fields], CHOSEN, patches)
    assert [table.rows for table in report.tables] == [table.rows for table in again.tables]  # from the cells on disk
    asked, own, *by_strength, sharing = report.tables
    assert len(asked.rows) == 3 * len(STRENGTHS)
    assert {row["field"] for row in own.rows} == {"field 1", "field 2"}
    assert [len(table.rows) for table in by_strength] == [len(CHOSEN)] * len(STRENGTHS)
    for table in by_strength:
        rows = {row["method"]: row for row in table.rows}
        assert rows["input"]["gain"] == 0
        assert rows["nlm"]["psnr"] > rows["input"]["psnr"]
    shares = {row["method"]: row["band 0"] for row in sharing.rows}
    assert shares["input"].value == 0
    # Untrained weights restore nothing well, and it is said.
    first = [row for row in asked.rows if "first of all methods" in row["asked"]]
    assert not any(row["met"] for row in first)


def test_by_default_every_baseline_and_rscd_itself_take_part() -> None:
    names = default_methods()
    assert {"input", WHOLE, "nlm", "wavelet", "synthetic_noise", "noise2noise", "noise2void", "cyclegan"} <= set(names)
    assert not any(METHODS[name].slow for name in names)
