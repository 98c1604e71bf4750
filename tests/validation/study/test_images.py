"""The images of a study: tiles of cases, and simulated tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from srh_clinic.display import srh_colours
from srh_clinic.errors import InputError
from srh_clinic.integration import write_wsi
from srh_clinic.simulation import simulate_patch
from srh_clinic.slide import ArraySlide, Reading
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study.images import PHANTOM_SEED, case_images, phantom_images


def test_phantoms_of_studies_are_nobody_elses(tmp_path: Path) -> None:
    protocol = load_protocol()
    made = phantom_images(protocol, 6, 0)
    assert {image.case_id for image in made} == {f"phantom-{PHANTOM_SEED + number}" for number in range(6)}
    assert [image.stratum for image in made] == ["mild", "moderate", "severe"] * 2
    assert protocol.tables.reference.first_seed + protocol.tables.reference.count < PHANTOM_SEED
    assert protocol.phantoms.first_seed + protocol.tables.count < PHANTOM_SEED


def test_tiles_of_cases_carry_every_word_that_must_not_leak(tmp_path: Path) -> None:
    field = np.concatenate([simulate_patch("glioma", 0.2, seed, 256).counts for seed in (1, 2)], axis=2)
    path = write_wsi(ArraySlide(field, 0.47), tmp_path / "Mrs Doe.dcm")
    path = tmp_path / "Mrs Doe.dcm" if not isinstance(path, Path) else path
    folder = tmp_path / "patches"
    folder.mkdir()
    Image.fromarray(srh_colours(field[:, :, :256])).save(folder / "smith.png")
    protocol = load_protocol()
    images = case_images([tmp_path / "Mrs Doe.dcm", folder], protocol, 8, Reading(), 0)
    assert [image.case_id for image in images] == ["Mrs Doe.dcm@0,0", "Mrs Doe.dcm@0,256", "smith.png@0,0"]
    assert np.array_equal(images[1].counts, field[:, :, 256:])
    assert {"Mrs Doe", "Mrs Doe.dcm"} <= set(images[0].identifiers)
    assert any(word.startswith("2.25.") or word.count(".") > 4 for word in images[0].identifiers)
    assert len(case_images([tmp_path / "Mrs Doe.dcm"], protocol, 1, Reading(), 0)) == 1


def test_two_files_of_one_channel_each_are_one_case(tmp_path: Path) -> None:
    field = simulate_patch("glioma", 0.2, 1, 256).counts
    folder = tmp_path / "pairs"
    folder.mkdir()
    options = {"resolution": (1e4 / 0.47,) * 2, "resolutionunit": "CENTIMETER"}
    for case in ("smith", "jones"):
        for name, channel in zip(("CH2", "CH3"), field, strict=True):
            tifffile.imwrite(folder / f"{case}_{name}.tif", channel, **options)
    tifffile.imwrite(folder / "both.tif", field, photometric="minisblack", **options)
    images = case_images([folder], load_protocol(), 8, Reading(), 0)
    assert [image.case_id for image in images] == ["both.tif@0,0", "jones_CH2.tif@0,0", "smith_CH2.tif@0,0"]
    assert all(np.array_equal(image.counts, field) for image in images)
    assert {"smith_CH2.tif", "smith_CH3.tif"} <= set(images[2].identifiers)
    assert images[0].channel_order.endswith("in the file's order, which names neither")
    assert images[1].channel_order == "CH2 is channel 1, CH3 is channel 2: by name (ch2 and ch3)"
    swapped = case_images([folder / "both.tif"], load_protocol(), 8, Reading(channels="CH3,CH2"), 0)
    assert np.array_equal(swapped[0].counts, field[::-1])
    assert swapped[0].channel_order == "CH2 is channel 2, CH3 is channel 1: as the caller says (CH3,CH2)"


def test_a_source_without_tissue_to_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found an empty folder; needed a case or a folder of images"):
        case_images([tmp_path / "empty"], load_protocol(), 8, Reading(), 0)
    Image.new("RGB", (64, 64)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small\.png: found no tile of 256 px with tissue"):
        case_images([tmp_path / "small.png"], load_protocol(), 8, Reading(), 0)
