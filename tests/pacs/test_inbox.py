"""What is received lies there whole, once, under names that say nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from arriving_slides import slide_files
from many_cases import CANARY
from pydicom import dcmread

from srh_clinic.pacs.inbox import Inbox


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox")


def received(inbox: Inbox) -> list[Path]:
    return sorted(inbox.folder.rglob("*.dcm"))


def test_a_file_that_comes_twice_is_kept_once_and_another_under_its_uid_is_not_taken(inbox: Inbox, tmp_path: Path) -> None:
    (ch2, ch3) = slide_files(tmp_path / "slide", levels=())
    assert [inbox.copy(file).how for file in (ch2, ch3, ch2)] == ["new", "new", "again"]
    before = {file: file.read_bytes() for file in received(inbox)}
    assert len(before) == 2
    other = dcmread(ch3)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = dcmread(ch2).SOPInstanceUID
    other.save_as(tmp_path / "other.dcm")
    assert inbox.copy(tmp_path / "other.dcm").how == "conflict"
    assert {file: file.read_bytes() for file in received(inbox)} == before
    assert [*inbox.receiving.iterdir()] == []


def test_another_file_meta_over_the_same_data_set_is_the_same_file(inbox: Inbox, tmp_path: Path) -> None:
    ch2 = slide_files(tmp_path / "slide", levels=())[0]
    again = dcmread(ch2)
    again.file_meta.ImplementationVersionName = "ANOTHER"
    again.save_as(tmp_path / "again.dcm")
    assert [inbox.copy(file).how for file in (ch2, tmp_path / "again.dcm")] == ["new", "again"]


@pytest.mark.parametrize("cut", [0, 100, 1500])
def test_what_cannot_be_read_is_kept_apart(inbox: Inbox, tmp_path: Path, cut: int) -> None:
    ch2 = slide_files(tmp_path / "slide", levels=())[0]
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(ch2.read_bytes()[:cut])
    assert [inbox.copy(broken).how for _ in range(2)] == ["unreadable", "again"]
    assert [file.read_bytes() for file in received(inbox)] == [broken.read_bytes()]


def test_names_say_nothing_and_what_was_not_whole_is_cleared(inbox: Inbox, tmp_path: Path) -> None:
    files = slide_files(tmp_path / "slide")
    for file in files:
        inbox.copy(file)
    uids = [str(getattr(dcmread(file), f"{what}InstanceUID")) for file in files for what in ("SOP", "Series", "Study")]
    for name in (path.name for path in inbox.folder.rglob("*")):
        assert CANARY not in name
        assert not any(uid in name for uid in uids)
    shutil.copy(files[0], inbox.draft())
    again = Inbox(inbox.folder)
    assert [*again.receiving.iterdir()] == []
    assert len(received(again)) == len(files)
    assert len(again.open_studies()) == 1


def test_a_full_disk_leaves_the_file_with_its_sender(inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ch2 = slide_files(tmp_path / "slide", levels=())[0]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        inbox.copy(ch2)
    assert received(inbox) == []
