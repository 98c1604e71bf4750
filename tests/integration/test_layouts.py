"""A simulated case is read back from each layout in which it can be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide
from srh_clinic.integration.layouts import LAYOUTS, write_simulated
from srh_clinic.integration.nio_writer import Scan
from srh_clinic.simulation import simulate_case

OUT = {"dicom": "case.dcm", "tiff": "case.tif"}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "opensrh"])
def test_a_simulated_case_comes_back(layout: str, tmp_path: Path) -> None:
    out = tmp_path / OUT.get(layout, "case")
    write_simulated(out, layout, size=512, seed=4, scan=Scan(256, 0))
    slide = read_slide(out)
    np.testing.assert_array_equal(slide.read(0, 0, *slide.shape), simulate_case("tumor", 0.3, 512, 4).counts)


def test_a_tree_is_read_by_patient(tmp_path: Path) -> None:
    write_simulated(tmp_path / "tree", "opensrh", patients=1)
    assert read_slide(tmp_path / "tree").shape == (600, 600)


@pytest.mark.parametrize(("layout", "name"), [("vsi", "case"), ("tiff", "case.dcm"), ("nio", ".")])
def test_what_cannot_be_written_is_told(layout: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    with pytest.raises(InputError):
        write_simulated(tmp_path / name, layout, size=64)
