"""Training pools: made from seeds, resumable, and apart from validation and test."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from srh_clinic.simulation import CLASSES, Phantom, pools, simulate_patch


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOL_FILE", 2)


def test_a_pool_is_a_function_of_its_seeds(tmp_path: Path) -> None:
    pools.training_pool(tmp_path, 3, seed=10, workers=1)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["pool-0000010.npy", "pool-0000012.npy"]
    images = np.concatenate([np.load(f) for f in files])
    np.testing.assert_array_equal(images, [pools.clean_sample(seed) for seed in (10, 11, 12)])


def test_a_degraded_pool_has_the_noise_and_seeds_of_its_own(tmp_path: Path) -> None:
    pools.degraded_pool(tmp_path, 2, workers=1)
    (file,) = tmp_path.iterdir()
    assert file.name == "pool-4000000.npy"
    images = np.load(file)
    assert (images.dtype, images.shape) == (np.uint16, (2, 2, 256, 256))
    np.testing.assert_array_equal(images[1], pools.degraded_sample(4_000_001))
    for seed, degraded in zip((4_000_000, 4_000_001), images.astype(float), strict=True):
        clean = pools.clean_sample(seed).astype(float)
        seen = [ndimage.gaussian_filter(image, (0, 4, 4)) for image in (clean, degraded)]
        assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.7
        assert np.abs(degraded - clean).mean() > 300  # shot noise alone is 450 counts or more


def test_a_pool_that_was_cut_goes_on(tmp_path: Path) -> None:
    pools.training_pool(tmp_path, 4, workers=1)
    first, second = sorted(tmp_path.iterdir())
    kept = first.stat().st_mtime_ns
    second.unlink()
    pools.training_pool(tmp_path, 4, workers=1)
    assert second.exists()
    assert first.stat().st_mtime_ns == kept


def slow(seed: int) -> np.ndarray:
    time.sleep(0.02)
    return np.full((2, 4, 4), seed, np.uint16)


def quick(seed: int) -> np.ndarray:
    return np.full((2, 4, 4), 1000 + seed, np.uint16)


def test_a_pool_that_runs_out_of_time_keeps_what_it_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOL_FILE", 200)
    monkeypatch.setattr(pools, "clean_sample", slow)
    began = time.monotonic()
    assert not pools.training_pool(tmp_path, 200, workers=1, seconds=0.5)
    assert time.monotonic() - began < 3  # all of it takes four seconds
    assert not list(tmp_path.glob("pool-*"))
    monkeypatch.setattr(pools, "clean_sample", quick)
    assert pools.training_pool(tmp_path, 200, workers=1, seconds=60)
    (file,) = tmp_path.iterdir()
    made = np.load(file)[:, 0, 0, 0]
    kept = int((made < 1000).sum())
    assert 0 < kept < 200
    np.testing.assert_array_equal(made, [*range(kept), *range(1000 + kept, 1200)])


def test_a_pool_that_is_interrupted_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "clean_sample", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup the tests themselves do not hear it
    interrupt = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
    interrupt.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            pools.training_pool(tmp_path, 400, workers=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 4  # all of it takes eight seconds


def test_a_labelled_pool_holds_patches_and_classes(tmp_path: Path) -> None:
    pools.classifier_pool(tmp_path, 2, workers=1)
    data = np.load(sorted(tmp_path.iterdir())[0])
    assert data["counts"].shape == (2, 2, 256, 256)
    assert data["labels"].shape == (2,)


def test_a_patch_is_non_diagnostic_by_its_tissue_or_when_its_noise_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def small(kind: str, severity: float, seed: int) -> Phantom:
        seen.append((severity, simulate_patch(kind, severity, seed, size=32)))
        return seen[-1][1]

    monkeypatch.setattr(pools, "simulate_patch", small)
    unreadable = 0
    for seed in range(120):
        counts, label = pools.classifier_sample(seed)
        severity, phantom = seen[-1]
        noisy = np.array_equal(counts, phantom.counts) and severity >= pools.UNREADABLE_SEVERITY
        unreadable += noisy
        assert CLASSES[label] == ("nondiagnostic" if noisy else phantom.diagnosis)
    assert 15 < unreadable < 45
