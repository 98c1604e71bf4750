"""What a whole slide takes, beside the build before and a naive loop."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity
from srh_clinic.validation import run_slide, run_writing
from srh_clinic.validation.benchmarks import slide as benchmark
from srh_clinic.validation.benchmarks.slide import SlideBenchmark, gflop_per_tile, old_build
from srh_clinic.validation.benchmarks.slide_case import MEASUREMENTS, phantom_tiles, tiles_of, two_precisions, whole_case

BUNDLE = "phantom-demo"


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "small.dcm"
    case = simulate_case("tumor", 0.6, 300, 2)
    write_wsi(ArraySlide(case.counts, case.um_per_px, Identity(patient_id="PHANTOM")), path)
    return path


def test_a_whole_case_says_what_it_took(slide, tmp_path):
    found = whole_case(str(slide), BUNDLE, {"fixed_steps": 2, "precision": "float32"}, str(tmp_path / "out"), whole_set=True)
    assert (tmp_path / "out" / "result.json").is_file()
    assert found["tiles"]["total"] == 4
    assert found["evaluations_per_tile"] == 2
    assert found["settings"]["precision"] == "float32"
    assert found["found_s"] + found["saving_s"] == pytest.approx(found["wall_s"])
    assert 0 < found["timing"]["networks_s"] < found["wall_s"]
    writing = found["writing"]
    assert set(writing["seconds"]) == {"dicom", "qupath", "fhir", "ome_tiff"}
    assert 0 < writing["megabytes"]["maps_and_report"] < writing["megabytes"]["dicom"]
    assert writing["peak_mb"] >= found["peak_mb"]
    # Two evaluations, a look of the guards and none of the loop's, and two looks of the classifier at four patches.
    gflop = gflop_per_tile(load_bundle(BUNDLE), {**found, "rounds_per_tile": 0})
    assert gflop == pytest.approx(2 * 4.6 + 0.36 + 2 * found["patches"] / 4 * 1.2, rel=0.3)


def test_two_precisions_are_compared_on_the_same_tiles_of_several_phantoms():
    found = two_precisions(BUNDLE, 2, size=256)
    assert found["tiles"] == 2
    assert 0 <= found["same_steps"] <= 1
    assert 0 < found["rms_counts"] < 100
    tiles = phantom_tiles(3, 256)
    assert tiles.shape == (3, 2, 256, 256)
    assert len({tile.tobytes() for tile in tiles}) == 3


def test_the_naive_loop_sees_the_first_tiles_of_a_slide(slide):
    counts, corners = tiles_of(str(slide), 2)
    assert counts.shape == (2, 2, 256, 256)
    assert corners.tolist() == [[0, 0], [0, 44]]


def test_each_measurement_has_a_name_that_a_process_can_be_asked_for(tmp_path):
    assert set(MEASUREMENTS) == {"whole_case", "naive_loop", "two_precisions", "training_step"}
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"measure": "training_step", "bundle": BUNDLE, "engine": False, "steps": 1}))
    command = [sys.executable, "-P", benchmark.slide_case.__file__, str(asked)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert found["step_s"] > 0
    assert found["peak_mb"] > 100


def test_ratios_follow_from_what_was_measured_and_a_second_call_measures_nothing(tmp_path, monkeypatch):
    said = {
        "whole_case": {
            "wall_s": 10.0,
            "found_s": 9.0,
            "saving_s": 1.0,
            "timing": {"networks_s": 8.0, "restoring_s": 5.0},
            "tiles": {"total": 32, "restored": 30, "skipped": 2, "capped": 0},
            "evaluations_per_tile": 2.0,
            "rounds_per_tile": 1.0,
            "examined": 30,
            "patches": 20,
            "diagnosis": "tumor",
            "settings": {"precision": "bf16"},
            "peak_mb": 700.0,
            "writing": {"seconds": {"dicom": 1.0, "fhir": 0.2}, "megabytes": {"dicom": 3.0, "fhir": 0.1}, "peak_mb": 800.0},
        },
        "naive_loop": {"seconds": 64.0, "tiles": 4, "evaluations_per_tile": 35.0},
        "two_precisions": {"tiles": 4, "same_steps": 1.0, "rms_counts": 2.0, "largest_counts": 9, "float32_over_bf16": 2.0},
        "training_step": {"step_s": 1.0, "peak_mb": 500.0},
    }
    asked = []

    def run(command, **options):
        question = json.loads(Path(command[-1]).read_text())
        asked.append((question, options["env"].get("PYTHONPATH")))
        return subprocess.CompletedProcess(command, 0, json.dumps(said[question["measure"]]), "")

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    monkeypatch.setattr(benchmark, "old_build", lambda bench: tmp_path / "old")
    monkeypatch.setattr(SlideBenchmark, "slide", lambda self, name, shape: tmp_path / f"{name}.dcm")
    monkeypatch.setattr(benchmark, "tissue_share", lambda slide: 0.95)
    made = run_slide(tmp_path / "out", sizes=(4096, 12000), float32_at=4096, writing_at=4096, tiles=4)
    (first, second) = made["slides"]
    # The build before: nine seconds for each 32 tiles and one for drawing; the naive loop: sixteen seconds a tile. Their
    # tiles lie 224 px apart whatever ours do: 19 a side.
    before = 9 / 32 * 19**2 + 1
    assert first["speedup_vs_before"] == pytest.approx(before / 10)
    assert first["speedup_vs_naive"] == pytest.approx(16 * 19**2 / 10)
    assert first["restoring_vs_naive"] == pytest.approx(16 * 19**2 / 5)
    assert first["outside_forward_s"] == pytest.approx(2.0)
    assert first["float32"]["speedup_vs_before"] == pytest.approx(before / 10)
    assert first["writing"]["share"] == pytest.approx(0.12)
    assert first["writing"]["more_mb"] == pytest.approx(100)
    assert not {"float32", "writing"} & set(second)
    assert made["peak_12000_over_4096"] == 1.0
    assert json.loads((tmp_path / "out" / "slide.json").read_text()) == made
    assert [place for question, place in asked if question.get("bundle") == "phantom-demo"] == [str(tmp_path / "old")]
    many = len(asked)
    assert run_slide(tmp_path / "out", sizes=(4096, 12000), float32_at=4096, writing_at=4096, tiles=4) == made
    assert run_writing(tmp_path / "out", size=4096) == {"size": 4096, **first["writing"]}
    assert len(asked) == many
    monkeypatch.setattr(benchmark, "_code", lambda: "another build")
    run_slide(tmp_path / "out", sizes=(4096, 12000), float32_at=4096, writing_at=4096, tiles=4)
    assert len(asked) == 2 * many - 1  # all but the build before


def test_a_phantom_with_too_little_tissue_and_a_commit_that_is_not_there_are_told(tmp_path, monkeypatch):
    bench = SlideBenchmark(tmp_path, load_bundle(BUNDLE), "0" * 40, tmp_path, 4)
    with pytest.raises(InputError, match="no build of 0000"):
        old_build(bench)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="positive numbers"):
        run_slide(tmp_path, sizes=())
    monkeypatch.setattr(benchmark, "old_build", lambda bench: tmp_path)
    monkeypatch.setattr(SlideBenchmark, "slide", lambda self, name, shape: tmp_path / f"{name}.dcm")
    monkeypatch.setattr(benchmark, "tissue_share", lambda slide: 0.5)
    with pytest.raises(InputError, match="50% of tissue"):
        run_slide(tmp_path, sizes=(2048,))


def test_slides_are_of_the_size_and_the_bytes_that_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "SOURCE_SIZE", 128)
    bench = SlideBenchmark(tmp_path, load_bundle(BUNDLE), "x", tmp_path, 4)
    path = bench.slide("slide-300", (300, 260))
    assert read_slide(path).shape == (300, 260)
    before = sha256_of(path)
    assert sha256_of(bench.slide("slide-300", (300, 260))) == before
