"""The policy that a bundle carries: put in for its weights alone, used by default, and silent when the weights are others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from calling import Ran, Run

from srh_clinic.bundles import load_bundle, update_bundle
from srh_clinic.case.provenance import selective_policy_of
from srh_clinic.errors import ExitCode
from srh_clinic.trust import NEVER, SelectivePolicy


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundles" / "mine"))


def policy_of(bundle: Path, folder: Path, **changed: object) -> Path:
    """A policy of a validation with the filter ``median`` and a bundle, which always keeps the original."""
    calibration = {"weights_sha256": load_bundle(bundle).weights_sha256, "level": "slide", "restorer": "median", **changed}
    file = folder / "policy.json"
    file.write_text(NEVER.model_copy(update={"calibration": calibration}).model_dump_json())
    return file


@pytest.fixture
def diagnose(run: Run, call_of_case: tuple[object, ...], tiny_bundle: Path, bundle: Path) -> Run:
    of_case = tuple(bundle if part == tiny_bundle else part for part in call_of_case)

    def call(*options: object) -> Ran:
        return run("diagnose", *of_case, "--restorer", "median", *options)

    return call


def test_diagnose_decides_by_the_policy_of_the_bundle_and_says_so(
    run: Run, diagnose: Run, bundle: Path, tmp_path: Path
) -> None:
    assert json.loads(diagnose("--json").out)["decision"] is None
    put = run("bundle", "policy", bundle, policy_of(bundle, tmp_path))
    assert put.code == ExitCode.DONE
    assert "otherwise the original's is kept whatever its probability" in " ".join(put.out.split())
    shown = " ".join(run("bundle", "show", bundle).out.split())
    assert "policy: The restored class is used never" in shown
    assert run("bundle", "verify", bundle).code == ExitCode.DONE

    decision = json.loads(diagnose("--json").out)["decision"]
    assert decision["use"] == "original"
    assert decision["policy"] == "the policy that the bundle mine carries; --policy none leaves it out"
    said = " ".join(diagnose("--out", "out").out.replace("│", " ").split())
    assert "Policy the diagnosis of the original stands" in said
    assert "by the policy that the bundle mine carries; --policy none leaves it out" in said

    assert json.loads(diagnose("--json", "--policy", "none").out)["decision"] is None
    given = json.loads(diagnose("--json", "--policy", tmp_path / "policy.json").out)["decision"]
    assert given["policy"] == f"the policy {tmp_path / 'policy.json'}"

    assert "mine: no policy" in run("bundle", "policy", bundle, "none").out
    assert json.loads(diagnose("--json").out)["decision"] is None


def test_a_policy_of_other_weights_is_neither_put_in_nor_used(run: Run, diagnose: Run, bundle: Path, tmp_path: Path) -> None:
    other = run("bundle", "policy", bundle, policy_of(bundle, tmp_path, weights_sha256="1" * 64))
    assert other.code == ExitCode.INPUT
    assert "found a policy made with 111111111111; needed one of a validation with the weights" in " ".join(other.err.split())
    assert run("bundle", "policy", bundle, policy_of(bundle, tmp_path, level="patch")).code == ExitCode.INPUT
    assert selective_policy_of(load_bundle(bundle)) is None

    stale = NEVER.model_copy(update={"calibration": {"weights_sha256": "1" * 64, "restorer": "median"}})
    update_bundle(bundle, {}, {"policy": stale.model_dump(mode="json")})
    result = json.loads(diagnose("--json").out)
    assert result["decision"] is None
    (warning,) = [flag for flag in result["warnings"] if flag.startswith("policy")]
    other_than = f"was made with 111111111111, not {load_bundle(bundle).weights_sha256[:12]}, and decides nothing"
    assert warning == f"policy-of-other-weights: the policy that the bundle carries {other_than}"
    assert diagnose("--json", "--strict").code == ExitCode.FLAGGED
    assert "policy, not used, for it was made with other weights" in run("bundle", "show", bundle).out


def test_a_policy_of_a_bundle_decides_only_what_it_can(run: Run, diagnose: Run, bundle: Path, tmp_path: Path) -> None:
    run("bundle", "policy", bundle, policy_of(bundle, tmp_path, restorer="rscd"))
    result = json.loads(diagnose("--json").out)
    assert (result["decision"], [flag for flag in result["flags"] if "policy" in flag]) == (None, [])
    asking = NEVER.model_copy(
        update={
            "agreement_limit": 0.5,
            "calibration": {"weights_sha256": load_bundle(bundle).weights_sha256, "restorer": "median"},
        }
    )
    update_bundle(bundle, {}, {"policy": asking.model_dump(mode="json")})
    result = json.loads(diagnose("--json").out)
    assert result["decision"] is None
    assert any(note.startswith("policy-unused: the policy that the bundle carries asks whether") for note in result["notes"])
    update_bundle(bundle, {}, {"policy": {"p_restored": 2}})
    ran = diagnose("--json")
    assert ran.code == ExitCode.INPUT
    assert "found policy.p_" in ran.err.replace("\n", " ")


def test_the_policy_of_the_embedded_bundle_was_made_with_its_weights() -> None:
    loaded = load_bundle("phantom-demo")
    policy = selective_policy_of(loaded)
    assert isinstance(policy, SelectivePolicy)
    assert policy.calibration["weights_sha256"] == loaded.weights_sha256
    assert policy.bound is not None
