"""What was received goes when nothing is owed of it any more, and what is undelivered, parked or wanted stays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from arriving_slides import series_uid, slide_files
from many_cases import CANARY
from pydicom import dcmread
from pydicom.uid import generate_uid

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.deliveries import Deliveries
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.pacs import inbox as inbox_module
from srh_clinic.pacs.arrival import Arrivals
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.claims import Claims
from srh_clinic.pacs.clearing import DAY, Clearing
from srh_clinic.pacs.inbox import GONE, Inbox

THERE = "PACS@pacs.example:104"


class Desk:
    """An inbox with a slide whose case is done, and how old all of that is."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, destination: str | None = THERE) -> None:
        self.folder, self.days = folder, 0.0
        now = time.time
        for module in ("ledger", "deliveries"):
            monkeypatch.setattr(f"srh_clinic.cohort.{module}.time.time", lambda: now() + self.days * DAY)
        self.destination = destination
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.slide = slide_files(folder / "slide")
        self.name = case_name(series_uid(self.slide[0]))
        self.begin()
        for file in self.slide:
            self.inbox.copy(file)
        self.arrive()

    def begin(self) -> None:
        """A listener's process."""
        self.inbox, self.audit = Inbox(self.folder / "inbox"), Audit(self.folder / "audit.jsonl")
        self.arrivals = Arrivals(self.inbox, self.audit, settle=10, patience=100)

    def arrive(self) -> None:
        """All that has come, came long ago."""
        for file in self.received:
            os.utime(file, (1e9, 1e9))
        self.arrivals.look(self.ledger)

    def done(self) -> None:
        """A worker does the case."""
        claim = self.ledger.claim()
        assert claim is not None
        self.ledger.finish(claim, "computed", "p", "o")

    def sent(self, state: str = "sent") -> None:
        """Its results arrive."""
        deliveries = Deliveries(self.ledger, THERE)
        due = deliveries.due()
        assert due is not None
        deliveries.note(due, state, "")  # type: ignore[arg-type]

    def clear(self, keep: float = 30.0) -> None:
        """What a listener lets go."""
        clearing = Clearing(self.inbox, self.audit, self.destination, keep)
        for _ in range(3):
            clearing.look(self.ledger)

    @property
    def received(self) -> list[Path]:
        return sorted(self.inbox.folder.glob("*/*.dcm"))

    @property
    def kinds(self) -> list[str]:
        return [move.kind for move in self.ledger.history()]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_what_is_delivered_goes_after_its_days_and_is_known_when_it_comes_again(desk: Desk, tmp_path: Path) -> None:
    label = slide_files(tmp_path / "label", levels=())[0]
    header = dcmread(label)
    header.ImageType, header.SamplesPerPixel = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], 3
    header.SeriesInstanceUID = header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.save_as(label)
    desk.inbox.copy(label)
    desk.arrive()
    desk.done()
    desk.sent()
    desk.days = 29.9
    before = desk.kinds
    desk.clear()
    assert (len(desk.received), desk.kinds) == (5, before)
    desk.days = 30.1
    desk.clear()
    assert (desk.received, desk.kinds) == ([], [*before, "input-cleared"])
    assert desk.ledger.state_of(desk.name) == "done"
    told = (tmp_path / "audit.jsonl").read_text()
    assert f'"event": "cleared", "case": "{desk.name}", "files": 5' in told
    assert CANARY not in told + next(desk.inbox.folder.glob(f"*/{GONE}")).read_text()

    for _ in range(2):
        assert [desk.inbox.copy(file).how for file in desk.slide] == ["again"] * 4
        desk.arrive()
        desk.clear()
        assert (desk.received, desk.kinds) == ([], [*before, "input-cleared"])
        desk.begin()
    other = dcmread(slide_files(tmp_path / "other", 1)[0])
    for uid in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(other, uid, dcmread(desk.slide[0])[uid].value)
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(tmp_path / "other.dcm")
    assert desk.inbox.copy(tmp_path / "other.dcm").how == "conflict"


def nothing(desk: Desk) -> None:
    """It waits for a worker."""


def parked(desk: Desk) -> None:
    claim = desk.ledger.claim()
    assert claim is not None
    desk.ledger.park(claim, "refused", "")


def taken_up(desk: Desk) -> None:
    desk.done()
    desk.sent()
    claims = Claims(desk.ledger, "https://pacs.example")
    claims.note(claims.begin("1.2.3"), stage="held", studies=[study.name for study in desk.inbox.studies()])


def still_coming(desk: Desk) -> None:
    desk.done()
    desk.sent()
    desk.days = 40
    os.utime(desk.received[0], (time.time(), time.time()))


def elsewhere(desk: Desk) -> None:
    desk.done()
    desk.sent()
    desk.destination = "OTHER@pacs.example:104"


def lately(desk: Desk) -> None:
    desk.done()
    desk.days = 35
    desk.sent()


@pytest.mark.parametrize(
    "what",
    [
        nothing,
        parked,
        Desk.done,
        lambda desk: (desk.done(), desk.sent("late")),
        lambda desk: (desk.done(), desk.sent("refused")),
        taken_up,
        still_coming,
        elsewhere,
        lately,
    ],
)
def test_what_somebody_may_still_need_stays(desk: Desk, what: Callable[[Desk], object]) -> None:
    what(desk)
    desk.days = max(desk.days, 40)
    desk.clear()
    assert len(desk.received) == 4
    assert "input-cleared" not in desk.kinds


def test_a_parked_series_stays_where_another_of_its_study_goes(desk: Desk, tmp_path: Path) -> None:
    half = dcmread(slide_files(tmp_path / "half", 1, levels=())[0])
    half.StudyInstanceUID = dcmread(desk.slide[0]).StudyInstanceUID
    half.save_as(tmp_path / "half.dcm")
    desk.done()
    desk.sent()
    desk.inbox.copy(tmp_path / "half.dcm")
    desk.arrive()
    desk.days = 40
    desk.clear()
    assert [str(dcmread(file).SeriesInstanceUID) for file in desk.received] == [str(half.SeriesInstanceUID)]
    assert sorted(entry.state for entry in desk.ledger.entries()) == ["done", "parked"]


def test_without_a_destination_what_is_done_goes_and_never_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, monkeypatch, destination=None)
    desk.done()
    desk.days = 40
    clearing = Clearing(desk.inbox, desk.audit, None, None)
    clearing.look(desk.ledger)
    assert len(desk.received) == 4
    desk.clear()
    assert desk.received == []


def test_a_cut_while_files_go_is_finished_by_the_next_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.done()
    desk.sent()
    desk.days = 40
    with monkeypatch.context() as patched:
        patched.setattr(inbox_module, "_unlink", lambda files: next(iter(files)).unlink())
        desk.clear()
    assert len(desk.received) == 3
    before = desk.kinds
    desk.begin()
    desk.arrive()
    assert (desk.received, desk.kinds) == ([], before)


def test_what_was_not_yet_looked_at_goes_soon_afterwards(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.done()
    desk.sent()
    desk.days = 40
    desk.begin()
    clearing = Clearing(desk.inbox, desk.audit, THERE, 30)
    monkeypatch.setattr("srh_clinic.pacs.clearing.SOON", 0.0)
    monkeypatch.setattr("srh_clinic.pacs.clearing.LOOKED", 0.05)
    clearing.look(desk.ledger)
    assert len(desk.received) == 4
    desk.arrive()
    clearing.look(desk.ledger)
    assert desk.received == []
