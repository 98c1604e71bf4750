"""A result is saved whole or not at all, and fits its schema."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from srh_clinic.case.result import CaseResult

SCHEMA = json.loads((files("srh_clinic") / "schemas" / "result.schema.json").read_text(encoding="utf-8"))


def test_the_result_fits_its_schema(result: CaseResult) -> None:
    jsonschema.validate(json.loads(json.dumps(result.to_dict())), SCHEMA)


def test_the_schema_refuses_what_is_not_a_result(result: CaseResult) -> None:
    wrong = {**result.to_dict(), "diagnosis": "glioma"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_saved_pictures_are_whole_and_of_the_slide_s_size(result: CaseResult, tmp_path: Path) -> None:
    out = result.save(tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {
        "result.json",
        *(
            f"{name}.png"
            for name in ("before", "after", "before_he", "after_he", "step_map", "trust_map", "class_map", "summary")
        ),
    }
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    for name in ("before", "after", "before_he", "after_he"):
        assert Image.open(out / f"{name}.png").size == (210, 150)


@pytest.mark.usefixtures("little_drawn")
def test_saving_fails_without_a_trace(result: CaseResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("little_drawn")
def test_saving_replaces_an_older_result_only_when_whole(
    result: CaseResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text("older")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            result.save(tmp_path)
    assert (tmp_path / "result.json").read_text() == "older"
    result.save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["diagnosis"] == "tumor"
