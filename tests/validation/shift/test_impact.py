"""A change of the model is judged case by case: what it makes wrong is not outweighed by what it makes right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from srh_clinic.errors import InputError
from srh_clinic.validation.shift.impact import changed, write_impact
from srh_clinic.validation.shift.records import Cohort, Prediction, ShiftCase
from srh_clinic.validation.shift.running import Run
from srh_clinic.validation.shift.validate import validate_cohort

SURE = {
    "tumor": Prediction("tumor", (0.9, 0.06, 0.04)),
    "normal": Prediction("normal", (0.1, 0.8, 0.1)),
    "nondiagnostic": Prediction("nondiagnostic", (0.2, 0.1, 0.7)),
}


def run(said: list[str], weights: str) -> Run:
    cases = tuple(
        ShiftCase(
            f"c{place}", f"P{place}", "tumor", SURE["nondiagnostic"], SURE[one], site=f"s{place % 2}", steps_predicted=9.0
        )
        for place, one in enumerate(said)
    )
    return Run(Cohort(cases), Cohort((), "patch"), {"weights_sha256": weights, "notice": "<b>"}, {}, {})


def test_the_page_tells_who_changes_class_and_the_net_harm(tmp_path: Path) -> None:
    previous = run(["tumor"] * 9 + ["normal", "nondiagnostic", "tumor"], "ab")
    new = run(["tumor"] * 9 + ["tumor", "normal", "normal"], "cd")
    assert [case.before.said for case in changed(previous.slides, new.slides).cases][-3:] == [
        "normal",
        "nondiagnostic",
        "tumor",
    ]
    write_impact(previous, new, "0" * 64, tmp_path, 0)
    found = json.loads((tmp_path / "impact.json").read_text())
    assert found["impact"]["text"] == [
        "3 of 12 cases change class. 2 are newly wrong and 1 no longer: a net harm of +1 cases."
    ]
    (listed,) = found["impact"]["tables"].values()
    assert [row["case"] for row in listed] == ["c10", "c11", "c9"]
    assert list(found)[:3] == ["modification", "protocol", "impact"]
    assert {"subgroups", "drift"} <= set(found)
    page = (tmp_path / "impact.html").read_text()
    assert "&lt;b&gt;" in page
    assert "Content-Security-Policy" in page


def test_a_change_is_described_in_words_and_by_what_differs(tmp_path: Path) -> None:
    made = {"bundle": "b", "version": "0.1.0", "notice": ""}
    metadata = {"version": "2", "changelog": {"2": "more data", "1": "first"}}
    runs = [
        replace(run(["tumor"] * 12, weights), provenance={**made, "weights_sha256": weights * 32, "settings": settings})
        for weights, settings in (("ab", {"sampler": "ddim", "cap": 190}), ("cd", {"sampler": "mean", "cap": 190}))
    ]
    write_impact(*(replace(one, metadata=metadata) for one in runs), "0" * 64, tmp_path, 0)
    found = json.loads((tmp_path / "impact.json").read_text())
    assert found["modification"]["text"][0] == "The weights differ; settings differ."
    rows = {row["what"]: (row["previous"], row["new"]) for row in found["modification"]["tables"]["Bundles"]}
    assert rows["changelog"] == ("2: more data; 1: first",) * 2
    assert rows["version of the bundle"] == ("2", "2")
    assert rows["setting sampler"] == ("ddim", "mean")
    assert "setting cap" not in rows
    assert found["impact"]["tables"] == {}


def test_a_change_needs_images(tmp_path: Path) -> None:
    columns = [f"{when}_{one}" for when in ("before", "after") for one in SURE]
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"case,patient,truth,{','.join(columns)}\na,P1,tumor,1,0,0,1,0,0\n")
    with pytest.raises(InputError, match="a previous bundle and ready predictions"):
        validate_cohort(manifest, tmp_path / "out", previous_bundle="phantom-demo")


def test_a_previous_bundle_that_is_none_is_told_before_anything_is_computed(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "m.csv").write_text("case,patient,truth\nnone.dcm,P1,tumor\n")
    with pytest.raises(InputError, match="found no bundle"):
        validate_cohort(tmp_path / "m.csv", tmp_path / "out", bundle=tiny_bundle, previous_bundle=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
