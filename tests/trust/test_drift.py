"""Cases that are unlike those of a validation."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binom

from srh_clinic.errors import InputError
from srh_clinic.trust import drift
from srh_clinic.trust.drift import (
    CaseProfile,
    DriftReference,
    TooFewPatientsError,
    case_profile,
    fit_reference,
    load_reference,
    one_per_patient,
    patients_needed,
    stated_profile,
)

MADE_WITH = {"weights_sha256": "ab"}
DIMENSIONS = 24
MIXING = np.random.default_rng(1).normal(size=(4, DIMENSIONS))


def profiles(rng, count, gain=1.0, steps=1.0, moved=0.0, tail=3):
    """Cases of one instrument whose differences have tails of Student's t; the three quantities hang together."""
    made = []
    for quality in rng.standard_t(tail, count):
        bright = gain * np.exp(0.3 * rng.standard_t(tail, 2) + 0.1 * quality)
        channels = bright[:, None] * np.sort(rng.gamma(8.0, 1500.0, (2, 5)), axis=1)
        asked = steps * 40 * np.exp(0.3 * quality) * np.sort(rng.uniform(0.8, 2.0, 2))
        seen = (rng.standard_t(tail, 4) + quality) @ MIXING + rng.normal(0, 0.1, DIMENSIONS) + moved
        made.append(CaseProfile(tuple(map(tuple, channels.tolist())), tuple(asked.tolist()), tuple(seen.tolist())))
    return made


def reference_of(cases, level=0.05, **more):
    return fit_reference(cases, [str(number) for number in range(len(cases))], made_with=MADE_WITH, level=level, **more)


@pytest.fixture(scope="module")
def reference():
    return reference_of(profiles(np.random.default_rng(2), 99, tail=10), level=0.01)


def test_exchangeable_cases_are_flagged_at_just_the_promised_rate():
    rng, runs, flagged = np.random.default_rng(3), 400, 0
    for _ in range(runs):
        *others, new = profiles(rng, 20)
        fitted = reference_of(others)
        flagged += bool(fitted.flags(fitted.check(new)))
    # Distances have no ties, so the farthest of 20 exchangeable cases is the new one in exactly 1 of 20.
    low, high = binom.interval(0.9999, runs, 1 / 20)
    assert low <= flagged <= high


def test_a_p_value_of_one_look_is_uniform_on_its_ranks():
    rng, runs, ranks = np.random.default_rng(4), 300, []
    for _ in range(runs):
        *others, new = profiles(rng, 5)
        fitted = DriftReference.model_validate(
            {
                "level": 0.5,
                "made_with": {},
                "left_out": 0,
                "intensity": [],
                "embedding": [],
                "steps": [case.steps for case in others],
            }
        )
        ranks.append(round(5 * fitted.check(new)[0].p))
    low, high = binom.interval(0.9999, runs, 1 / 5)
    assert all(low <= ranks.count(rank) <= high for rank in range(1, 6))


def test_distances_are_those_from_a_fit_without_the_case():
    values = np.random.default_rng(5).normal(size=(30, 1)) * 3 + 7
    # In one dimension nothing is shrunk, and the distance has a closed form.
    expected = [abs(x - (rest := np.delete(values, i)).mean()) / rest.std() for i, x in enumerate(values[:, 0])]
    assert np.allclose(drift._leave_one_out(values), expected, rtol=1e-12)


def test_distances_without_shrinkage_are_mahalanobis(monkeypatch):
    monkeypatch.setattr("sklearn.covariance.ledoit_wolf_shrinkage", lambda values, assume_centered: 0.0)
    values = np.random.default_rng(6).normal(size=(30, 4)) @ np.random.default_rng(7).normal(size=(4, 4))
    for i, distance in enumerate(drift._leave_one_out(values)):
        rest = np.delete(values, i, axis=0)
        v = values[i] - rest.mean(axis=0)
        assert distance == pytest.approx(np.sqrt(v @ np.linalg.solve(np.cov(rest.T, bias=True), v)), rel=1e-9)


@pytest.mark.parametrize(
    ("shift", "name", "words"),
    [
        ({"gain": 12.0}, "intensity", "brightness of CH"),
        ({"steps": 40.0}, "steps", "steps asked for"),
        ({"moved": 8.0 * np.sign(MIXING[0])}, "embedding", "what the classifier sees"),
    ],
)
def test_a_shifted_scanner_is_flagged_by_what_it_shifts(reference, shift, name, words):
    hits = []
    for case in profiles(np.random.default_rng(8), 20, tail=10, **shift):
        drifts = reference.check(case)
        assert [one.name for one in drifts] == ["intensity", "steps", "embedding"]
        strange = [one.name for one in reference.unlike(drifts)]
        flags = reference.flags(drifts)
        assert len(flags) == len(strange)
        assert all(flag.startswith("drift: ") for flag in flags)
        assert any(words in flag for flag in flags) == (name in strange)
        hits += strange
    # Of cases like the validation's 1 in 100 would be flagged: more than 2 of 20 by chance in 1 of 1,000 such tests.
    assert hits.count(name) >= 18
    assert len(hits) - hits.count(name) <= 2


def test_a_shift_in_a_direction_in_which_the_validation_hardly_varies_is_flagged(reference):
    normal = np.linalg.svd(MIXING)[2][-1]
    case = profiles(np.random.default_rng(9), 1, moved=3.0 * normal)[0]
    assert [one.name for one in reference.unlike(reference.check(case))] == ["embedding"]


def test_the_brighter_channel_is_named(reference):
    case = profiles(np.random.default_rng(10), 1)[0]
    ch2, ch3 = case.intensity
    bright = CaseProfile((ch2, tuple(30 * count for count in ch3)), case.steps, case.embedding)
    (flag,) = reference.flags(reference.check(bright))
    middle = np.median(np.array(reference.intensity)[:, 7])
    assert flag == (
        "drift: brightness of CH3 unlike that of the 99 validation patients: "
        f"median {30 * ch3[2]:,.0f} counts against {middle:,.0f} (p = 0.01)"
    )


def test_a_case_of_the_reference_is_no_stranger_than_its_rank(reference):
    again = CaseProfile((reference.intensity[0][:5], reference.intensity[0][5:]), reference.steps[0], reference.embedding[0])
    assert all(one.p >= 2 / 100 for one in reference.check(again))  # its twin lies as far
    assert reference.flags(reference.check(again)) == ()


def test_few_patients_are_refused_with_the_number_needed(reference):
    assert [patients_needed(level) for level in (0.01, 0.05, 0.3)] == [99, 19, 3]
    few = profiles(np.random.default_rng(11), 18)
    with pytest.raises(TooFewPatientsError, match=r"18 validation patients; needed 19 or more .* 0\.053 or more"):
        reference_of(few)
    with pytest.raises(TooFewPatientsError, match="found 0 validation patients"):
        reference_of([])
    with pytest.raises(TooFewPatientsError, match="needed 999"):
        reference.flags((), level=0.001)
    assert (reference.patients, reference.fewest_cases, 1 / (reference.patients + 1)) == (99, 99, 0.01)


def test_each_patient_enters_with_one_case_by_lot():
    patients = ["a"] * 50 + ["b", "c", "b"]
    places = [one_per_patient(patients, seed) for seed in range(200)]
    assert all(a < 50 and b in (50, 52) and c == 51 for a, b, c in places)
    assert len({a for a, _, _ in places}) > 40
    assert {b for _, b, _ in places} == {50, 52}
    cases = profiles(np.random.default_rng(12), 60)
    fitted = fit_reference(cases, [str(number % 20) for number in range(60)], made_with={}, level=0.05)
    assert fitted.patients == 20
    assert set(fitted.steps) <= {case.steps for case in cases}


def test_cases_without_tissue_are_left_out_and_counted():
    bare = CaseProfile(None, None, None)
    fitted = reference_of([bare, *profiles(np.random.default_rng(13), 19), bare])
    assert (fitted.patients, fitted.left_out) == (19, 2)
    assert fitted.check(bare) == ()
    assert fitted.flags(()) == (
        "drift-unchecked: the case has no intensity and no steps and no embedding to compare with the validation",
    )


def test_a_quantity_that_no_case_has_is_not_compared():
    cases = [CaseProfile(case.intensity, None, case.embedding) for case in profiles(np.random.default_rng(14), 20)]
    fitted = reference_of(cases[1:])
    assert fitted.quantities == ("intensity", "embedding")
    assert [one.name for one in fitted.check(cases[0])] == ["intensity", "embedding"]


def test_steps_that_are_all_the_same_tell_nothing_apart():
    cases = [CaseProfile(case.intensity, (5.0, 5.0), case.embedding) for case in profiles(np.random.default_rng(15), 20)]
    fitted = reference_of(cases[1:])
    assert {one.name: one.p for one in fitted.check(cases[0])}["steps"] == 1
    other = CaseProfile(cases[0].intensity, (6.0, 6.0), cases[0].embedding)
    assert [one.name for one in fitted.unlike(fitted.check(other))] == ["steps"]


def test_a_reference_survives_its_file(reference, tmp_path):
    path = reference.write(tmp_path / "new" / "reference.json")
    again = load_reference(path)
    assert again == reference
    case = profiles(np.random.default_rng(16), 1)[0]
    assert again.check(case) == reference.check(case)
    assert [file.name for file in path.parent.iterdir()] == ["reference.json"]
    with pytest.raises(InputError, match="room and permission"):
        reference.write(path / "below-a-file.json")


def changed(reference, **fields):
    return json.dumps({**reference.model_dump(mode="json"), **fields})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda reference: "no json", "a file that is not valid JSON"),
        (lambda reference: "[1]", "drift reference"),
        (lambda reference: "{}", "level"),
        (lambda reference: changed(reference, format="srh-clinic drift reference 0"), "format"),
        (lambda reference: changed(reference, more=1), "more"),
        (lambda reference: changed(reference, level=0.001), "needed 999"),
        (lambda reference: changed(reference, steps=[[1.0, 2.0]]), "different numbers of cases"),
        (lambda reference: changed(reference, embedding=[[1.0]] * 98 + [[1.0, 2.0]]), "different lengths in embedding"),
        (lambda reference: changed(reference, intensity=[[1.0]] * 99), "1 quantiles instead of 10"),
        (lambda reference: changed(reference, steps=[[1.0, float("nan")]] * 99), r"steps\.0\.1"),
        (lambda reference: changed(reference, intensity=[], steps=[], embedding=[]), "or none"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_that_names_it(reference, tmp_path, content, said):
    path = tmp_path / "reference.json"
    path.write_text(content(reference))
    with pytest.raises(InputError, match=said) as caught:
        load_reference(path)
    assert str(caught.value).startswith(f"{path}: found ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_reference(tmp_path / "none.json")


def test_a_reference_made_with_other_weights_is_refused(reference):
    reference.require({"weights_sha256": "ab", "more": "x"})
    with pytest.raises(InputError, match="weights_sha256 ab; needed one made with cd"):
        reference.require({"weights_sha256": "cd"})
    short = CaseProfile(None, None, (1.0,))
    with pytest.raises(InputError, match="1 values of embedding; needed 24"):
        reference.check(short)


def test_a_profile_holds_the_quantiles_of_the_tissue():
    rng = np.random.default_rng(17)
    picture = rng.integers(0, 60000, (2, 40, 50)).astype(np.uint16)
    mask = np.zeros((40, 50), dtype=bool)
    mask[5:20, 10:40] = True
    embeddings = rng.normal(size=(7, 3))
    profile = case_profile(picture, mask, np.arange(11), embeddings)
    expected = [np.quantile(channel[5:20, 10:40], [0.05, 0.25, 0.5, 0.75, 0.95]) for channel in picture]
    assert np.array_equal(profile.intensity, expected)
    assert profile.steps == (5.0, 9.0)
    assert np.array_equal(profile.embedding, embeddings.mean(axis=0))
    assert stated_profile(json.loads(json.dumps(asdict(profile)))) == profile
    nothing = case_profile(picture, ~np.ones_like(mask), np.empty(0), np.empty((0, 3)))
    assert nothing == CaseProfile(None, None, None)
    with pytest.raises(ValueError, match=r"needed \(2, h, w\)"):
        case_profile(picture, mask[1:], np.arange(11), embeddings)
    with pytest.raises(InputError, match="steps"):
        stated_profile({"intensity": None, "steps": ["few"], "embedding": None})
