"""``diagnose --policy``: whose word stands, how it is told, and which policies are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tifffile
from numpy.typing import ArrayLike, NDArray

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.repeating import KeepingRestorer
from srh_clinic.case.result import CaseResult
from srh_clinic.cli.app import main
from srh_clinic.errors import ExitCode, InputError
from srh_clinic.intensity import Counts
from srh_clinic.restorers import Restoration, RestoredTile, Tile
from srh_clinic.slide import ArraySlide
from srh_clinic.tiling import TileGrid, TileStore
from srh_clinic.trust import ALWAYS, NEVER, GuardPolicy, Promise, SelectivePolicy

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))
TILE, WEIGHTS = 64, "0" * 64
OURS: dict[str, str | int | float] = {"weights_sha256": WEIGHTS, "level": "slide", "restorer": "painting"}
GUARDS = GuardPolicy(
    scales={"brightness": 0.1},
    promises=(Promise(alpha=0.05, threshold=1.0, confidence=0.95),),
    calibration={"weights_sha256": WEIGHTS},
    steps=(0, 200),
)


@dataclass(frozen=True)
class FakeBundle:
    name: str = "fake"
    weights_sha256: str = WEIGHTS
    metadata: dict[str, Any] = field(
        default_factory=lambda: {"um_per_px": 0.47, "tile": TILE, "demonstration": "demonstration weights"}
    )


@dataclass(frozen=True)
class Painting:
    """Adds counts to every tile, others for each seed."""

    added: Mapping[int, int]
    name: str = "painting"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def restore(self, counts: Counts, positions: ArrayLike | None = None, seed: int = 0) -> Restoration:
        raise NotImplementedError

    def stream(self, tiles: Iterable[Tile], seed: int = 0) -> Iterator[RestoredTile]:
        waiting = list(tiles)
        for tile in reversed(waiting):  # in another order than they came
            counts = (tile.counts + self.added[seed]).astype(np.uint16)
            yield RestoredTile(tile.key, counts, 40, 41, 1, "completed", (), 41)


class BrightIsTumor:
    """Below 10,000 counts non-diagnostic, from 30,000 on normal, tumor between; always with probability 0.8."""

    patch = TILE
    recipe = "opensrh"

    def predict_proba(self, patches: Counts) -> NDArray[np.float64]:
        which = np.select([(mean := patches.mean(axis=(1, 2, 3))) < 10_000, mean < 30_000], [2, 0], 1)
        return np.eye(3)[which] * 0.7 + 0.1


def slide(level: int) -> ArraySlide:
    noise = np.random.default_rng(0).integers(-50, 51, (2, 150, 210))
    return ArraySlide((level + noise).astype(np.uint16), 0.47)


def diagnose(
    selective: SelectivePolicy | None,
    level: int = 5_000,
    added: Mapping[int, int] | None = None,
    **settings: Any,
) -> CaseResult:
    painting = Painting(added or {0: 15_000, 1: 15_000, 2: 0, 3: 15_000, 4: 30_000})
    return RestoreThenClassify(FakeBundle(), painting, BrightIsTumor(), selective_policy=selective, **settings)(slide(level))  # type: ignore[arg-type]


def policy(**changed: Any) -> SelectivePolicy:
    plain = {"p_restored": 0.75, "p_agreeing": 0.75, "p_contradicted": 0.75, "p_original": 0.75, "calibration": OURS}
    return SelectivePolicy(**{**plain, **changed})


def codes(result: CaseResult) -> set[str]:
    return {flag.partition(":")[0] for flag in result.flags}


def of_policy(result: CaseResult) -> set[str]:
    return {code for code in codes(result) if code.startswith("policy")}


def test_without_a_policy_nothing_is_decided() -> None:
    result = diagnose(None)
    assert result.decision is None
    assert result.to_dict()["decision"] is None
    assert of_policy(result) == set()
    assert "selective" not in result.provenance["settings"]


def test_a_sure_restored_class_is_used_without_a_flag() -> None:
    # Not the 0.889 of a slide's probabilities, from which what the patches have of non-diagnostic is left out.
    result = diagnose(policy())
    assert result.to_dict()["decision"] == {
        "use": "restored",
        "diagnosis": "tumor",
        "why": "the restored class is sure enough (p = 0.80); the original is non-diagnostic",
        "policy": "the caller's",
    }
    assert of_policy(result) == set()
    assert result.provenance["settings"]["selective"]["p_restored"] == 0.75


def test_the_original_is_kept_and_the_restored_diagnosis_still_told() -> None:
    result = diagnose(policy(p_contradicted=0.9), level=20_000)
    assert (result.before.diagnosis, result.diagnosis) == ("tumor", "normal")
    assert result.decision is not None
    assert (result.decision.use, result.decision.said) == ("original", "tumor")
    assert result.to_dict()["diagnosis"] == "normal"
    (flag,) = [flag for flag in result.flags if flag.startswith("policy: ")]
    assert flag.startswith(
        "policy: the original's diagnosis stands, tumor, not that of the restored image; the restored class"
    )


def test_where_neither_is_sure_enough_the_case_is_called_non_diagnostic() -> None:
    result = diagnose(policy(p_contradicted=0.9, p_original=0.9), level=20_000)
    assert result.decision is not None
    assert (result.decision.use, result.decision.said) == ("nondiagnostic", "nondiagnostic")
    assert "policy: the case is called non-diagnostic; " in " ".join(result.flags)


def test_the_policy_hears_the_guards_and_the_steps() -> None:
    strengths = diagnose(None, guard_policy=GUARDS).scrutiny.strengths
    assert strengths.min() < strengths.max()
    for limit, use in ((strengths.max(), "restored"), (strengths.max() - 1e-6, "original")):
        result = diagnose(policy(trust_limit=limit), guard_policy=GUARDS)
        assert result.decision is not None
        assert result.decision.use == use
    unexamined = diagnose(policy(trust_limit=99)).decision
    assert unexamined is not None
    assert unexamined.use == "original"
    for steps, use in ((41, "restored"), (40, "original")):
        found = diagnose(policy(steps_limit=steps)).decision
        assert found is not None
        assert found.use == use


def test_agreement_is_the_share_of_further_seeds_that_say_the_same() -> None:
    added = {0: 15_000, 1: 15_000, 2: 0, 3: 15_000, 4: 30_000}  # tumor; tumor, nondiagnostic, tumor, normal
    again = {"repeated": Painting(added), "seeds": 4}
    for limit, use in ((0.5, "restored"), (0.51, "original")):
        result = diagnose(policy(agreement_limit=limit), added=added, **again)
        assert result.decision is not None
        assert result.decision.use == use
        plain = diagnose(None, added=added, **again)
        assert result.certainty is not None
        assert plain.certainty is not None
        np.testing.assert_array_equal(result.certainty.deviation, plain.certainty.deviation)


def test_further_restorations_are_kept_where_their_tiles_lie(tmp_path: Path) -> None:
    grid = TileGrid((150, 210), TILE, 32)
    counts = np.random.default_rng(1).integers(0, 50_000, (len(grid), 2, TILE, TILE)).astype(np.uint16)
    with TileStore(tmp_path / "7", grid, "7") as store:
        keeper = KeepingRestorer(Painting({7: 100}), {7: store})
        for first in range(0, len(grid), 5):  # the keys begin anew with each batch
            members = range(first, min(first + 5, len(grid)))
            corners = [[int(edge) for edge in grid.positions[index]] for index in members]
            batch = [Tile(key, counts[first + key], y, x) for key, (y, x) in enumerate(corners)]
            for made in keeper.stream(iter(batch), 7):
                np.testing.assert_array_equal(made.counts, counts[first + made.key] + 100)
        assert store.done.all()
        for index in range(len(grid)):
            np.testing.assert_array_equal(store.get(index), counts[index] + 100)


def test_kept_restorations_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    painting = Painting({0: 15_000, 1: 15_000})
    result = diagnose(policy(agreement_limit=1), repeated=painting, seeds=1)
    assert result.decision is not None
    assert len(list(tmp_path.iterdir())) == 1  # the tiles of the result itself


def test_a_policy_of_other_weights_is_flagged() -> None:
    other = policy(calibration={**OURS, "weights_sha256": "1" * 64})
    assert of_policy(diagnose(other)) == {"policy-of-other-weights"}
    assert of_policy(diagnose(policy(calibration={}))) == {"policy-of-other-weights"}
    assert of_policy(diagnose(policy(calibration={**OURS, "restorer": "rscd"}))) == {"policy-of-other-restorer"}


def test_a_policy_that_cannot_decide_a_slide_is_refused() -> None:
    with pytest.raises(InputError, match=r"found a policy that needs the agreement .*needed one or more .*--certainty K"):
        diagnose(policy(agreement_limit=0.5))
    with pytest.raises(InputError, match="calibrated at the level of a patch; needed one calibrated on slides"):
        diagnose(policy(calibration={**OURS, "level": "patch"}))
    with pytest.raises(InputError, match="needs the agreement"):
        RestoreThenClassify.from_bundle("phantom-demo", selective_policy=policy(agreement_limit=0.5))


@pytest.mark.parametrize("selective", [None, ALWAYS, NEVER, policy(p_contradicted=None, p_original=None)])
def test_decisions_fit_the_schema(selective: SelectivePolicy | None) -> None:
    result = json.loads(json.dumps(diagnose(selective, level=20_000).to_dict()))
    jsonschema.validate(result, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**result, "decision": {"use": "both", "diagnosis": "tumor", "why": "x"}}, SCHEMA)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_bundle: Path,
    little_drawn: None,
) -> Call:
    """``diagnose`` with the filter ``median`` of a small noisy case, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    counts = np.clip(9_000 + 2_500 * np.random.default_rng(0).standard_normal((2, 260, 260)), 0, 65_535)
    tifffile.imwrite("case.tif", counts.astype(np.uint16), photometric="minisblack", metadata={"axes": "CYX"})
    of_case = ("case.tif", "--um-per-px", 0.47, "--full-scale", 65536, "--bundle", tiny_bundle, "--device", "cpu")

    def run(*options: object) -> tuple[int, str, str]:
        arguments = ("srh-clinic", "diagnose", *of_case, "--restorer", "median", *options)
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_the_command_line_says_whose_word_stands(call: Call, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(NEVER.model_dump_json())
    code, out, _ = call("--policy", "policy.json", "--out", "out", "--html")
    assert code == ExitCode.DONE
    said = " ".join(out.replace("│", " ").split())
    assert "by the policy" in said
    assert "Policy the diagnosis of the original stands: the restored" in said
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert "by the policy: " in (tmp_path / "out" / "case.html").read_text(encoding="utf-8")
    assert (result["decision"]["use"], result["decision"]["diagnosis"]) == ("original", result["before"]["diagnosis"])
    assert any(flag.startswith("policy: the original's diagnosis stands") for flag in result["flags"])


def test_a_policy_that_is_none_is_refused_before_the_work(call: Call, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text("{}")
    asking = asking_for_agreement(tmp_path)
    for file, words in (("policy.json", "found p_restored: Field required; needed a selective"), (asking, "--certainty K")):
        code, out, err = call("--policy", file, "--json")
        assert (code, out) == (ExitCode.INPUT, "")
        assert words in err.replace("\n", " ")


def asking_for_agreement(folder: Path) -> str:
    """A policy that asks for agreement."""
    (folder / "asking.json").write_text(policy(agreement_limit=0.5).model_dump_json())
    return "asking.json"
