"""Weights that the tests use where they are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def alexnet() -> Path:
    """AlexNet's feature layers, ``$SRH_LPIPS_WEIGHTS`` or ``../shared/weights``; the test skips where there are none."""
    default = Path(__file__).resolve().parents[3] / "shared" / "weights" / "lpips_alexnet.safetensors"
    path = Path(os.environ.get("SRH_LPIPS_WEIGHTS", default))
    if not path.is_file():
        pytest.skip("no weights of AlexNet; set SRH_LPIPS_WEIGHTS to a file of them")
    return path
