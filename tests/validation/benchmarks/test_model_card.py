"""The model card quotes reports on its own weights, and only those."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from srh_clinic.bundles import load_bundle, update_bundle
from srh_clinic.errors import InputError
from srh_clinic.validation.benchmarks.model_card import write_model_card


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def write_report(folder: Path, weights: str) -> None:
    folder.mkdir(exist_ok=True)
    rows = [{"asked": "at most 8 steps", "measured": "3.2 steps", "met": True}]
    report = {
        "title": "The calibrator",
        "provenance": {"weights_sha256": weights, "command": "srh-clinic benchmark protocol calibrator"},
        "tables": {"What was asked": rows},
    }
    (folder / "calibrator.json").write_text(json.dumps(report))


def test_the_card_quotes_scores_and_training(bundle_copy: Path, tmp_path: Path) -> None:
    before = load_bundle(bundle_copy).weights_sha256
    write_report(tmp_path / "reports", before)
    after = write_model_card(bundle_copy, tmp_path / "reports")
    assert after.weights_sha256 == before
    card = (bundle_copy / "docs" / "README.md").read_text()
    assert "| at most 8 steps | 3.2 steps | yes |" in card
    assert "| denoiser | 0 | " in card
    assert "demonstration weights, research use only" in card


def test_the_card_says_what_the_guards_promise(bundle_copy: Path, tmp_path: Path) -> None:
    weights = load_bundle(bundle_copy).weights_sha256
    trust = {
        "scales": {"added": 5.0},
        "promises": [{"alpha": 0.05, "threshold": 1.25, "confidence": 0.95}],
        "calibration": {"tiles with one edit": 180, "weights_sha256": weights},
        "steps": [1, 112],
    }
    update_bundle(bundle_copy, {}, {"trust": trust})
    write_report(tmp_path / "reports", weights)
    assert load_bundle(write_model_card(bundle_copy, tmp_path / "reports").path).metadata["trust"] == trust
    card = (bundle_copy / "docs" / "README.md").read_text()
    assert "| 5% | 95% | 1.250 |" in card
    assert "| tiles with one edit | 180 |" in card
    assert "| steps | 1 to 112 predicted |" in card


def test_a_report_on_other_weights_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "reports", "0" * 64)
    with pytest.raises(InputError, match="a report on the weights 000"):
        write_model_card(bundle_copy, tmp_path / "reports")


def test_no_report_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report"):
        write_model_card(bundle_copy, tmp_path)


def test_without_reports_the_card_quotes_the_logs_of_the_trainings(bundle_copy: Path) -> None:
    with pytest.raises(InputError, match=r"no training log; needed log\.jsonl of the denoiser"):
        write_model_card(bundle_copy)
    for part in load_bundle(bundle_copy).own_parts:
        log = bundle_copy / "training" / part / "log.jsonl"
        log.parent.mkdir(parents=True)
        lines = [{"step": step, "validation": {"psnr": 30 + step / 100}} for step in (25, 75, 100)]
        log.write_text("".join(json.dumps(line) + "\n" for line in [{"step": 5, "loss": 1.0}, *lines]))
    write_model_card(bundle_copy)
    assert "| denoiser | psnr | 30.750 (step 75) | 31.000 |" in (bundle_copy / "docs" / "README.md").read_text()
