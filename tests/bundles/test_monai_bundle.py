"""A bundle of ours in MONAI's own hands: ``verify_metadata`` and ``run``, in Python and as commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import monai.bundle
import numpy as np
import pytest

from srh_clinic.bundles import BASELINES, load_bundle, save_bundle
from srh_clinic.bundles.workflow import SCHEMA
from srh_clinic.case.record import read_result
from srh_clinic.errors import InputError
from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.slide import ArraySlide

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLES = (ROOT / "srh_clinic/bundles/phantom-demo", *sorted((ROOT / "weights").iterdir()))

TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "channel_def": {"type": "object"},
    },
}
TEXTS = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version"),
    *("task", "description", "authors", "copyright"),
)
ASKED = {
    "type": "object",
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in (*TEXTS, "data_type", "intended_use")},
        "required_packages_version": {"type": "object"},
        "changelog": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {key: {"additionalProperties": TENSOR} for key in ("inputs", "outputs")},
        },
    },
}
"""What MONAI's specification of bundles asks of their metadata; its own schema is downloaded, and tests have no network."""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    counts = np.clip(20_000 + 4_000 * rng.standard_normal((2, 300, 260)), 0, 65_535).astype(np.uint16)
    return write_wsi(ArraySlide(counts, 0.47), tmp_path / "case.dcm")[0]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "phantom-demo"))


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_says_what_monai_asks(path: Path, tmp_path: Path) -> None:
    metadata = json.loads((path / "configs/metadata.json").read_text(encoding="utf-8"))
    jsonschema.validate(metadata, ASKED)
    assert metadata["schema"] == SCHEMA
    (tmp_path / "schema.json").write_text(json.dumps(ASKED))
    monai.bundle.verify_metadata(str(path / "configs/metadata.json"), str(tmp_path / "schema.json"))
    load_bundle(path)


def test_the_output_is_named_after_the_parts(bundle: Path) -> None:
    shown = load_bundle(bundle).metadata["network_data_format"]["outputs"]
    assert set(shown) == {"restored", "pred"}
    assert shown["pred"]["channel_def"] == {"0": "tumor", "1": "normal", "2": "nondiagnostic"}
    assert shown["restored"]["num_channels"] == 2


def test_what_a_bundle_says_of_its_use_stays(tmp_path: Path) -> None:
    said = {"intended_use": "for the tests of this file", "data_type": "none"}
    saved = save_bundle(tmp_path / "mine", {BASELINES[0]: ({}, {})}, said)
    assert {key: saved.metadata[key] for key in said} == said


def test_a_case_runs_from_end_to_end(bundle: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in the bundle's folder, and the folder's name is that of a bundle in the package."""
    monai.bundle.run(
        config_file=str(bundle / "configs/inference.json"),
        bundle_root=str(bundle),
        case=str(case),
        output_dir=str(tmp_path / "out"),
        dicom_out=str(tmp_path / "restored.dcm"),
        restorer="median",
        device="cpu",
    )
    result = read_result(tmp_path / "out")
    assert result.case.source == str(case)
    assert result.provenance.weights_sha256 == load_bundle(bundle).weights_sha256
    assert result.provenance.bundle == "phantom-demo"
    assert read_slide(tmp_path / "restored.dcm").shape == (300, 260)
    said = capsys.readouterr().out
    assert "After restoration:" in said
    assert "emonstration weights, research use only" in said


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("fire", reason="needs the package fire, which MONAI's commands are made with")
    command = [sys.executable, "-m", "monai.bundle", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)


def test_the_documented_command_works_in_the_bundle_s_folder(bundle: Path, case: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("--config_file", "configs/inference.json", "--case", str(case), "--output_dir", str(out), "--restorer", "none")
    done = run_in(bundle, "run", *asked)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "After restoration:" in done.stdout
    assert read_result(out).provenance.bundle == "phantom-demo"
    (out / "note.txt").write_text("mine")
    other = write_wsi(ArraySlide(np.full((2, 64, 64), 900, np.uint16), 0.47), tmp_path / "other.dcm")[0]
    before = (out / "result.json").read_bytes()
    refused = run_in(bundle, "run", *(str(other) if one == str(case) else one for one in asked))
    assert refused.returncode != 0
    assert "found the result of another case" in refused.stderr
    assert (out / "result.json").read_bytes() == before


def test_verify_metadata_works_as_a_command(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(ASKED))
    done = run_in(
        bundle, "verify_metadata", "--meta_file", "configs/metadata.json", "--filepath", str(tmp_path / "schema.json")
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "metadata is verified with no error" in done.stdout + done.stderr


@pytest.mark.parametrize("what", ["case", "bundle_root"])
def test_what_is_not_there_is_said_in_a_sentence(what: str, bundle: Path, case: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"case": str(case), "bundle_root": str(bundle), what: str(tmp_path / "nowhere")}
    with pytest.raises(RuntimeError) as wrapped:
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"), output_dir=str(tmp_path / "out"), device="cpu", **given
        )
    cause: BaseException | None = wrapped.value
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    assert "nowhere" in str(cause)
    assert not (tmp_path / "out").exists()
