"""Results go out once each, later when nobody answers, and never of a scan that the PACS does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from arriving_slides import until

from srh_clinic.cohort.deliveries import Deliveries, count_deliveries
from srh_clinic.cohort.ledger import Enrolled, Ledger
from srh_clinic.cohort.settings import DICOM
from srh_clinic.cohort.telling import metrics_text, status_record
from srh_clinic.errors import InputError
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.delivering import Delivery, delivering
from srh_clinic.pacs.destination import Sent, UnreachableError
from srh_clinic.pacs.inbox import INBOX


class Pacs:
    """Takes what it is told to."""

    name = "dicom://PACS@pacs:104"

    def __init__(self) -> None:
        self.answers: list[Sent | Exception] = []
        self.got: list[list[str]] = []

    def send(self, objects: Sequence[Path]) -> Sent:
        answer = self.answers.pop(0) if self.answers else Sent(len(objects))
        if isinstance(answer, Exception):
            raise answer
        self.got.append([file.name for file in objects])
        return answer


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One with a case that came from a PACS, done."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    finish(ledger, tmp_path, "a" * 12, tmp_path / INBOX / "study" / "file.dcm")
    return ledger


def finish(ledger: Ledger, out: Path, name: str, source: Path, outputs: str = "o") -> None:
    ledger.enrol([Enrolled(name, (str(source),), outputs)])
    claim = ledger.claim()
    assert claim is not None
    folder = out / DICOM / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("SRS2845.dcm", "SRS2845-2.dcm", "report.dcm"):
        (folder / file).touch()
    ledger.finish(claim, "computed", "p", outputs)


def test_each_case_goes_out_once(ledger: Ledger, tmp_path: Path) -> None:
    pacs = Pacs()
    delivery = Delivery(tmp_path, pacs, Audit(None))
    assert [delivery.deliver_next(ledger) for _ in range(3)] == [True, False, False]
    assert pacs.got == [["SRS2845-2.dcm", "SRS2845.dcm", "report.dcm"]]
    assert [move.kind for move in ledger.history()][-2:] == ["computed", "sent"]
    assert Deliveries(ledger, pacs.name).state_of("a" * 12) == ("sent", "")
    assert ledger.state_of("a" * 12) == "done"
    finish(ledger, tmp_path, "a" * 12, tmp_path / INBOX / "study" / "file.dcm", "others")
    assert delivery.deliver_next(ledger)
    assert len(pacs.got) == 2


def test_without_the_slide_the_rest_goes_out(ledger: Ledger, tmp_path: Path) -> None:
    pacs = Pacs()
    Delivery(tmp_path, pacs, Audit(None), slide=False).deliver_next(ledger)
    assert pacs.got == [["report.dcm"]]


def test_one_who_does_not_answer_is_tried_again_later(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr("srh_clinic.cohort.deliveries.time.time", lambda: now[0])
    pacs = Pacs()
    pacs.answers = [UnreachableError("no-connection")] * 2
    delivery, deliveries = Delivery(tmp_path, pacs, Audit(None)), Deliveries(ledger, pacs.name)
    for wait in (5, 10):
        assert delivery.deliver_next(ledger)
        assert deliveries.state_of("a" * 12) == ("late", "no-connection")
        now[0] += wait - 1
        assert not delivery.deliver_next(ledger)
        now[0] += 2
    assert delivery.deliver_next(ledger)
    assert [move.kind for move in ledger.history()][-3:] == ["computed", "late-no-connection", "sent"]


def test_one_who_does_not_answer_for_weeks_is_still_asked(ledger: Ledger, tmp_path: Path) -> None:
    pacs = Pacs()
    pacs.answers = [UnreachableError("no-connection")]
    with ledger.transaction() as db:
        db.execute("INSERT INTO deliveries VALUES (?, ?, 'o', 'late', 2000, 0, '', 0)", ("a" * 12, pacs.name))
    delivery = Delivery(tmp_path, pacs, Audit(None))
    assert [delivery.deliver_next(ledger) for _ in range(2)] == [True, False]
    assert Deliveries(ledger, pacs.name).state_of("a" * 12) == ("late", "no-connection")


def test_what_was_late_elsewhere_is_sent_to_where_results_go_now(ledger: Ledger, tmp_path: Path) -> None:
    mistyped, pacs = Pacs(), Pacs()
    mistyped.name, mistyped.answers = "dicom://PACS@pacs:140", [UnreachableError("no-connection")]
    Delivery(tmp_path, mistyped, Audit(None)).deliver_next(ledger)
    with delivering(Delivery(tmp_path, pacs, Audit(None)), ledger.path):
        until(lambda: pacs.got and count_deliveries(ledger)["sent"])
    assert count_deliveries(ledger) == {"sent": 1, "refused": 0, "late": 0, "kept": 0}  # no alarm for ever


@pytest.mark.parametrize(("asked", "wait"), [(120.0, 120.0), (1e9, 900.0), (1.0, 5.0)])
def test_one_who_says_when_to_come_again_is_left_alone_until_then(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: float, wait: float
) -> None:
    now = [1e9]
    monkeypatch.setattr("srh_clinic.cohort.deliveries.time.time", lambda: now[0])
    pacs = Pacs()
    pacs.answers = [UnreachableError("answer-503", asked)]
    delivery = Delivery(tmp_path, pacs, Audit(None))
    assert delivery.deliver_next(ledger)
    now[0] += wait - 1
    assert not delivery.deliver_next(ledger)
    now[0] -= 1e6  # the clock is set back
    assert delivery.deliver_next(ledger)
    assert len(pacs.got) == 1


def test_a_defect_in_one_delivery_holds_the_others_not_up(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, tmp_path, "b" * 12, tmp_path / INBOX / "study" / "other.dcm")
    pacs = Pacs()
    pacs.answers = [ValueError("of a library"), Sent(3)]
    delivery = Delivery(tmp_path, pacs, Audit(tmp_path / "audit"))
    assert [delivery.deliver_next(ledger) for _ in range(3)] == [True, True, False]
    assert Deliveries(ledger, pacs.name).state_of("a" * 12) == ("late", "failed-ValueError")
    assert '"reason": "failed-ValueError"' in (tmp_path / "audit").read_text()
    assert count_deliveries(ledger)["sent"] == 1


def test_a_thread_that_ends_is_seen(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Delivery(tmp_path, Pacs(), Audit(None))
    monkeypatch.setattr(delivery, "deliver_next", lambda _: 1 / 0)
    with delivering(delivery, ledger.path) as outgoing:
        until(lambda: outgoing.failed)
        with pytest.raises(ZeroDivisionError):
            outgoing.check()


@pytest.mark.parametrize("answer", [Sent(2, ("no-presentation-context",)), InputError("a", "b"), OSError(5, "cannot")])
def test_what_is_refused_waits_for_somebody_to_say_retry(ledger: Ledger, tmp_path: Path, answer: Sent | Exception) -> None:
    pacs = Pacs()
    pacs.answers = [answer]
    delivery = Delivery(tmp_path, pacs, Audit(None))
    assert [delivery.deliver_next(ledger) for _ in range(2)] == [True, False]
    assert count_deliveries(ledger) == {"sent": 0, "refused": 1, "late": 0, "kept": 0}
    assert ledger.retry() == ["a" * 12]
    assert delivery.deliver_next(ledger)
    assert count_deliveries(ledger)["sent"] == 1
    assert ledger.state_of("a" * 12) == "done"


def test_a_scan_that_came_from_no_pacs_stays_here(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger, tmp_path, "b" * 12, tmp_path / "watched" / "slide.tif")
    pacs = Pacs()
    delivery = Delivery(tmp_path, pacs, Audit(None))
    assert [delivery.deliver_next(ledger) for _ in range(3)] == [True, True, False]
    assert len(pacs.got) == 1
    assert Deliveries(ledger, pacs.name).state_of("b" * 12) == ("kept", "no-study")


def test_status_and_metrics_tell_of_results_on_their_way(ledger: Ledger, tmp_path: Path) -> None:
    Delivery(tmp_path, Pacs(), Audit(None)).deliver_next(ledger)
    status = status_record(ledger.entries(), "", count_deliveries(ledger))
    assert status["deliveries"] == {"sent": 1, "refused": 0, "late": 0, "kept": 0}
    assert 'srh_clinic_deliveries{state="sent"} 1\n' in metrics_text(ledger.entries(), count_deliveries(ledger))


def test_a_ledger_of_the_first_version_gets_what_it_lacks(tmp_path: Path) -> None:
    with Ledger(tmp_path / "old.sqlite") as ledger, ledger.transaction() as db:
        db.execute("DROP TABLE deliveries")
        db.execute("PRAGMA user_version = 1")
    with Ledger(tmp_path / "old.sqlite") as ledger:
        assert sum(count_deliveries(ledger).values()) == 0
