"""A slide that travels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide, Identity


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the two objects of a small slide of noise, with identifiers that should travel nowhere else."""
    rng = np.random.default_rng(0)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, 300, 300)), 0, 65_535).astype(np.uint16)
    folder = tmp_path_factory.mktemp("travels") / "slide"
    write_wsi(ArraySlide(counts, 0.47, Identity(patient_id="CANARY-patient", specimen_id="CANARY-specimen")), folder)
    return folder
