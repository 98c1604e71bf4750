"""Comparing denoisers at equal operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srh_clinic.validation.benchmarks.networks import compare_networks


def test_a_network_of_half_the_operations_gets_twice_the_steps(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    images = np.random.default_rng(0).integers(2_000, 20_000, (36, 2, 128, 128)).astype(np.uint16)
    np.save(pool / "pool-0.npy", images)
    candidates = {"large": {"channels": [16, 16], "unshuffle": 4}, "small": {"channels": [8, 8], "unshuffle": 4}}
    report = compare_networks(str(pool), tmp_path / "out", steps=2, reference="large", candidates=candidates)
    large, small = report.tables[0].rows
    assert large["steps"] == 2
    assert small["steps"] * small["gflop"] == pytest.approx(large["steps"] * large["gflop"], rel=0.5 / small["steps"])
    assert small["psnr_t34"] > 0
