"""The model card quotes reports on its own weights, and only those."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.validation.model_card import write_model_card


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


def test_a_report_on_other_weights_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "reports", "0" * 64)
    with pytest.raises(InputError, match="a report on the weights 000"):
        write_model_card(bundle_copy, tmp_path / "reports")


def test_no_report_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report"):
        write_model_card(bundle_copy, tmp_path)
