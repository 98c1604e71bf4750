"""What tests of every folder share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium_pipe import Chromium, begun_chromium
from killing import draw_little
from tiny_networks import save_tiny_bundle

BEGIN_WORKERS = ("cohort/test_cluster.py", "cohort/test_running.py", "cli/test_cohort.py", "pacs/test_listening.py")
"""Tests whose workers are copies of a process that takes seconds to begin, and serves all that are called in one process."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those stand together and first, where one process of several that divide the tests gets them all."""
    here = Path(__file__).parent
    order = {here / name: place for place, name in enumerate(BEGIN_WORKERS)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


gc.disable()  # until the tests are collected: what is imported stays, and looking through it takes a third of the time


def pytest_collection_finish() -> None:
    """Nor need later collections look at it."""
    gc.freeze()
    gc.enable()


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


@pytest.fixture
def little_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of no size in the place of those that matplotlib draws of a case, most of what a small one takes.

    For tests of something else; ``case/test_pictures.py`` and ``case/test_result.py`` hold the pictures.
    """
    from matplotlib.figure import Figure

    from srh_clinic.case import pictures

    for holder, name in ((pictures, "_map_sheet"), (pictures, "_summary_sheet"), (pictures, "_drawn"), (Figure, "savefig")):
        monkeypatch.setattr(holder, name, getattr(holder, name))  # what comes next is undone with it
    draw_little(Figure)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One process for all tests, each with pages that share nothing with those of another."""
    yield from begun_chromium(tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="session")
def workers_draw_little() -> Iterator[None]:
    """The same in worker processes of a run that is called in this one."""
    from many_cases import work_drawing_little

    from srh_clinic.cohort import running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_work", work_drawing_little)
        yield


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
