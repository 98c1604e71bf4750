"""Bundles go to a folder or a hub and come back whole, pinned and checked, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from srh_clinic.bundles import load_bundle
from srh_clinic.bundles.bundle import METADATA
from srh_clinic.bundles.hub import fetch_bundle, publish_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import sha256_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_serves_offline(tiny_bundle: Path, tmp_path: Path) -> None:
    (tiny_bundle / "training").mkdir(exist_ok=True)
    (tiny_bundle / "training" / "log.jsonl").write_text("{}")
    said = publish_bundle(load_bundle(tiny_bundle), str(tmp_path / "shelf" / "tiny"))
    digest = sha256_of(tiny_bundle / METADATA)
    assert f"--sha256 {digest}" in said
    assert not (tmp_path / "shelf" / "tiny" / "training").exists(), "only what the metadata list"
    fetched = fetch_bundle(str(tmp_path / "shelf" / "tiny"), tmp_path / "mine", sha256=digest)
    assert fetched.weights_sha256 == load_bundle(tiny_bundle).weights_sha256


@pytest.fixture
def hub(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub that gives the tiny bundle under any name, and keeps what it was asked."""
    asked: list[dict[str, Any]] = []

    def download(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        shutil.copytree(tiny_bundle, options["local_dir"], dirs_exist_ok=True)
        return str(options["local_dir"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_a_hub_gives_what_was_pinned(hub: list[dict[str, Any]], tiny_bundle: Path, tmp_path: Path) -> None:
    digest = sha256_of(tiny_bundle / METADATA)
    fetched = fetch_bundle("lab/tiny", tmp_path / "mine", revision=COMMIT, sha256=digest)
    assert hub[0]["name"] == "lab/tiny"
    assert hub[0]["revision"] == COMMIT
    assert set(fetched.parts) == {"denoiser", "calibrator", "classifier"}


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("lab/tiny", {"sha256": "0" * 64}, "no revision; needed a commit"),
        ("lab/tiny", {"revision": "main", "sha256": "0" * 64}, "the revision 'main'; needed a commit"),
        ("lab/tiny", {"revision": COMMIT}, "no sha256 for lab/tiny"),
        ("lab/tiny", {"revision": COMMIT, "sha256": "0" * 64}, "needed that of 000"),
        ("tiny", {}, "the source 'tiny'"),
        ("../lab/tiny", {}, "the source '../lab/tiny'"),
    ],
)
def test_what_is_not_pinned_or_is_another_is_refused(
    source: str, options: dict[str, str], says: str, hub: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        fetch_bundle(source, tmp_path / "mine", **options)
    assert not (tmp_path / "mine").exists()


def test_a_file_that_was_changed_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    shelf = Path(shutil.copytree(tiny_bundle, tmp_path / "shelf"))
    (shelf / "docs" / "README.md").write_text("better")
    with pytest.raises(InputError, match="sha256"):
        fetch_bundle(str(shelf), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_hub_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: Any) -> str:
        raise ConnectionError("no way there\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=r"a hub that does not give lab/tiny \(no way there\)"):
        fetch_bundle("lab/tiny", tmp_path / "mine", revision=COMMIT, sha256="0" * 64)


def test_what_lies_in_another_folder_cannot_be_published(tiny_bundle: Path, tmp_path: Path) -> None:
    from srh_clinic.bundles import save_bundle

    tiny = load_bundle(tiny_bundle)
    parts = {"denoiser": (tiny.config("denoiser"), tiny.load_tensors("denoiser"))}
    shutil.copytree(tiny_bundle, tmp_path / "other")
    heir = save_bundle(tmp_path / "heir", parts, {"extends": "../other"})
    with pytest.raises(InputError, match=r"a bundle that extends the folder \.\./other"):
        publish_bundle(heir, str(tmp_path / "shelf"))


def test_what_is_there_is_not_published_over(tiny_bundle: Path, tmp_path: Path) -> None:
    shelf = Path(shutil.copytree(tiny_bundle, tmp_path / "shelf"))
    before = sorted(shelf.rglob("*"))
    for target in (shelf, tmp_path):
        with pytest.raises(InputError, match="an existing file or folder; needed a name that is not taken"):
            publish_bundle(load_bundle(shelf), str(target))
    assert sorted(shelf.rglob("*")) == before
