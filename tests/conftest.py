"""What tests of every folder share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from tiny_networks import save_tiny_bundle


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage needs to look at it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images, ``$SRH_REAL_DATA`` or ``../shared/data``; the test skips where there is none.

    The images carry no licence that would let them travel with the project.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SRH_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SRH_REAL_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle of very small, untrained networks whose calibrator asks for nine steps, whatever it sees."""
    return save_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def phantom_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated tumor slide of 256 px as a DICOM file, for pages whose Python is run as it stands."""
    from srh_clinic.integration import write_wsi
    from srh_clinic.simulation import simulate_case
    from srh_clinic.slide import ArraySlide

    phantom = simulate_case("tumor", quality=0.6, size=256, seed=1)
    path = tmp_path_factory.mktemp("phantom") / "case.dcm"
    write_wsi(ArraySlide(phantom.counts, phantom.um_per_px), path)
    return path
