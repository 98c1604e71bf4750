"""Policies of when to use the restored diagnosis: the rule, its choice, its bound, its file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from srh_clinic import trust
from srh_clinic.diagnosis import USES
from srh_clinic.errors import InputError
from srh_clinic.trust import ALWAYS, NEVER, SelectivePolicy, choose_policy, load_policy
from srh_clinic.trust.selective_policy import Bound, Observations, bounded_rate, candidates, halves

POLICY = SelectivePolicy(
    p_restored=0.8, p_agreeing=0.6, p_contradicted=0.95, p_original=0.9, trust_limit=1.5, steps_limit=100, agreement_limit=0.75
)
QUIET: dict[str, Any] = {"trust": 0.5, "steps": 20, "agreement": 1.0}
NONE = ("nondiagnostic", 0.7)


def decided(restored: tuple[str, float], original: tuple[str, float], **measured: Any) -> tuple[str, str]:
    found = POLICY.decide(restored, original, **{**QUIET, **measured})
    return found.use, found.said


@pytest.mark.parametrize(
    ("restored", "original", "use", "said"),
    [
        (("tumor", 0.80), NONE, "restored", "tumor"),
        (("tumor", 0.79), NONE, "original", "nondiagnostic"),
        (("tumor", 0.60), ("tumor", 0.5), "restored", "tumor"),
        (("tumor", 0.59), ("tumor", 0.5), "nondiagnostic", "nondiagnostic"),
        (("tumor", 0.59), ("tumor", 0.9), "original", "tumor"),
        (("tumor", 0.95), ("normal", 0.99), "restored", "tumor"),
        (("tumor", 0.94), ("normal", 0.90), "original", "normal"),
        (("tumor", 0.94), ("normal", 0.89), "nondiagnostic", "nondiagnostic"),
        (NONE, ("normal", 0.90), "original", "normal"),
        (NONE, ("normal", 0.89), "restored", "nondiagnostic"),
        (NONE, NONE, "restored", "nondiagnostic"),
    ],
)
def test_the_demand_rises_as_the_original_speaks_against(
    restored: tuple[str, float], original: tuple[str, float], use: str, said: str
) -> None:
    assert decided(restored, original) == (use, said)


@pytest.mark.parametrize(("name", "at", "beyond"), [("trust", 1.5, 1.51), ("steps", 100, 101), ("agreement", 0.75, 0.7)])
def test_a_limit_is_kept_up_to_itself_and_what_nobody_measured_does_not_pass(name: str, at: float, beyond: float) -> None:
    assert decided(("tumor", 0.99), NONE, **{name: at}) == ("restored", "tumor")
    for fails in (beyond, None):
        assert decided(("tumor", 0.99), NONE, **{name: fails}) == ("original", "nondiagnostic")
        assert decided(("tumor", 0.99), ("normal", 0.5), **{name: fails}) == ("nondiagnostic", "nondiagnostic")


def test_what_the_scan_itself_shows_was_not_invented() -> None:
    assert decided(("tumor", 0.7), ("tumor", 0.5), trust=9, steps=None, agreement=0) == ("restored", "tumor")


@pytest.mark.parametrize("restored", [("tumor", 0.51), ("normal", 0.99), NONE])
@pytest.mark.parametrize("original", [("tumor", 0.99), ("normal", 0.51), NONE])
def test_always_and_never_are_policies(restored: tuple[str, float], original: tuple[str, float]) -> None:
    always, never = ALWAYS.decide(restored, original, trust=99), NEVER.decide(restored, original)
    assert (always.use, always.said) == ("restored", restored[0])
    assert (never.use, never.said) == ("original", original[0])


def test_the_reason_names_what_spoke_against() -> None:
    assert POLICY.decide(("tumor", 0.99), NONE, trust=2, steps=20, agreement=0).why == (
        "the restored class is not used: the guards speak against it and further restorations do not agree; "
        "the original is non-diagnostic"
    )
    assert POLICY.decide(("tumor", 0.9), ("normal", 0.6), **QUIET).why == (
        "the restored class is not sure enough (p = 0.90), as the original says normal; nor is the original's (p = 0.60)"
    )
    assert "from a probability of 0.95 where it contradicts, with guards up to 1.5 and" in POLICY.in_words()


def random_observations(count: int, seed: int) -> Observations:
    rng = np.random.default_rng(seed)
    restored, original = (rng.choice(["tumor", "normal", "nondiagnostic"], count) for _ in range(2))
    p_restored, p_original = rng.uniform(0.5, 1, (2, count))
    return Observations(
        restored, p_restored, original, p_original, rng.uniform(0, 3, count), rng.uniform(0, 200, count), rng.random(count)
    )


def test_better_evidence_never_takes_the_restored_class_away() -> None:
    before = random_observations(2_000, 0)
    diagnostic = before.restored != "nondiagnostic"
    used = (POLICY.uses(before) == USES.index("restored")) & diagnostic
    assert 0.1 < used.mean() < 0.9
    for better in (
        replace(before, p_restored=np.minimum(before.p_restored + 0.1, 1)),
        replace(before, trust=before.trust * 0.5),
        replace(before, steps=before.steps * 0.5),
        replace(before, agreement=np.minimum(before.agreement + 0.3, 1)),
    ):
        now = (POLICY.uses(better) == USES.index("restored")) & diagnostic
        assert now[used].all()
        assert now.sum() > used.sum()


def test_a_policy_whose_demands_fall_as_the_original_contradicts_is_refused() -> None:
    for agreeing, restored, contradicted in ((0.9, 0.8, 0.95), (0.5, 0.8, 0.7), (0.5, None, 0.7), (None, 0.8, 0.9)):
        with pytest.raises(ValidationError, match="do not fall"):
            SelectivePolicy(p_agreeing=agreeing, p_restored=restored, p_contradicted=contradicted, p_original=None)


def test_a_policy_survives_its_file(tmp_path: Path) -> None:
    policy = POLICY.model_copy(
        update={
            "bound": Bound(rate=0.1, upper=0.2, patients=30, confidence=0.95),
            "calibration": {"cases": 90, "level": "slide"},
        }
    )
    path = tmp_path / "policy.json"
    for one in (policy, ALWAYS, NEVER):
        path.write_text(one.model_dump_json())
        assert load_policy(path) == one


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "found a file that is not valid JSON; needed a selective policy"),
        ("[]", "Input should be"),
        (json.dumps({**ALWAYS.model_dump(), "p_restored": 1.5}), "found p_restored: Input should be less than or equal to 1;"),
        (json.dumps({**ALWAYS.model_dump(), "mood": 1}), "found mood: Extra inputs are not permitted;"),
        (
            json.dumps({**ALWAYS.model_dump(), "p_contradicted": None, "p_agreeing": 0.5}),
            "found p_agreeing 0.5, p_restored 0.0",
        ),
        ("\xff", "found a file that is not text"),
        (None, "found no such file or directory"),
    ],
)
def test_a_bad_file_gets_one_sentence(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        load_policy(path)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.startswith(str(path))
    assert sentence.count("; needed") == 1
    assert "\n" not in sentence


def test_without_a_wrong_diagnosis_the_bound_is_the_exact_binomial_one() -> None:
    for n in (1, 16, 59):
        assert bounded_rate(np.zeros(n)).upper == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-9)
    assert bounded_rate(np.zeros(59)).upper < 0.05 < bounded_rate(np.zeros(58)).upper
    assert bounded_rate([1.0, 1.0]) == Bound(rate=1, upper=1, patients=2, confidence=0.95)


def test_the_bound_is_where_the_p_value_is_delta() -> None:
    rates = np.array([1, 0, 0.5, 0, 0, 0, 0.25, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.25])
    bound = bounded_rate(rates, 0.9)
    assert bound.rate == pytest.approx(0.12)
    # Both halves of the p-value in their closed forms, the binomial one as an exact sum; three patients' worth is wrong.
    a = Fraction(bound.upper)
    tail = np.e * float(sum(comb(25, k) * a**k * (1 - a) ** (25 - k) for k in range(4)))
    up = bound.upper
    hoeffding = (up / 0.12) ** (25 * 0.12) * ((1 - up) / 0.88) ** (25 * 0.88)
    assert min(tail, hoeffding) == pytest.approx(0.1, abs=1e-6)


def test_the_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    # Patients with three slides of one fate each: as dependent as can be, mean 0.2.
    below = [bounded_rate(rng.random(40) < 0.2).upper < 0.2 for _ in range(400)]
    assert np.mean(below) <= 0.05
    assert bounded_rate(rng.random(4_000) < 0.2).upper < 0.23  # and says something


def test_bad_rates_are_refused() -> None:
    for rates in ([], [1.5], [np.nan], [[0.1]]):
        with pytest.raises(InputError, match="a rate from 0 to 1 for each of one or more patients"):
            bounded_rate(rates)
    with pytest.raises(InputError, match="confidence of 1"):
        bounded_rate([0.1], 1)


def inventive(patients: int, seed: int = 0) -> tuple[Observations, list[str], list[str]]:
    """Two slides a patient; every third patient's restoration invents, which the guards tell; else it is right."""
    rng = np.random.default_rng(seed)
    count = 2 * patients
    owner = np.arange(count) // 2
    invents = owner % 3 == 0
    truth = np.where(invents, "nondiagnostic", np.where(owner % 3 == 1, "tumor", "normal"))
    observations = Observations(
        restored=np.where(invents, "tumor", truth),
        p_restored=rng.uniform(0.9, 1, count),
        original=np.full(count, "nondiagnostic"),
        p_original=np.full(count, 0.8),
        trust=np.where(invents, rng.uniform(2, 3, count), rng.uniform(0, 1, count)),
        steps=np.full(count, 50.0),
        agreement=np.full(count, np.nan),
    )
    return observations, truth.tolist(), [f"P{number}" for number in owner]


def test_the_choice_finds_what_tells_inventions_and_is_bounded_by_other_patients() -> None:
    observations, truth, patients = inventive(60)
    policy = choose_policy(observations, truth, patients, seed=4, calibration={"weights_sha256": "0" * 64})
    assert policy.trust_limit is not None
    assert policy.calibration["choosing_wrong"] == 0
    assert policy.calibration["choosing_correct"] == 1
    assert policy.calibration["weights_sha256"] == "0" * 64
    choosing = halves(patients, 4)
    assert choosing.sum() == 60
    others = observations.take(~choosing)
    assert policy.bound is not None
    assert policy.bound.patients == 30
    # A limit between the two kinds leaves nothing wrong, so that the bound is the closed form.
    said = policy.said(others)
    wrong = (said != np.array(truth)[~choosing]) & (said != "nondiagnostic")
    assert policy.bound.rate == pytest.approx(wrong.reshape(-1, 2).mean(axis=1).mean())
    assert policy.bound == bounded_rate(wrong.reshape(-1, 2).mean(axis=1))


def test_the_patients_that_bound_have_no_part_in_the_choice() -> None:
    observations, truth, patients = inventive(60)
    choosing = halves(patients, 4)
    other_truth = [one if ours else "normal" for one, ours in zip(truth, choosing, strict=True)]
    one, other = (choose_policy(observations, known, patients, seed=4) for known in (truth, other_truth))
    assert one.model_copy(update={"bound": None}) == other.model_copy(update={"bound": None})
    assert one.bound != other.bound


def test_where_nothing_is_gained_the_most_cautious_policy_that_costs_nothing_is_chosen() -> None:
    observations, _, patients = inventive(20)
    chosen = choose_policy(observations, observations.restored.tolist(), patients)
    # Restored classes of at least 0.903 are all right: a demand of 0.9 costs nothing, one of 0.95 would.
    least = observations.p_restored[halves(patients, 0)].min()
    assert 0.9 <= least < 0.95
    cautious = SelectivePolicy(p_restored=0.9, p_agreeing=0.9, p_contradicted=0.9, p_original=None)
    assert chosen.model_copy(update={"bound": None, "calibration": {}}) == cautious


def test_a_promised_rate_is_kept_or_refused() -> None:
    observations, truth, patients = inventive(240)
    policy = choose_policy(observations, truth, patients, alpha=0.05)
    assert policy.bound is not None
    assert policy.bound.upper <= 0.05
    assert policy.calibration["alpha"] == 0.05
    with pytest.raises(InputError, match=r"60 patients show a rate of wrong diagnoses of at most 0\.001; .*0\.049 or more"):
        choose_policy(*inventive(120), alpha=0.001)
    choosing = halves(patients, 0)
    lied = ["normal" if not ours else one for one, ours in zip(truth, choosing, strict=True)]
    with pytest.raises(InputError, match=r"wrong diagnoses may reach a rate of 0\.\d+ in the other half.*at most 0\.05"):
        choose_policy(observations, lied, patients, alpha=0.05)


def test_too_few_patients_and_uneven_columns_are_refused() -> None:
    observations, truth, patients = inventive(1)
    with pytest.raises(InputError, match="fewer than two calibration patients"):
        choose_policy(observations, truth, patients)
    with pytest.raises(ValueError, match="2 cases, 1 truths"):
        choose_policy(observations, truth[:1], patients)
    with pytest.raises(ValueError, match=r"trust \(1,\)"):
        replace(observations, trust=np.zeros(1))


def test_the_grid_begins_with_always_ends_with_never_and_has_nothing_twice() -> None:
    observations = random_observations(200, 1)
    grid = list(candidates(observations))
    assert (grid[0], grid[-1]) == (ALWAYS, NEVER)
    assert len({policy.model_dump_json() for policy in grid}) == len(grid)
    assert {policy.agreement_limit for policy in grid} == {None, 0.6, 1.0}
    unknown = replace(observations, agreement=np.where(np.arange(200) == 7, np.nan, observations.agreement))
    assert {policy.agreement_limit for policy in candidates(unknown)} == {None}


def test_patients_are_never_divided() -> None:
    patients = np.repeat([f"P{number}" for number in range(11)], 3)
    drawn = halves(patients, 5)
    assert drawn.reshape(11, 3).all(axis=1).sum() == 6 == (drawn.sum() / 3)  # round(5.5) is 6
    assert (drawn == halves(patients, 5)).all()
    assert (drawn != halves(patients, 6)).any()


def test_a_policy_is_loaded_and_asked_without_a_network_library(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(ALWAYS.model_dump_json())
    code = (
        "import sys\n"
        "from srh_clinic.trust import load_policy\n"
        f"assert load_policy({str(path)!r}).decide(('tumor', 0.9), ('normal', 0.6)).use == 'restored'\n"
        "slow = {'torch', 'monai', 'timm', 'pydicom', 'scipy', 'sklearn', 'skimage', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_face_tells_all_its_names_before_any_is_loaded() -> None:
    assert set(trust.__all__) <= set(dir(trust))


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000])
def test_a_policy_nested_too_deeply_or_of_endless_digits_is_no_json(tmp_path, content):
    (tmp_path / "policy.json").write_text(content)
    with pytest.raises(InputError, match="not valid JSON"):
        load_policy(tmp_path / "policy.json")
