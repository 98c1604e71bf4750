import numpy as np
import pytest
from pydantic import ValidationError

from srh_clinic.errors import InputError
from srh_clinic.trust import GuardPolicy, Promise, calibrated_policy

POLICY = GuardPolicy(
    scales={"added": 5.0, "brightness": 0.1},
    promises=(Promise(alpha=0.1, threshold=1.5, confidence=0.95), Promise(alpha=0.05, threshold=1.2, confidence=0.95)),
    calibration={"tiles": 100},
    steps=(3, 120),
)


def test_strength_is_the_loudest_guard_in_its_own_scale():
    assert POLICY.strength({"added": 10.0, "brightness": 0.05}) == 2
    assert POLICY.strength({"added": 1.0, "brightness": 0.3}) == pytest.approx(3)
    assert POLICY.strength({"added": 1.0, "structure": 99.0}) == 0.2  # a guard without a scale has no say
    assert POLICY.strength({}) == 0


def test_reasons_are_the_guards_that_alone_would_flag():
    scores = {"added": 8.0, "brightness": 0.5}
    assert POLICY.reasons(scores, 1.5) == ("brightness", "added")
    assert POLICY.reasons(scores, 2.0) == ("brightness",)
    assert POLICY.reasons(scores, 9.0) == ()


def test_a_guard_with_a_limit_of_its_own_flags_from_there_on_and_has_no_part_in_the_promises():
    policy = POLICY.model_copy(update={"limits": {"lattice": 2.0}})
    assert policy.strength({"added": 1.0, "lattice": 50.0}) == 0.2
    assert policy.against({"added": 6.0, "lattice": 5.0}, 1.5) == {"lattice": 2.5, "added": pytest.approx(0.8)}
    assert list(policy.against({"added": 6.0, "lattice": 1.9}, 1.5)) == ["added"]  # below its limit it has no say
    assert policy.reasons({"added": 9.0, "lattice": 5.0}, 1.5) == ("lattice", "added")
    assert policy.reasons({"added": 9.0, "lattice": 1.9}, 1.5) == ("added",)
    assert GuardPolicy.model_validate_json(policy.model_dump_json()) == policy
    assert POLICY.limits == {}  # of a bundle that was calibrated before there was such a guard
    for wrong, said in (({"lattice": 0.0}, "limit of 0"), ({"added": 1.0}, "a scale and a limit for added")):
        with pytest.raises(ValidationError, match=said):
            GuardPolicy(**POLICY.model_dump() | {"limits": wrong})


def test_a_limit_given_to_a_calibration_keeps_its_guard_out_of_the_scales():
    tiles = [{"added": float(i), "lattice": 100.0} for i in range(100)]
    policy = calibrated_policy(tiles, tiles, [0.1], steps=(0, 9), calibration={}, limits={"lattice": 2.0})
    assert list(policy.scales) == ["added"]
    assert policy.limits == {"lattice": 2.0}


def test_only_promises_that_were_made_are_kept():
    assert POLICY.promise() == POLICY.promise(0.1) == Promise(alpha=0.1, threshold=1.5, confidence=0.95)
    assert POLICY.promise(0.05).threshold == 1.2
    with pytest.raises(InputError, match=r"0\.01.*0\.1, 0\.05"):
        POLICY.promise(0.01)


def test_a_calibrated_policy_keeps_its_promise_and_flags_few_faithful_tiles():
    rng = np.random.default_rng(0)

    def tiles(count, shift):
        return [{"added": 4 + shift + a, "removed": abs(b)} for a, b in rng.standard_normal((count, 2))]

    policy = calibrated_policy(tiles(2000, 0), tiles(400, 6), [0.05, 0.1], steps=(0, 9), calibration={"tiles": 400})
    assert [promise.alpha for promise in policy.promises] == [0.05, 0.1]
    assert policy.scales["added"] == pytest.approx(4 + 2.05, abs=0.15)  # the 98th percentile of a normal distribution
    for alpha in (0.05, 0.1):
        missed = np.mean([policy.strength(scores) < policy.promise(alpha).threshold for scores in tiles(4000, 6)])
        # Spread of the calibration's own rank, sqrt(alpha (1 - alpha) / 400), four times.
        assert missed == pytest.approx(alpha, abs=4 * (alpha * (1 - alpha) / 400) ** 0.5)
    assert GuardPolicy.model_validate_json(policy.model_dump_json()) == policy


def test_a_policy_that_says_nothing_is_refused():
    with pytest.raises(ValidationError, match="scale of 0"):
        GuardPolicy(**POLICY.model_dump() | {"scales": {"added": 0.0}})
    with pytest.raises(InputError, match="no faithful tiles"):
        calibrated_policy([], [{"added": 1.0}], [0.1], steps=(0, 1), calibration={})
    with pytest.raises(InputError, match="calibration places"):
        calibrated_policy([{"added": 1.0}], [{"added": 1.0}], [0.1], steps=(0, 1), calibration={})
