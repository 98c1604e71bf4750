"""Training pools: made from seeds, resumable, and apart from validation and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srh_clinic.simulation import pools


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOL_FILE", 2)


def test_a_pool_is_a_function_of_its_seeds(tmp_path: Path) -> None:
    pools.training_pool(tmp_path, 3, seed=10, workers=1)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["pool-0000010.npy", "pool-0000012.npy"]
    images = np.concatenate([np.load(f) for f in files])
    np.testing.assert_array_equal(images, [pools.clean_sample(seed) for seed in (10, 11, 12)])


def test_a_pool_that_was_cut_goes_on(tmp_path: Path) -> None:
    pools.training_pool(tmp_path, 4, workers=1)
    first, second = sorted(tmp_path.iterdir())
    kept = first.stat().st_mtime_ns
    second.unlink()
    pools.training_pool(tmp_path, 4, workers=1)
    assert second.exists()
    assert first.stat().st_mtime_ns == kept


def test_labelled_patches_are_non_diagnostic_when_unreadable(tmp_path: Path) -> None:
    pools.classifier_pool(tmp_path, 4, workers=1)
    data = np.load(sorted(tmp_path.iterdir())[0])
    assert data["counts"].shape == (2, 2, 256, 256)
    labels = [pools.classifier_sample(seed)[1] for seed in range(24)]
    assert np.bincount(labels, minlength=3).min() >= 2
    assert np.argmax(np.bincount(labels)) == 2
