"""Seams of a restored slide."""

from __future__ import annotations

import numpy as np
import pytest

from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.benchmarks.seams import Field, phantom_fields, seams


def test_each_field_is_measured_as_scanned_and_restored(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    textured = rng.integers(10_000, 40_000, (2, 160, 192), dtype=np.uint16)
    known = Field("known", ArraySlide(textured, 0.47, Identity(source="known")), textured)
    unknown = Field("unknown", ArraySlide(textured[:, ::-1].copy(), 0.47, Identity(source="unknown")))
    report = seams(bench, [known, unknown], skipped="One is left out.")
    rows = {(row["field"], row["image"]): row for row in report.tables[1].rows}
    assert set(rows) == {("known", image) for image in ("as scanned", "restored", "clean")} | {
        ("unknown", image) for image in ("as scanned", "restored")
    }
    # White noise has no seams; its ratio of 10 lines to 330 others is known to about 2 %.
    assert rows["known", "as scanned"]["ratio"] == pytest.approx(1, abs=0.06)
    assert rows["known", "clean"]["ratio"] == rows["known", "as scanned"]["ratio"]
    assert rows["known", "as scanned"]["relative"] == 1
    assert [row["asked"] for row in report.tables[0].rows] == ["mean of 1 phantoms: at most 1.05", "unknown: at most 1.05"]
    assert report.summary.endswith("One is left out.")


def test_phantom_cases_are_in_no_training_and_no_test(bench: Bench) -> None:
    fields = phantom_fields(bench, size=128)
    seeds = [int(field.name.rpartition(" ")[2]) for field in fields]
    first = bench.protocol.phantoms.first_seed
    assert seeds == [first + bench.protocol.phantoms.count + i for i in range(3)]
    assert all(field.clean is not None and field.slide.shape == (128, 128) for field in fields)
