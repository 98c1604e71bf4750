"""A model card is found out where it says what its bundle is not or does not do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from srh_clinic.bundles import Bundle, load_bundle, save_bundle
from srh_clinic.validation import check_card, run_benchmark
from srh_clinic.validation.benchmarks.card_check import _same_digits, claims_of
from srh_clinic.validation.benchmarks.model_card import write_model_card


@pytest.fixture(scope="module")
def carded(bundle: Bundle, small_protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose card quotes its own reports, which lie in the folder beside it."""
    folder = tmp_path_factory.mktemp("carded")
    made = Path(shutil.copytree(bundle.path, folder / "bundle"))
    run_benchmark(
        "protocol", folder / "work", only=["calibrator", "classifier"], bundle=made, protocol=small_protocol, device="cpu"
    )
    for part in ("calibrator", "classifier"):
        report = folder / "work" / f"{part}.json"
        content = json.loads(report.read_text())
        content["provenance"]["command"] = f"srh-clinic benchmark protocol {part} --out work"  # not that of the tests
        report.write_text(json.dumps(content))
    write_model_card(made, folder / "work")
    return made


def reworded(bundle: Path, old: str, new: str) -> None:
    """A card edited by hand; its sha256 is made to fit."""
    loaded = load_bundle(bundle)
    assert old in loaded.model_card
    parts = {part: (loaded.config(part), loaded.load_tensors(part)) for part in loaded.own_parts}
    kept = {key: value for key, value in loaded.metadata.items() if key != "sha256"}
    save_bundle(bundle, parts, kept, loaded.model_card.replace(old, new))


def test_a_true_card_agrees_on_all_phantoms_and_on_a_sample(carded: Path, small_protocol: Path) -> None:
    how = {"protocol": small_protocol, "device": "cpu"}
    whole = check_card(carded, full=True, work=carded.parent / "work", **how)  # type: ignore[arg-type]
    assert len([one for one in whole if one.where.startswith(("Step calibration", "Classification"))]) == 12
    assert [str(one) for one in whole if not one.agrees] == []
    sample = check_card(carded, phantoms=6, work=carded.parent / "work", **how)  # type: ignore[arg-type]
    assert [str(one) for one in sample if one.agrees is False] == []
    assert sum("of a sample" in one.found for one in sample) == 12
    nothing = check_card(carded, phantoms=0)
    assert {one.agrees for one in nothing} == {True, None}
    assert all("by --full, or srh-clinic benchmark" in one.found for one in nothing if one.agrees is None)


def test_a_number_that_was_edited_is_found(carded: Path, small_protocol: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(carded, tmp_path / "bundle"))
    claim = next(claims_of(load_bundle(copy).model_card))
    assert claim.part == "calibrator"
    reworded(copy, f"| {claim.asked} | {claim.said} |", f"| {claim.asked} | 0.01 steps |")
    for how in ({"full": True}, {"phantoms": 12}):
        found = check_card(copy, work=carded.parent / "work", protocol=small_protocol, device="cpu", **how)  # type: ignore[arg-type]
        assert [one.said for one in found if one.agrees is False] == ["0.01 steps"]
    reworded(copy, "| denoiser | `", "| denoiser | `of another kind ")
    assert [one.where for one in check_card(copy, phantoms=0) if one.agrees is False] == ["Networks: denoiser"]


def test_weights_that_were_changed_are_found_by_what_they_do(carded: Path, small_protocol: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(carded, tmp_path / "bundle"))
    loaded = load_bundle(copy)
    parts = {part: (loaded.config(part), loaded.load_tensors(part)) for part in loaded.own_parts}
    parts["calibrator"][1]["head.4.bias"] += 92  # steps
    kept = {key: value for key, value in loaded.metadata.items() if key != "sha256"}
    save_bundle(copy, parts, kept, loaded.model_card)
    found = check_card(copy, phantoms=12, work=tmp_path / "work", protocol=small_protocol, device="cpu")
    assert any(one.agrees is False and one.where.startswith("Step calibration") for one in found)


@pytest.mark.parametrize(
    ("said", "found", "same"),
    [
        ("4.02 steps", "4.04 steps", True),
        ("4.02 steps", "4.05 steps", False),
        ("99.7% of 360", "99.7% of 359", False),
        ("lowest end of an interval +0.1448 (mild)", "lowest end of an interval +0.1447 (mild)", True),
        ("lowest end of an interval +0.1448 (mild)", "lowest end of an interval +0.1448 (severe)", False),
    ],
)
def test_what_all_phantoms_tell_is_the_same_to_the_last_digits(said: str, found: str, same: bool) -> None:
    assert _same_digits(said, found) is same
