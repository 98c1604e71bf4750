"""Speed and memory: what is counted, and slides of any size from a small one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from srh_clinic.bundles import Bundle
from srh_clinic.errors import InputError
from srh_clinic.slide import ArraySlide
from srh_clinic.validation import run_speed
from srh_clinic.validation.benchmarks.memory import MirroredSlide, measure, peak_memory


def test_a_mirrored_slide_repeats_its_source() -> None:
    source = np.arange(2 * 5 * 7, dtype=np.uint16).reshape(2, 5, 7)
    slide = MirroredSlide(ArraySlide(source, 0.47), (23, 30))
    whole = np.pad(source, ((0, 0), (0, 18), (0, 23)), mode="symmetric")
    assert np.array_equal(slide.read(0, 0, 23, 30), whole)
    assert np.array_equal(slide.read(4, 6, 3, 20), whole[:, 4:7, 6:26])
    with pytest.raises(ValueError, match="is not within a slide"):
        slide.read(20, 0, 4, 4)


def test_peak_memory_sees_what_was_held() -> None:
    before = peak_memory()
    held = np.ones(40_000_000, dtype=np.uint8)
    assert held.sum() == 40_000_000
    del held
    # Earlier peaks may have been higher than what is held now; a peak never falls.
    assert peak_memory() >= before
    assert 40e6 < peak_memory() < 100e9


def test_a_case_is_measured_in_a_process_of_its_own(bundle: Bundle) -> None:
    found = measure(192, str(bundle.path), "cpu")
    # The bundle's tiles have 64 px and overlap by 32.
    assert found["tiles"] == 25
    assert 50e6 < found["loaded_bytes"] <= found["peak_bytes"]


def test_a_measurement_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'why' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(RuntimeError, match=r"^why$"):
        measure(64, "bundle", "cpu")


def test_a_measurement_that_takes_too_long_is_given_up(bundle: Bundle) -> None:
    assert measure(64, str(bundle.path), "cpu", time_limit=0.01) == {"size": 64}


def test_the_report_adds_up(bundle: Bundle, tmp_path: Path, small_protocol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {64: {"size": 64, "tiles": 1, "seconds": 1.0, "loaded_bytes": 5e8, "peak_bytes": 6e8}, 128: {"size": 128}}
    monkeypatch.setattr("srh_clinic.validation.benchmarks.speed.measure", lambda size, bundle, device: peaks[size])
    report = run_speed(tmp_path, bundle=bundle.path, device="cpu", tiles=2, sizes=(64, 128), protocol=small_protocol)
    tables = {table.title: table.rows for table in report.tables}
    ours, nlm = tables["Restoring"]
    assert ours["tiles_per_s"] * ours["seconds"] == pytest.approx(1)
    assert 0 < ours["outside"] < ours["seconds"]
    assert ours["outside_share"] == pytest.approx(ours["outside"] / ours["seconds"])
    assert ours["against_nlm"] == pytest.approx(ours["seconds"] / nlm["seconds"])
    costs = tables["What a tile costs"]
    assert ours["gflop"] == pytest.approx(sum(row["total"] for row in costs))
    # Seven steps in two evaluations, after one look of the calibrator.
    assert [row["evaluations"] for row in costs] == [2, 1]
    assert tables["What was asked"][0]["measured"] == "given up"
    assert (tmp_path / "speed.md").read_text() == report.markdown


def test_the_aim_is_a_ratio_of_peaks() -> None:
    from srh_clinic.validation.benchmarks.speed import _memory_criterion

    met = _memory_criterion([{"size": 1, "peak_bytes": 100}, {"size": 2, "peak_bytes": 129}])
    missed = _memory_criterion([{"size": 1, "peak_bytes": 100}, {"size": 2, "peak_bytes": 131}])
    assert (met["measured"], met["met"]) == ("1.290", True)
    assert (missed["measured"], missed["met"]) == ("1.310", False)


def test_nothing_to_measure_is_told(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 tiles"):
        run_speed(tmp_path, bundle=bundle.path, tiles=0)
