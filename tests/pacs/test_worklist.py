"""A performer of a worklist: each workitem is claimed by one, told of, and completed or canceled, whatever cuts it off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ups_server import Archive, serving

from srh_clinic.cohort.deliveries import Deliveries
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.running import Seen
from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.cohort.work import Worker
from srh_clinic.pacs import performing
from srh_clinic.pacs.address import Node, WebAddress
from srh_clinic.pacs.archives import Calling, archive_at
from srh_clinic.pacs.arrival import Arrivals
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.claims import Claims
from srh_clinic.pacs.dicom_json import Json, code_item, dataset_of, items, text
from srh_clinic.pacs.events import CancelRequests
from srh_clinic.pacs.inbox import Inbox
from srh_clinic.pacs.listening import Listening, listen
from srh_clinic.pacs.objects import Instance, ServiceError, objects_in
from srh_clinic.pacs.performing import Performer, Performing
from srh_clinic.pacs.sending import destination_of
from srh_clinic.pacs.web import WebArchive
from srh_clinic.pacs.worklist import (
    CAUSES,
    Filter,
    LostClaimError,
    Worklist,
    cancellation_of,
    change_of,
    completion_of,
    inputs_of,
    urgency,
)

UID = "1.2.3.1"
CANARY = "CANARY"


def input_of(slide: Path, *, all_of_it: bool = False) -> Json:
    """The item of an Input Information Sequence for a slide."""
    objects = objects_in([slide])
    instance = objects[0].instance
    sops = [] if all_of_it else [dataset_of(ReferencedSOPInstanceUID=one.instance.sop) for one in objects]
    named: dict[str, Any] = {"StudyInstanceUID": instance.study, "SeriesInstanceUID": instance.series}
    return dataset_of(**named, ReferencedSOPSequence=sops)


@dataclass
class Site:
    """A listener's parts, with a worker that is told what to do of each case."""

    out: Path
    url: str
    performer: Performer
    arrivals: Arrivals
    ledger: Ledger

    def beat(self, *, search: bool = True) -> None:
        """What the listener does again and again."""
        self.performer.step(self.ledger, search=search)
        self.arrivals.look(self.ledger)

    def work(self, does: Callable[[Ledger, Any], object]) -> None:
        """A worker's next case."""
        claim = self.ledger.claim()
        assert claim is not None
        does(self.ledger, claim)

    def deliver(self, state: Any = "sent") -> None:
        """What the thread that sends results notes."""
        deliveries = Deliveries(self.ledger, self.url)
        due = deliveries.due()
        assert due is not None
        deliveries.note(due, state, "")

    @property
    def stages(self) -> list[str]:
        return [one.stage for one in Claims(self.ledger, self.url).all()]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(entry.state, entry.kind) for entry in self.ledger.entries()]


def site(out: Path, url: str, slide: Path, which: Filter = Filter()) -> Site:  # noqa: B008 - it is frozen
    """A new process of a listener on a run's folder."""
    service = archive_at(url, Calling(), {})
    assert isinstance(service, WebArchive)
    worklist, inbox, audit = Worklist(service, "SRHCLINIC"), Inbox(out / "inbox"), Audit(out / "audit.jsonl")
    performer = Performer(
        worklist,
        which,
        service,
        inbox,
        audit,
        results=lambda name: sorted(slide.iterdir()) if name else [],
        there=(url, service.address),
        requests=CancelRequests(worklist),
    )
    return Site(out, url, performer, Arrivals(inbox, audit, settle=0.0), Ledger(out / "ledger.sqlite"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performing, "REPORTED", 0.0)
    monkeypatch.setattr(performing, "HEARTBEAT", 0.0)
    monkeypatch.setattr(performing, "FIRST_WAIT", 0.0)


@pytest.fixture
def archive(slide: Path) -> Archive:
    """A service with a slide, and a workitem that asks for it."""
    made = Archive()
    for one in objects_in([slide]):
        made.add(one.path.read_bytes())
    made.schedule(UID, input_of(slide))
    return made


@pytest.fixture
def service(archive: Archive) -> Iterator[str]:
    with serving(archive) as url:
        yield url


def done(ledger: Ledger, claim: Any) -> None:
    assert ledger.finish(claim, "computed", "pixels", "outputs")


def test_a_workitem_is_claimed_its_progress_told_and_completed_with_references(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    assert archive.state(UID) == "IN PROGRESS"
    assert len(here.ledger.entries()) == 1
    here.work(lambda ledger, claim: (ledger.renew(claim, "restoring 3/10"), here.beat(), done(ledger, claim)))
    here.beat()
    assert archive.state(UID) == "IN PROGRESS"  # nothing is completed before its results are there
    here.deliver()
    here.beat()
    assert (here.stages, archive.state(UID)) == (["completed"], "COMPLETED")
    told = [what for _, what in archive.history]
    assert told[0] == "IN PROGRESS"
    assert told[-2:] == ["100 %", "COMPLETED"]
    percents = [float(what.split()[0]) for what in told[1:-1]]
    assert percents == sorted(percents)
    assert 32 in percents  # 3 of 10 tiles
    (performed,) = items(archive.workitems[UID], "UnifiedProcedureStepPerformedProcedureSequence")
    (output,) = items(performed, "OutputInformationSequence")
    objects = objects_in([slide])
    assert {text(sop, "ReferencedSOPInstanceUID") for sop in items(output, "ReferencedSOPSequence")} == {
        one.instance.sop for one in objects
    }
    (where,) = items(output, "WADORSRetrievalSequence")
    first_of = objects[0].instance
    assert text(where, "RetrieveURL") == f"{service}/studies/{first_of.study}/series/{first_of.series}"
    assert "TransactionUID" not in str(archive.workitems[UID])
    here.beat()
    assert here.stages == ["completed"]


def test_two_performers_race_and_each_workitem_is_done_by_one(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    for number in range(2, 9):
        archive.schedule(f"1.2.3.{number}", input_of(slide))
    for name in "ab":
        (tmp_path / name).mkdir()

    def perform(name: str) -> list[str]:
        here = site(tmp_path / name, service, slide)
        while any(archive.state(uid) in ("SCHEDULED", "IN PROGRESS") for uid in archive.workitems):
            here.beat()
            if (claim := here.ledger.claim()) is not None:
                done(here.ledger, claim)
                here.deliver()
        return [one.uid for one in Claims(here.ledger, service).all() if one.stage == "completed"]

    with ThreadPoolExecutor(2) as pool:
        a, b = pool.map(perform, "ab")
    assert sorted(a + b) == sorted(archive.workitems)
    assert {archive.state(uid) for uid in archive.workitems} == {"COMPLETED"}
    assert [what for _, what in archive.history].count("IN PROGRESS") == 8


def test_a_claim_that_another_was_faster_with_is_left_alone(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    scheduled = here.performer.worklist.scheduled(Filter())
    here.performer.worklist.change(UID, "IN PROGRESS", "2.25.1")  # another's, after our search
    here.performer._scheduled = lambda: scheduled  # type: ignore[method-assign]
    here.beat()
    here.beat()
    assert here.stages == ["anothers"]
    assert archive.claims[UID] == "2.25.1"
    assert [what for _, what in archive.history] == ["IN PROGRESS"]


@pytest.mark.parametrize("told", [True, False])
def test_a_claim_is_written_down_before_it_is_sent_and_goes_on_as_ours(
    archive: Archive, service: str, slide: Path, tmp_path: Path, told: bool
) -> None:
    """Killed before the claim was sent, or after it was taken and before that was noted: the next process goes on."""
    here = site(tmp_path, service, slide)
    claimed = Claims(here.ledger, service).begin(UID)
    if told:
        here.performer.worklist.change(UID, "IN PROGRESS", claimed.transaction)
    again = site(tmp_path, service, slide)
    again.beat(search=False)
    assert again.stages == ["held"]
    assert archive.claims[UID] == claimed.transaction
    assert [what for _, what in archive.history].count("IN PROGRESS") == 1


@pytest.mark.parametrize("at", ["fetched", "working", "delivered", "updated", "completed"])
def test_a_process_that_ends_anywhere_is_followed_by_one_that_ends_the_workitem(
    archive: Archive, service: str, slide: Path, tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """The process ends here."""

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    here = site(tmp_path, service, slide)
    worklist = here.performer.worklist
    if at == "fetched":
        monkeypatch.setattr(here.performer.inbox, "take", killed)
        with pytest.raises(KilledError):
            here.beat()
    else:
        here.beat()
        here.beat()
    if at in ("delivered", "updated", "completed"):
        here.work(done)
        here.deliver()
    if at in ("updated", "completed"):
        change = worklist.change
        monkeypatch.setattr(
            worklist, "change", lambda uid, state, by: killed() if at == "updated" else (change(uid, state, by), killed())
        )
        with pytest.raises(KilledError):
            here.beat()
        assert here.stages == ["completing"]
    again = site(tmp_path, service, slide)
    again.beat()
    again.beat()
    if at in ("fetched", "working"):
        again.work(done)
        again.deliver()
        again.beat()
    assert (again.stages, archive.state(UID)) == (["completed"], "COMPLETED")
    assert [what for _, what in archive.history].count("COMPLETED") == 1
    assert [entry.attempts for entry in again.ledger.entries()] == [1]
    assert not (tmp_path / "worklist").exists()


def test_a_lost_claim_stops_the_work_and_completes_nothing(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    claim = here.ledger.claim()
    archive.claims[UID] = "2.25.1"  # the service has given it to somebody else
    here.beat()
    assert here.stages == ["lost"]
    assert here.states == [("parked", "claim-lost")]
    assert claim is not None
    assert not here.ledger.renew(claim)
    assert not here.ledger.finish(claim, "computed", "", "")
    here.beat()
    assert archive.state(UID) == "IN PROGRESS"
    assert "100 %" not in [what for _, what in archive.history]


def test_a_claim_that_is_lost_at_the_very_end_is_not_completed(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    here.work(done)
    here.deliver()
    archive.workitems[UID]["00741000"] = {"vr": "CS", "Value": ["CANCELED"]}
    here.beat()
    assert (here.stages, archive.state(UID)) == (["lost"], "CANCELED")


def test_a_requester_that_asks_for_it_has_its_workitem_canceled_with_its_own_reason(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    until = time.monotonic() + 10
    while not archive.channels.get("SRHCLINIC") and time.monotonic() < until:
        time.sleep(0.01)
    archive.request_cancel("1.2.3.999")  # not ours
    reason = code_item("110526", "DCM", "Resource pre-empted")
    archive.request_cancel(UID, dataset_of(ProcedureStepDiscontinuationReasonCodeSequence=[reason]))
    while here.performer.requests.wants(UID) is None and time.monotonic() < until:
        time.sleep(0.01)
    here.beat()
    here.performer.requests.close()
    assert (here.stages, archive.state(UID), here.states) == (["canceled"], "CANCELED", [("parked", "canceled")])
    (progress,) = items(archive.workitems[UID], "ProcedureStepProgressInformationSequence")
    assert items(progress, "ProcedureStepDiscontinuationReasonCodeSequence") == [reason]


@pytest.mark.parametrize(
    ("kind", "state", "cause"),
    [
        ("refused", "parked", "not-srh"),
        ("channel-missing", "parked", "incomplete"),
        ("worker-died", "parked", "memory"),
        ("ZeroDivisionError", "failed", "defect"),
    ],
)
def test_what_cannot_be_done_is_canceled_with_a_code_and_no_word_of_whose_it_is(
    archive: Archive, service: str, slide: Path, tmp_path: Path, kind: str, state: str, cause: str
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    ends = Ledger.park if state == "parked" else Ledger.fail
    here.work(lambda ledger, claim: ends(ledger, claim, kind, f"{CANARY}^JANE in /data/{CANARY}"))
    here.beat()
    assert (here.stages, archive.state(UID)) == (["canceled"], "CANCELED")
    (progress,) = items(archive.workitems[UID], "ProcedureStepProgressInformationSequence")
    (code,) = items(progress, "ProcedureStepDiscontinuationReasonCodeSequence")
    assert text(code, "CodeValue") == CAUSES[cause][0].value  # type: ignore[index]
    assert text(progress, "ReasonForCancellation") == CAUSES[cause][1]  # type: ignore[index]
    assert CANARY not in str(archive.workitems[UID]) + (tmp_path / "audit.jsonl").read_text()


def test_input_that_the_archive_lacks_and_results_that_it_refuses_cancel(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    for uid, missing in (("1.2.3.2", dataset_of(ReferencedSOPInstanceUID="1.2.3.4.5")), ("1.2.3.3", None)):
        item = input_of(slide)
        item |= dataset_of(ReferencedSOPSequence=[missing]) if missing else dataset_of(SeriesInstanceUID="1.2.3.4.6")
        archive.schedule(uid, item)
    here = site(tmp_path, service, slide)
    here.performer.most = 3
    here.beat()
    assert [archive.state(uid) for uid in (UID, "1.2.3.2", "1.2.3.3")] == ["IN PROGRESS", "CANCELED", "CANCELED"]
    here.work(done)
    here.deliver("refused")
    here.beat()
    assert archive.state(UID) == "CANCELED"
    codes = [
        text(
            items(
                items(item, "ProcedureStepProgressInformationSequence")[0], "ProcedureStepDiscontinuationReasonCodeSequence"
            )[0],
            "CodeValue",
        )
        for item in archive.workitems.values()
    ]
    assert codes == [CAUSES[cause][0].value for cause in ("results-refused", "incomplete", "incomplete")]


def test_a_study_that_the_archive_does_not_know_cancels_and_holds_nobody_up(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    archive.unknown = True
    archive.workitems.clear()
    archive.schedule("1.1", input_of(slide) | dataset_of(StudyInstanceUID="1.2.3.4.7"))
    here = site(tmp_path, service, slide)
    here.beat()
    assert (here.stages, archive.state("1.1")) == (["canceled"], "CANCELED")
    (progress,) = items(archive.workitems["1.1"], "ProcedureStepProgressInformationSequence")
    assert text(progress, "ReasonForCancellation") == CAUSES["incomplete"][1]


def test_what_was_canceled_is_done_when_another_workitem_asks_for_it(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    here = site(tmp_path, service, slide)
    here.beat()
    assert here.ledger.withdraw(here.ledger.entries()[0].name, "canceled", "")
    here.beat()
    assert archive.state(UID) == "CANCELED"
    archive.schedule("1.2.3.2", input_of(slide))
    here.beat()
    assert here.states == [("waiting", "retried")]
    here.work(done)
    here.deliver()
    here.beat()
    assert archive.state("1.2.3.2") == "COMPLETED"


def test_a_service_in_trouble_is_asked_less_and_less_often_and_not_before_it_says(
    archive: Archive, service: str, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performing, "FIRST_WAIT", 2.0)
    now = [1000.0]
    monkeypatch.setattr("srh_clinic.pacs.performing.time.monotonic", lambda: now[0])
    here = site(tmp_path, service, slide)
    archive.answers = [503] * 1000

    def asked_within(seconds: float) -> int:
        before = len(archive.heard)
        for _ in range(int(seconds / 2)):
            here.performer.step(here.ledger)
            now[0] += 2
        return len(archive.heard) - before

    assert asked_within(120) == 6  # after 2, 4, 8, ... 60 s
    archive.answered_with = {"Retry-After": "300"}
    assert asked_within(360) == 2
    archive.answers.clear()
    assert asked_within(310) > 2
    assert here.stages == ["held"]


def test_a_service_that_cannot_tell_of_cancel_requests_is_not_asked_in_every_step(
    archive: Archive, service: str, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site(tmp_path, service, slide)
    asked: list[str] = []

    def subscribe(uid: str) -> bool:
        asked.append(uid)
        raise ServiceError("the answer 500 to a subscription", "a service that does it", service, 500)

    monkeypatch.setattr(here.performer.worklist, "subscribe", subscribe)
    for _ in range(4):
        here.beat()
    assert (here.stages, asked) == (["held"], [UID])


@pytest.mark.parametrize("step", ["_bring_input", "_follow", "_complete"])
def test_a_defect_with_one_workitem_cancels_it_and_ends_nothing(
    archive: Archive, service: str, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    here = site(tmp_path, service, slide)
    if step == "_complete":
        here.beat()
        here.work(done)
        here.deliver()
    monkeypatch.setattr(here.performer, step, lambda *_: {}["CANARY"])
    for _ in range(3):
        here.beat()
    assert (here.stages, archive.state(UID)) == (["canceled"], "CANCELED")
    told = (tmp_path / "audit.jsonl").read_text()
    assert '"reason": "KeyError"' in told
    assert CANARY not in told


def test_what_was_fetched_in_vain_does_not_stay(archive: Archive, service: str, slide: Path, tmp_path: Path) -> None:
    archive.withhold = {objects_in([slide])[0].instance.sop}
    here = site(tmp_path, service, slide)
    here.beat()
    assert archive.state(UID) == "CANCELED"
    assert not (tmp_path / "worklist").exists()


def test_a_service_that_is_away_or_begun_anew_is_asked_again(
    archive: Archive, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(archive) as url:
        here = site(tmp_path, url, slide)
        here.beat()
        archive.answers = [503, 503]
        here.beat()
        assert here.stages == ["held"]
    here.beat()  # nobody is there
    here.work(done)
    with serving(archive, int(url.split(":")[2].split("/")[0])) as again:
        assert again == url
        here.deliver()
        here.beat()
    assert (here.stages, archive.state(UID)) == (["completed"], "COMPLETED")
    said = (tmp_path / "audit.jsonl").read_text()
    assert '"reason": "answer-503"' in said
    assert '"reason": "no-answer"' in said


def test_only_what_is_for_this_station_and_ready_is_claimed_the_most_urgent_first(
    archive: Archive, service: str, slide: Path, tmp_path: Path
) -> None:
    station = {"00404025": {"vr": "SQ", "Value": [code_item("SRH-1", "99X", "one")]}}
    archive.workitems.clear()
    archive.schedule("1.1", input_of(slide))
    archive.schedule("1.2", input_of(slide), **station, **dataset_of(InputReadinessState="INCOMPLETE"))
    archive.schedule("1.3", **station)  # about nothing
    archive.schedule("1.4", input_of(slide), **station)
    archive.schedule("1.5", input_of(slide), **station, **dataset_of(ScheduledProcedureStepPriority="HIGH"))
    archive.schedule("not a UID", input_of(slide), **station)
    here = site(tmp_path, service, slide, Filter(station="SRH-1"))
    here.performer.most = 5
    here.beat()
    assert [uid for uid, what in archive.history if what == "IN PROGRESS"] == ["1.5", "1.4"]
    assert here.states == [("waiting", "")]  # two workitems about one scan: one case
    assert "ScheduledStationNameCodeSequence.CodeValue=SRH-1" in str([path for _, path, _ in archive.heard])


def test_the_datasets_say_what_the_standard_asks_for() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert change_of("IN PROGRESS", "2.25.7") == {
        "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
        "00081195": {"vr": "UI", "Value": ["2.25.7"]},
    }
    said = cancellation_of("incomplete", when)
    (item,) = items(said, "ProcedureStepProgressInformationSequence")
    assert text(item, "ProcedureStepCancellationDateTime") == "20260102030405.000000+0000"
    assert items(item, "ProcedureStepDiscontinuationReasonCodeSequence") == [
        code_item("110523", "DCM", "Object Set incomplete")
    ]
    done_by = dataset_of(ScheduledWorkitemCodeSequence=[code_item("110004", "DCM", "Computer Aided Detection")])
    outputs = [Instance("1.2", "1.3", f"1.4.{number}", "1.5") for number in (2, 1)] + [Instance("1.2", "1.9", "1.4.3", "1.5")]
    for there in (WebAddress("https://pacs.example/dicom-web"), Node("PACS", "pacs", 104)):
        final = completion_of(done_by, when, when, outputs, there)
        (performed,) = items(final, "UnifiedProcedureStepPerformedProcedureSequence")
        assert items(performed, "PerformedWorkitemCodeSequence") == items(done_by, "ScheduledWorkitemCodeSequence")
        series = items(performed, "OutputInformationSequence")
        assert [len(items(one, "ReferencedSOPSequence")) for one in series] == [2, 1]
    assert text(items(series[0], "DICOMRetrievalSequence")[0], "RetrieveAETitle") == "PACS"
    assert inputs_of({}) == []
    assert sorted([{}, dataset_of(ScheduledProcedureStepPriority="HIGH")], key=urgency)[0] != {}


def test_a_workitem_that_is_not_there_is_not_ours(service: str) -> None:
    archive = archive_at(service, Calling(), {})
    assert isinstance(archive, WebArchive)
    worklist = Worklist(archive, "SRHCLINIC")
    for ask in (
        lambda: worklist.retrieve("1.9"),
        lambda: worklist.update("1.9", "2.25.1", {}),
        lambda: worklist.change("1.9", "IN PROGRESS", "2.25.1"),
        lambda: worklist.change(UID, "COMPLETED", "2.25.1"),
    ):
        with pytest.raises(LostClaimError):
            ask()


@contextmanager
def one_worker_here(settings: CaseSettings, out: Path, *_: Any, **__: Any) -> Iterator[Any]:
    """In the place of worker processes: one that does what waits whenever it is looked at."""
    pipeline = settings.pipeline()

    def look(size: int, ledger: Ledger) -> None:
        if ledger.open_cases():
            Worker(pipeline, settings, out, ledger).run(lambda: True)

    yield SimpleNamespace(look=look, alive=1)


def test_a_listener_performs_a_workitem_from_its_claim_to_results_in_the_archive(
    tiny_bundle: Path, archive: Archive, service: str, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srh_clinic.pacs.listening.local_crew", one_worker_here)
    monkeypatch.setattr(performing, "BEAT", 0.1)
    scan = set(archive.objects)
    out, door = tmp_path / "out", Performing(tmp_path / "out", service, service, service, Filter(), Calling())
    settings = CaseSettings(bundle=str(tiny_bundle), device="cpu", restoring={"precision": "float32"}, dicom=True)
    destination = destination_of(service, "SRHCLINIC")
    asked = Listening(
        out, settings, doors=[door.checked().door], destination=destination, settle=0.2, audit=tmp_path / "audit"
    )

    class OverError(Exception):
        """Ends the listener."""

    def watch(beat: Seen, ledger: Ledger) -> None:
        assert beat.seconds < 300
        if archive.state(UID) == "COMPLETED":
            raise OverError

    with pytest.raises(OverError):
        listen(asked, watch)
    (performed,) = items(archive.workitems[UID], "UnifiedProcedureStepPerformedProcedureSequence")
    outputs = items(performed, "OutputInformationSequence")
    named = {text(sop, "ReferencedSOPInstanceUID") for one in outputs for sop in items(one, "ReferencedSOPSequence")}
    assert named == set(archive.objects) - scan
    assert {text(one, "StudyInstanceUID") for one in outputs} == {objects_in([slide])[0].instance.study}
    told = (tmp_path / "audit").read_text()
    assert [word for word in ("claimed", "arrived", "sent", "completed") if f'"event": "{word}"' not in told] == []
    assert CANARY not in told
