"""What a method makes of the phantoms: the same in any company, and kept as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srh_clinic.restorers import create_restorer
from srh_clinic.validation.bench import bench as bench_module
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.methods import METHODS, WHOLE, protocol_methods


def test_a_restored_phantom_does_not_depend_on_its_company(bench: Bench) -> None:
    ancestral = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd")
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    restore = PhantomRestorer(bench, ancestral)
    together, alone = restore(degraded)[2], restore({2: degraded[2]})[2]
    # Batches differ, and so does the order of float sums.
    assert np.abs(together.counts.astype(int) - alone.counts).max() <= 1
    assert together.steps == alone.steps


def test_every_phantom_has_noise_of_its_own(bench: Bench) -> None:
    ancestral = next(method for method in protocol_methods(bench.protocol) if method.name == "rscd")
    same = bench.protocol.phantom(0).counts
    restored = PhantomRestorer(bench, ancestral)({0: same, 1: same})
    assert not np.array_equal(restored[0].counts, restored[1].counts)


def test_kept_phantoms_are_those_restored(bench: Bench) -> None:
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        fresh = restore(degraded)
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        kept = restore({2: np.zeros_like(degraded[2])})[2]
    assert np.array_equal(kept.counts, fresh[2].counts)
    assert (kept.steps, kept.evaluations, kept.seconds) == (fresh[2].steps, fresh[2].evaluations, fresh[2].seconds)


def test_what_a_sampler_does_not_read_names_no_cell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new default of one sampler leaves standing what others have restored in hours."""
    restorers = {name: create_restorer("rscd", str(bench.bundle.path), "cpu", sampler=name) for name in ("ddim", "direct")}

    def fingerprint(sampler: str, **changed: Any) -> str:
        settings = restorers[sampler].settings | changed
        monkeypatch.setattr(bench_module, "create_restorer", lambda *_, **__: SimpleNamespace(settings=settings))
        return PhantomRestorer(bench, METHODS[f"rscd_{sampler}"]).fingerprint

    for changed, read in (({"evaluations": 3}, "direct"), ({"ddim_stride": 3}, "ddim")):
        for sampler in restorers:
            assert (fingerprint(sampler, **changed) != fingerprint(sampler)) == (sampler == read)


def test_what_was_kept_does_not_come_first(bench: Bench) -> None:
    """A resampling of the results in their order would otherwise say something else after an interrupted run."""
    degraded = {i: bench.protocol.phantom(i).counts for i in range(3)}
    with PhantomRestorer(bench, METHODS[WHOLE], keep=True) as restore:
        restore({2: degraded[2]})
        assert list(restore(degraded)) == [0, 1, 2]


def test_the_input_is_left_as_it_is() -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (1, 2, 8, 8), dtype=np.uint16)
    assert np.array_equal(create_restorer("none").restore(counts).counts, counts)
