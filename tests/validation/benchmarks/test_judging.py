"""The benchmark of estimates without a reference, with filters on small phantoms."""

from __future__ import annotations

from srh_clinic.estimates import Interval
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.methods import chosen_methods
from srh_clinic.validation.benchmarks.judging import judging
from srh_clinic.validation.benchmarks.near_clean import STRENGTHS


def test_every_method_is_judged_at_every_strength(bench: Bench) -> None:
    report = judging(bench, chosen_methods(("input", "median")))
    asked, rows = (table.rows for table in report.tables)
    assert [(row["strength"], row["method"]) for row in rows] == [(s, m) for s in STRENGTHS for m in ("input", "median")]
    assert len(asked) == 2
    for row in rows:
        if isinstance(row["estimated"], Interval):
            assert row["error"] == row["estimated"].value - row["true"]
