"""``result.json`` is written, read back and described by one model."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from srh_clinic.case.record import RESULT, CaseRecord, read_result, result_fields, result_schema
from srh_clinic.errors import InputError

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))

PLACE = {
    **{"where": "upper left", "y": 0, "x": 32, "height": 64, "width": 64},
    **{"y_um": 0.0, "x_um": 15.0, "height_um": 30.1, "width_um": 30.1},
}
WHOLE: dict[str, Any] = {
    "diagnosis": "tumor",
    "probabilities": {"tumor": 0.75, "normal": 0.25, "nondiagnostic": 0.0},
    "support": 0.625,
    "case": {
        **{"source": "case.dcm", "patient_id": "P1", "specimen_id": None, "study_uid": "1.2", "series_uid": "1.2.3"},
        **{"sop_uids": ["1.2.3.4"], "channel_order": "CH2, CH3 by wavelength", "pixels_sha256": "0" * 64},
    },
    "before": {
        "diagnosis": "nondiagnostic",
        "probabilities": {"tumor": 0.125, "normal": 0.125, "nondiagnostic": 0.75},
        "support": 0.75,
    },
    "decision": {
        "use": "restored",
        "diagnosis": "tumor",
        "why": "the restored class is sure enough",
        "policy": "the policy that the bundle phantom-demo carries",
    },
    "tiles": {"total": 4, "restored": 3, "skipped": 1, "capped": 0},
    "steps": {"median": 40, "p90": 60, "largest": 110, "stop_reasons": {"clean": 1, "completed": 3}},
    "rescan": [{**PLACE, "tiles": 1, "capped": 0, "steps": 110}],
    "trust": {
        "calibrated": True,
        "miss_rate": 0.1,
        "examined": 3,
        "flagged": 1,
        "withheld": 0,
        "outside_calibration": 0,
        "regions": [{**PLACE, "kind": "added_nucleus", "strength": 1.25}],
    },
    "certainty": {
        "seeds": 2,
        "deviation_median": 0.001,
        "deviation_largest": 0.02,
        "nuclei": [{**PLACE, "persistence": 0.333}],
    },
    "flags": ["rescan: 1 region of poor image quality"],
    "notes": ["rescan: 1 region of poor image quality"],
    "warnings": [],
    "doubts": [],
    "slide": {"height": 400, "width": 420, "um_per_px": 0.47, "channel_order": ""},
    "timing": {
        **{"total_s": 2.0, "restoring_s": 1.0, "examining_s": 0.25, "classifying_s": 0.25},
        **{"networks_s": 1.5, "outside_networks_s": 0.5, "tiles_per_s": 3.0},
    },
    "provenance": {
        "version": "0.1.0",
        "bundle": "fake",
        "weights_sha256": "0" * 64,
        "seed": 0,
        "settings": {"restorer": "rscd", "cap": None, "nested": {"values": [1, 2.5]}},
        "notice": "Research software, not a medical device.",
    },
    "made": {
        **{"at": "2026-11-28T04:30:00+00:00", "platform": "Linux", "python": "3.12.1"},
        "libraries": {"torch": "2.14.1"},
    },
}
PARTS = [
    (),
    ("probabilities",),
    ("case",),
    ("before",),
    ("before", "probabilities"),
    ("decision",),
    ("tiles",),
    ("steps",),
    ("rescan", 0),
    ("trust",),
    ("trust", "regions", 0),
    ("certainty",),
    ("certainty", "nuclei", 0),
    ("slide",),
    ("timing",),
    ("provenance",),
    ("made",),
]
WRONG: list[tuple[tuple[str | int, ...], Any]] = [
    (("diagnosis",), "glioma"),
    (("probabilities", "tumor"), 1.01),
    (("support",), -0.01),
    (("before",), None),
    (("before", "diagnosis"), None),
    (("decision", "use"), "both"),
    (("decision", "diagnosis"), "non-diagnostic"),
    (("decision", "why"), ""),
    (("decision", "policy"), ""),
    (("tiles", "total"), 0),
    (("tiles", "restored"), -1),
    (("tiles", "capped"), 0.5),
    (("steps", "p90"), "60"),
    (("steps", "stop_reasons", "clean"), -1),
    (("rescan", 0, "where"), None),
    (("rescan", 0, "y"), -1),
    (("rescan", 0, "width"), 0),
    (("rescan", 0, "height_um"), 0),
    (("rescan", 0, "tiles"), 0),
    (("rescan", 0, "steps"), -1),
    (("trust", "calibrated"), "yes"),
    (("trust", "miss_rate"), "0.1"),
    (("trust", "regions", 0, "kind"), "strange"),
    (("trust", "regions", 0, "strength"), 0.99),
    (("certainty", "seeds"), 0),
    (("certainty", "deviation_largest"), -0.1),
    (("certainty", "nuclei", 0, "persistence"), 1.5),
    (("flags", 0), "no code"),
    (("flags",), "rescan: 1"),
    (("slide", "um_per_px"), 0),
    (("slide", "height"), 0),
    (("timing", "total_s"), -1),
    (("provenance", "weights_sha256"), "0" * 63),
    (("provenance", "seed"), 0.5),
    (("provenance", "settings"), {}),
    (("case", "pixels_sha256"), ""),
    (("case", "sop_uids"), None),
    (("made", "at"), "today"),
    (("doubts",), "unsure: near even"),
]


def changed(at: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(WHOLE)
    here: Any = result
    for key in at[:-1]:
        here = here[key]
    here[at[-1]] = value
    return result


def part(result: dict[str, Any], at: tuple[str | int, ...]) -> dict[str, Any]:
    here: Any = result
    for key in at:
        here = here[key]
    return here


def refused(result: dict[str, Any]) -> None:
    """By the schema and by the model alike."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result, SCHEMA)
    with pytest.raises(ValidationError):
        CaseRecord.model_validate_json(json.dumps(result), strict=True)


def test_the_schema_in_the_package_is_that_of_the_model() -> None:
    assert result_schema() == SCHEMA, "make it anew as srh_clinic/case/record.py says"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_docs_have_every_field_as_the_model_has_it() -> None:
    docs = Path(__file__).parents[2] / "docs" / "result.md"
    assert result_fields() in docs.read_text(encoding="utf-8")


def test_what_is_written_is_read_back_to_the_byte(tmp_path: Path) -> None:
    text = json.dumps(WHOLE, indent=2) + "\n"
    (tmp_path / RESULT).write_text(text, encoding="utf-8")
    jsonschema.validate(WHOLE, SCHEMA)
    record = read_result(tmp_path / RESULT)
    assert json.dumps(record.model_dump(mode="json"), indent=2) + "\n" == text
    assert read_result(tmp_path) == record
    assert record.trust.regions[0].kind == "added_nucleus"


def test_policy_and_further_seeds_may_be_absent_but_are_always_named() -> None:
    for name in ("decision", "certainty"):
        jsonschema.validate(changed((name,), None), SCHEMA)
        assert getattr(CaseRecord.model_validate(changed((name,), None)), name) is None
    jsonschema.validate(changed(("trust", "miss_rate"), None), SCHEMA)


@pytest.mark.parametrize("at", PARTS, ids=str)
def test_every_part_has_all_its_fields_and_no_others(at: tuple[str | int, ...]) -> None:
    refused(changed((*at, "more"), 1))
    for name in part(WHOLE, at):
        result = copy.deepcopy(WHOLE)
        del part(result, at)[name]
        refused(result)


@pytest.mark.parametrize(("at", "value"), WRONG, ids=str)
def test_a_value_out_of_its_bounds_is_refused(at: tuple[str | int, ...], value: Any) -> None:
    refused(changed(at, value))


def test_a_file_that_holds_something_else_is_told_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / RESULT
    needed = r"needed the result\.json that srh-clinic diagnose writes\.$"
    with pytest.raises(InputError, match=rf"result\.json: found No such file or directory; {needed}"):
        read_result(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match=rf"found Invalid JSON: .*; {needed}"):
        read_result(file)
    file.write_text(json.dumps(changed(("before", "diagnosis"), "glioma")))
    with pytest.raises(InputError, match=rf"found before\.diagnosis: Input should be 'tumor', .*; {needed}"):
        read_result(file)
