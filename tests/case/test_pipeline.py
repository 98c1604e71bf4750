"""Restore, then classify: with true tiles, store, mosaic and Algorithm 1, and networks replaced by closed forms."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from flat_case import TILE, noisy, pipeline

from srh_clinic.case.provenance import origin_of
from srh_clinic.case.result import CaseResult
from srh_clinic.integration import frames, read_slide, write_wsi
from srh_clinic.integration.dicom_frames import DicomFrames
from srh_clinic.slide import ArraySlide

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))


def test_restoration_turns_a_noisy_case_into_a_diagnosis(result: CaseResult) -> None:
    assert result.before.diagnosis == "nondiagnostic"
    assert result.diagnosis == "tumor"
    assert result.probabilities["tumor"] == pytest.approx(0.8 / 0.9)
    assert any(flag.startswith("diagnosis-changed: nondiagnostic as scanned, tumor") for flag in result.flags)


def test_time_is_split_between_networks_and_the_rest(result: CaseResult) -> None:
    timing = result.timing
    assert timing["networks_s"] + timing["outside_networks_s"] == pytest.approx(timing["total_s"])
    assert timing["tiles_per_s"] == pytest.approx(24 / timing["restoring_s"])


def test_provenance_names_all_that_the_result_depends_on(result: CaseResult) -> None:
    settings = result.provenance["settings"]
    assert result.provenance["seed"] == 3
    assert settings["restorer"] == "rscd"
    assert settings["profile"] == "paper-text"
    assert (settings["tile"], settings["overlap"], settings["patch"]) == (TILE, 32, TILE)
    assert result.provenance["notice"].startswith("Demonstration weights, research use only.")


def test_a_slide_without_any_signal_is_nondiagnostic_and_says_so() -> None:
    result = pipeline()(ArraySlide(np.zeros((2, 100, 100), np.uint16), 0.47))
    assert result.diagnosis == "nondiagnostic"
    assert result.tiles.restored == 0
    assert any(flag.startswith("no-tissue: ") for flag in result.flags)
    jsonschema.validate(json.loads(json.dumps(result.to_dict())), SCHEMA)


@pytest.mark.parametrize("shape", [(40, 300), (64, 64), (9, 7)])
def test_slides_smaller_than_a_tile_run_through(shape: tuple[int, int], tmp_path: Path) -> None:
    result = pipeline()(noisy(3_000, shape))
    assert result.diagnosis == "tumor"
    result.save(tmp_path)


def test_progress_reaches_the_end_of_every_stage() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    pipeline()(noisy(3_000), progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)))
    assert list(told) == ["reading", "classifying as scanned", "restoring", "classifying restored"]
    for steps in told.values():
        assert steps[-1][0] == steps[-1][1]
        assert steps == sorted(steps)


def test_a_whole_case_decodes_each_frame_once_and_fills_no_cache_of_the_callers(tmp_path, monkeypatch) -> None:
    flat = noisy(3_000)
    write_wsi(ArraySlide(flat.read(0, 0, *flat.shape), flat.um_per_px), tmp_path / "scan.dcm", transfer_syntax="raw")
    slide = read_slide(tmp_path / "scan.dcm")
    monkeypatch.setattr(frames, "SPARING_BYTES", 1)
    assert len(slide.notes) == 0
    loads: list[int] = []
    load = DicomFrames.load
    monkeypatch.setattr(DicomFrames, "load", lambda self, index: loads.append(index) or load(self, index))
    result = pipeline()(slide, origin=origin_of(slide))
    assert result.diagnosis == "tumor"
    assert len(loads) == sum(len(one.index) for plane in slide.planes for one in plane)
