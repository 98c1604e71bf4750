"""Commands on bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

from calling import Run, left_behind

from srh_clinic.bundles import annotate_bundle, load_bundle
from srh_clinic.errors import ExitCode


def test_what_a_bundle_promises_is_shown_and_what_it_does_not_is_refused(
    run: Run, call_of_case: tuple[object, ...], wary_bundle: Path, tiny_bundle: Path
) -> None:
    assert "at most 5% of tiles with something wrong go unflagged" in run("bundle", "show", wary_bundle).out
    assert "no thresholds for these weights" in run("bundle", "show", tiny_bundle).out
    refused = run("diagnose", *call_of_case, "--restorer", "median", "--conservative")
    assert refused.code == ExitCode.INPUT
    assert "found a bundle without thresholds for its guards; needed" in refused.err.replace("\n", " ")


def test_a_training_is_given_no_time_that_never_ends(run: Run, tmp_path: Path) -> None:
    for seconds in ("nan", "-1"):
        refused = run("train", "denoiser", "--out", tmp_path / "made", "--seconds", seconds)
        assert refused.code == ExitCode.INPUT
        assert "--seconds" in refused.err
    assert left_behind(tmp_path) == []


def test_the_training_of_both_networks_refuses_what_it_does_not_read(run: Run, tmp_path: Path) -> None:
    for given in (("--steps", "5"), ("--learning-rate", "0.1"), ("--judge",), ("--um-per-px", "0.3"), ("--config", "x")):
        refused = run("train", "rscd", "--data", tmp_path, "--out", tmp_path / "made", *given)
        assert refused.code == ExitCode.INPUT
        assert f"found rscd with {given[0]}; needed denoiser or calibrator" in " ".join(refused.err.split())
    assert left_behind(tmp_path) == []


def test_bundles_are_listed_shown_and_verified(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    assert run("bundle", "list").code == ExitCode.DONE
    shown = run("bundle", "show", tiny_bundle)
    assert "research use only" in shown.out
    verified = run("bundle", "verify", tiny_bundle)
    assert verified.code == ExitCode.DONE
    assert "tiny: complete, with denoiser, calibrator, classifier" in verified.out


def test_a_damaged_bundle_is_refused(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = damaged / "models" / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    ran = run("bundle", "verify", damaged)
    assert ran.code == ExitCode.INPUT
    assert "classifier.safetensors" in ran.err


def test_a_card_that_was_edited_by_hand_is_found_and_told(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    edited = Path(shutil.copytree(tiny_bundle, tmp_path / "edited"))
    card = load_bundle(edited).model_card
    annotate_bundle(load_bundle(edited), model_card=card.replace("| Version | ", "| Version | 9"))
    ran = run("bundle", "verify", edited)
    assert ran.code == ExitCode.INPUT
    assert "card: bundle: Version: says 9" in ran.out
    assert "README.md: found a model card that says bundle: Version: 9" in " ".join(ran.err.split())
