"""When a series is a case, and what becomes of one that is none."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from arriving_slides import series_uid, slide_files
from pydicom import dcmread
from pydicom.uid import generate_uid

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.ledger import Entry, Ledger
from srh_clinic.errors import InputError
from srh_clinic.pacs.arrival import Arrivals
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.inbox import Inbox
from srh_clinic.pacs.watched import WatchedFolder


class Desk:
    """An inbox whose files grow old at will, and the ledger."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.inbox, self.ledger = Inbox(folder / "inbox"), ledger
        self.audit = Audit(None)
        self.arrivals = Arrivals(self.inbox, self.audit, settle=10, patience=100)

    def take(self, *files: Path) -> None:
        for file in files:
            self.inbox.copy(file)

    def after(self, seconds: float) -> list[Entry]:
        """The ledger's cases when so much time has passed since files came."""
        then = time.time() - seconds
        for file in self.inbox.folder.rglob("*.dcm"):
            os.utime(file, (then, then))
        self.arrivals.look(self.ledger)
        return self.ledger.entries()

    def states(self, seconds: float) -> list[tuple[str, str]]:
        return [(entry.state, entry.kind) for entry in self.after(seconds)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Ledger(tmp_path / "ledger.sqlite"))


@pytest.fixture
def slide(tmp_path: Path) -> list[Path]:
    return slide_files(tmp_path / "slide")


def changed(file: Path, change: Callable[..., object]) -> Path:
    """A file with another header."""
    header = dcmread(file)
    change(header)
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(file)
    return file


def test_a_slide_is_a_case_when_all_is_there_and_nothing_came_for_a_while(desk: Desk, slide: list[Path]) -> None:
    random.Random(0).shuffle(slide)
    for file in slide[:-1]:
        desk.take(file)
        assert desk.states(50) == []
    desk.take(slide[-1])
    assert desk.states(5) == []
    (entry,) = desk.after(11)
    assert (entry.name, entry.state) == (case_name(series_uid(slide[0])), "waiting")
    assert desk.inbox.open_studies() == []
    assert dcmread(entry.source[0], stop_before_pixels=True).TotalPixelMatrixRows == 300


def test_one_who_still_sends_is_waited_for(desk: Desk, slide: list[Path]) -> None:
    for file in slide:
        desk.inbox.copy(file, "caller")
    desk.inbox.heard("caller")
    assert desk.states(50) == []
    desk.inbox.over("caller")
    assert desk.states(50) == [("waiting", "")]


@pytest.mark.parametrize(
    ("there", "reason"), [([0], "channel-missing"), ([0, 1, 3], "channel-missing"), ([2, 3], "level-missing")]
)
def test_what_never_comes_parks_the_case_and_when_it_comes_the_case_goes_on(
    desk: Desk, slide: list[Path], there: list[int], reason: str
) -> None:
    desk.take(*(slide[place] for place in there))
    assert desk.states(99) == []
    assert desk.states(101) == [("parked", reason)]
    assert desk.states(200) == [("parked", reason)]
    desk.take(*slide)
    assert desk.states(11) == [("waiting", "changed")]
    assert [move.kind for move in desk.ledger.history()] == ["enrolled", reason, "changed"]


def test_two_series_of_one_shift_each_are_one_case(desk: Desk, tmp_path: Path) -> None:
    ch2, ch3 = slide_files(tmp_path / "slide", levels=())
    changed(ch3, lambda header: setattr(header, "SeriesInstanceUID", generate_uid()))
    desk.take(ch3)
    assert desk.states(101) == [("parked", "channel-missing")]
    desk.take(ch2)
    (entry,) = desk.after(11)
    assert (entry.name, entry.state) == (case_name(series_uid(ch3)), "waiting")


def test_one_file_of_both_paths_is_a_case(desk: Desk, tmp_path: Path) -> None:
    slide_files(tmp_path / "slide.dcm", levels=())
    desk.take(tmp_path / "slide.dcm")
    assert desk.states(11) == [("waiting", "")]


def to_rgb(header: object) -> None:
    header.SamplesPerPixel, header.PhotometricInterpretation, header.BitsAllocated = 3, "RGB", 8  # type: ignore[attr-defined]
    header.SeriesInstanceUID, header.SOPInstanceUID = generate_uid(), generate_uid()  # type: ignore[attr-defined]


def to_label(header: object) -> None:
    to_rgb(header)
    header.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]  # type: ignore[attr-defined]


def test_a_series_that_is_no_srh_is_parked_and_a_label_is_passed_over(desk: Desk, tmp_path: Path, slide: list[Path]) -> None:
    rgb = changed(slide_files(tmp_path / "rgb", 1, levels=())[0], to_rgb)
    label = changed(slide_files(tmp_path / "label", levels=())[0], to_label)
    desk.take(rgb, label, *slide)
    assert sorted(desk.states(11)) == [("parked", "not-srh"), ("waiting", "")]
    assert desk.inbox.open_studies() == []


def test_random_bytes_and_a_broken_file_are_parked_and_the_next_case_goes_through(
    desk: Desk, tmp_path: Path, slide: list[Path]
) -> None:
    (tmp_path / "noise.dcm").write_bytes(np.random.default_rng(0).bytes(2**20))
    (tmp_path / "cut.dcm").write_bytes(slide[0].read_bytes()[:2000])
    desk.take(tmp_path / "noise.dcm", tmp_path / "cut.dcm", *slide)
    assert sorted(desk.states(11)) == [("parked", "unreadable"), ("parked", "unreadable"), ("waiting", "")]


def test_a_result_of_ours_that_a_pacs_sends_back_is_no_case(desk: Desk, tmp_path: Path) -> None:
    from srh_clinic.integration import read_slide, write_wsi

    source = slide_files(tmp_path / "slide", levels=())
    slide = read_slide(source[0])
    made_by = {"version": "1", "bundle": "b", "weights_sha256": "0" * 64, "seed": 0, "settings": {}}
    written = write_wsi(slide, tmp_path / "restored", derived_from=slide, provenance=made_by, levels=[2])
    assert {desk.inbox.copy(file).how for file in written} == {"ours"}
    assert desk.states(101) == []


def test_after_a_restart_nothing_is_enrolled_twice(desk: Desk, slide: list[Path], tmp_path: Path) -> None:
    desk.take(*slide)
    assert desk.states(11) == [("waiting", "")]
    claim = desk.ledger.claim()
    assert claim is not None
    desk.ledger.finish(claim, "computed", "p", "o")
    moves = desk.ledger.moves()
    again = Desk(tmp_path, desk.ledger)
    assert again.states(500) == [("done", "computed")]
    assert desk.ledger.moves() == moves
    again.take(*slide)  # sent once more
    assert again.states(500) == [("done", "computed")]


def test_a_watched_folder_takes_what_has_stopped_growing_and_a_scan_by_both_doors_is_one_case(
    desk: Desk, tmp_path: Path, slide: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("srh_clinic.pacs.watched.time.monotonic", lambda: now[0])
    folder = tmp_path / "watched"
    folder.mkdir()
    door = WatchedFolder(folder, desk.inbox, desk.audit, settle=5)

    def look(seconds: float) -> list[tuple[str, str]]:
        for _ in range(2):
            now[0] += seconds
            door.look(desk.ledger)
        return sorted(desk.states(50))

    desk.take(*slide)
    assert look(6) == [("waiting", "")]
    (tmp_path / "slide").rename(folder / "scan")
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 100)
    assert look(2.1) == [("waiting", "")]
    assert look(6) == [("waiting", ""), ("waiting", "")]
    assert look(6) == [("waiting", ""), ("waiting", "")]
    (entry,) = [entry for entry in desk.ledger.entries() if entry.source == (str(folder / "noise.bin"),)]
    assert entry.name == case_name("noise.bin")


def test_a_clock_that_is_set_back_takes_nobody_s_time(desk: Desk, slide: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    now, back = time.time, [0.0]
    monkeypatch.setattr("srh_clinic.pacs.arrival.time.time", lambda: now() - back[0])
    desk.take(slide[0])
    back[0] = 86_400.0
    desk.arrivals.look(desk.ledger)
    assert desk.ledger.entries() == []  # the other shift may still come
    later = time.monotonic() + 101
    monkeypatch.setattr("srh_clinic.pacs.arrival.time.monotonic", lambda: later)
    desk.arrivals.look(desk.ledger)
    assert [(entry.state, entry.kind) for entry in desk.ledger.entries()] == [("parked", "channel-missing")]


def test_files_that_somebody_takes_away_meanwhile_end_nothing(
    desk: Desk, slide: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.take(*slide)
    stat = Path.stat

    def gone(path: Path, **how: bool) -> os.stat_result:
        if path.suffix == ".dcm":
            path.unlink(missing_ok=True)
        return stat(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", gone)
        desk.arrivals.look(desk.ledger)
    desk.arrivals.look(desk.ledger)
    assert desk.ledger.entries() == []


def test_a_folder_that_cannot_be_read_is_a_case_that_a_worker_refuses(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> list[Path]:
        raise InputError("a folder that cannot be read (Permission denied)", "a readable folder", folder)

    monkeypatch.setattr("srh_clinic.pacs.watched.files_in", refused)
    monkeypatch.setattr("srh_clinic.pacs.watched.LOOKED", 0.0)
    (tmp_path / "watched" / "scan").mkdir(parents=True)
    door = WatchedFolder(tmp_path / "watched", desk.inbox, desk.audit, settle=0.0)
    for _ in range(2):
        door.look(desk.ledger)
    assert [entry.name for entry in desk.ledger.entries()] == [case_name("scan")]
