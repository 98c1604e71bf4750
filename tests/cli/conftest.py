"""A call of the command line, a small case, and a bundle whose guards flag it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from calling import Ran, Run

from srh_clinic.bundles import load_bundle, update_bundle
from srh_clinic.cli.app import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, little_drawn: None) -> Run:
    """Calls the command line in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["srh-clinic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return Ran(int(stop.value.code or 0), printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small two-channel TIFF of noisy texture with its pixel size."""
    rng = np.random.default_rng(0)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, 300, 420)), 0, 65_535).astype(np.uint16)
    path = tmp_path_factory.mktemp("case") / "case.tif"
    tifffile.imwrite(path, counts, photometric="minisblack", metadata={"axes": "CYX"})
    return path


@pytest.fixture
def call_of_case(case: Path, tiny_bundle: Path) -> tuple[object, ...]:
    return (case, "--um-per-px", 0.47, "--full-scale", 65536, "--bundle", tiny_bundle, "--device", "cpu")


@pytest.fixture
def wary_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Its guards flag a tile whose brightness moved by a thousandth."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundles" / "wary"))
    calibration = {"weights_sha256": load_bundle(copy).weights_sha256}
    promises = [{"alpha": 0.05, "threshold": 1.0, "confidence": 0.95}]
    trust = {"scales": {"brightness": 1e-3}, "promises": promises, "calibration": calibration, "steps": [0, 200]}
    update_bundle(copy, {}, {"trust": trust})
    return copy
