"""The guards' benchmark: its cases, its arithmetic and its promises, on small phantoms and an untrained bundle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from srh_clinic.bundles import Bundle, load_bundle, save_bundle, verify_bundle
from srh_clinic.case.provenance import guard_policy_of
from srh_clinic.errors import InputError
from srh_clinic.guards import GUARDS
from srh_clinic.restorers.networks import create_regressor
from srh_clinic.simulation.edits import CONTRASTS
from srh_clinic.trust import fewest_cases
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.methods import BASELINES, METHODS, WHOLE
from srh_clinic.validation.bench.protocol import Protocol, load_protocol
from srh_clinic.validation.benchmarks.guards import (
    CONTROL,
    FAITHFUL,
    LEAST_PATTERN,
    Case,
    Examiner,
    GuardPerformance,
    area_under_roc,
    calibrate_guards,
    guards,
    pattern_limit,
    policy_from,
    promised,
    run_guards,
)

QUIET = dict.fromkeys(GUARDS, 0.1)


def cases(protocol: Protocol, *, shift: float = 0.0) -> list[Case]:
    """Of every phantom a faithful restoration and its edits, whose guard ``nucleus`` answers more the stronger the edit is."""
    made = []
    for index in range(protocol.phantoms.count):
        rng = np.random.default_rng(protocol.seed(index))
        made.append(Case(index, FAITHFUL, {**QUIET, "nucleus": abs(rng.normal())}, 10 + index % 3))
        for strength, contrast in enumerate(CONTRASTS):
            for what in ("planted", "erased"):
                scores = {**QUIET, "nucleus": 3 * (strength + 1) + shift + rng.normal()}
                made.append(Case(index, f"{what} {contrast}", scores, 10))
    return made


@pytest.fixture
def protocol(small_protocol: Path, tmp_path: Path) -> Protocol:
    entries = yaml.safe_load(small_protocol.read_text())
    entries["phantoms"]["count"] = 360
    entries["tables"]["count"] = 360
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(entries))
    return load_protocol(path)


def test_the_area_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    negative, positive = rng.normal(size=80).round(1), (rng.normal(size=60) + 1).round(1)  # rounded: with ties
    area = area_under_roc(negative, positive)
    truth = np.repeat([0, 1], [80, 60])
    assert area.value == pytest.approx(roc_auc_score(truth, np.concatenate([negative, positive])))
    assert area.low < area.value < area.high
    assert area_under_roc(negative, negative + 100).value == 1


def test_one_edit_a_phantom_at_the_usual_contrast_is_promised(protocol: Protocol) -> None:
    chosen = promised(cases(protocol), protocol)
    assert [case.index for case in chosen] == list(range(360))
    planted = sum(case.group == "planted usual" for case in chosen)
    assert planted + sum(case.group == "erased usual" for case in chosen) == 360
    assert 150 < planted < 210  # a fair coin: five standard deviations are 47
    without = [case for case in cases(protocol) if not (case.index == 3 and case.group == "erased usual")]
    assert next(case for case in promised(without, protocol) if case.index == 3).group == "planted usual"


def test_promises_hold_on_other_phantoms_and_not_when_everything_is_fainter(protocol: Protocol) -> None:
    calibration = cases(protocol.for_calibration)
    policy = policy_from(calibration, protocol.for_calibration, "0" * 64)
    assert policy.steps == (10, 12)
    assert policy.calibration["tiles with one edit"] == 720
    rows = {
        row["asked"]: row["met"] for row in GuardPerformance(cases(protocol), calibration, policy, protocol).tables()[0].rows
    }
    assert rows["promised miss rate 0.1: held within its binomial interval"]
    assert rows["promised miss rate 0.05: held within its binomial interval"]
    fainter = GuardPerformance(cases(protocol, shift=-4.0), calibration, policy, protocol)
    asked = {row["asked"]: row["met"] for row in fainter.tables()[0].rows}
    assert not asked["promised miss rate 0.05: held within its binomial interval"]
    assert not asked["planted usual: area at least 0.95"]


def test_every_phantom_is_examined_as_restored_and_edited_and_a_cut_run_goes_on(bench: Bench) -> None:
    told: list[int] = []
    first = Examiner(bench).cases()
    groups = {case.group for case in first}
    assert {"planted faint", "planted usual", "planted strong"} <= groups
    assert groups & {"faithful", "wrong"}
    assert all(set(case.scores) >= {"added", "removed", "steps_left"} for case in first)
    again = Examiner(Bench(**{**vars(bench), "report": lambda *_: told.append(1)})).cases()
    assert again == first
    assert told == []


def test_a_limit_for_patterns_is_read_beside_the_frequencies_of_a_grid() -> None:
    controls = np.linspace(1, 3, 399)
    # The 398th of 399: (399 + 1) 0.995.
    assert pattern_limit(controls) == controls[397]
    assert pattern_limit(controls[:50]) == LEAST_PATTERN  # never below what can be seen
    assert pattern_limit([5.0, 1.0]) == 5.0


def test_weights_that_leave_a_pattern_everywhere_do_not_talk_their_limit_up(protocol: Protocol) -> None:
    loud = {"lattice": 30.0, CONTROL: 1.5}

    def patterned(found: list[Case]) -> list[Case]:
        return [replace(case, scores={**case.scores, **loud}) for case in found]

    made = patterned(cases(protocol.for_calibration))
    policy = policy_from(made, protocol.for_calibration, "0" * 64)
    quiet = policy_from(cases(protocol.for_calibration), protocol.for_calibration, "0" * 64)
    assert policy.limits == {**quiet.limits, "lattice": LEAST_PATTERN}
    assert policy.scales == quiet.scales  # and the promises of the others are as they were
    assert policy.promises == quiet.promises
    performance = GuardPerformance(patterned(cases(protocol)), made, policy, protocol)
    flagged = {row["group"]: row["flagged_0.1"].value for row in performance.tables()[1].rows}
    assert flagged[FAITHFUL] == 1


def test_a_calibration_examines_no_more_edits_than_its_promises_are_made_of(bench: Bench) -> None:
    every, sparing = Examiner(bench).cases(), Examiner(bench, sparing=True).cases()
    assert promised(sparing, bench.protocol) == promised(every, bench.protocol)
    assert policy_inputs(sparing) == policy_inputs(every)
    assert len(sparing) <= 2 * len(bench.indices) < len(every)


def policy_inputs(found: list[Case]) -> list[Case]:
    return [case for case in found if case.group in (FAITHFUL, "wrong")]


def test_calibration_writes_thresholds_that_hold_for_these_weights(
    bundle: Bundle, small_protocol: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    entries = yaml.safe_load(small_protocol.read_text())
    entries["guards"] |= {"calibration": {"count": 24, "first_seed": 8_300_000}, "alphas": [0.3]}
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(entries))
    assert fewest_cases(0.3) <= 12
    before = load_bundle(copy)
    calibrated = calibrate_guards(copy, tmp_path / "work", device="cpu", protocol=path)
    policy = guard_policy_of(calibrated)
    assert policy is not None
    assert [promise.alpha for promise in policy.promises] == [0.3]
    assert calibrated.weights_sha256 == before.weights_sha256 == policy.calibration["weights_sha256"]
    assert (copy / "docs" / "README.md").read_text() == (bundle.path / "docs" / "README.md").read_text()
    assert verify_bundle(copy)
    assert policy.limits["lattice"] >= LEAST_PATTERN
    assert guard_policy_of(before) is None


def test_the_report_is_made_from_end_to_end(bundle: Bundle, small_protocol: Path, tmp_path: Path) -> None:
    """Untrained networks, so nothing about their figures; that every table and the picture are there."""
    entries = yaml.safe_load(small_protocol.read_text())
    entries["guards"] |= {"calibration": {"count": 36, "first_seed": 8_300_000}, "alphas": [0.3], "overlong_steps": 3}
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(entries))
    copy = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    calibrate_guards(copy, tmp_path / "work", device="cpu", protocol=path)
    generator = {"architecture": "overlap-resnet-generator", "width": 4, "blocks": 1}
    save_bundle(tmp_path / "weights" / BASELINES, {"cyclegan": (generator, create_regressor(generator).state_dict())})
    out = tmp_path / "out"
    report = run_guards(out, bundle=copy, weights=tmp_path / "weights", device="cpu", protocol=path)
    assert {file.name for file in out.iterdir()} >= {"guards.md", "guards.json", "guards.html"}
    assert len(list(out.glob("guards-*.csv"))) == len(report.tables)
    assert (out / "figures" / "guards_roc.png").is_file()
    groups = [row["group"] for row in report.tables[1].rows]
    assert {"planted usual", "faithful"} <= set(groups)
    assert any(group.startswith("cyclegan") for group in groups)
    assert {row["judged"] for row in report.tables[4].rows} == {"mild", "moderate", "severe"}


def test_a_bundle_without_thresholds_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="no thresholds for the guards; needed those that srh-clinic bundle calibrate writes"):
        guards(bench)
    assert METHODS[WHOLE].name == "rscd_direct"
