"""Results on their way: what is done is sent to the destination, once, in a thread that holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from srh_clinic.cohort.deliveries import Deliveries, Due
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.cohort.settings import DICOM
from srh_clinic.errors import InputError
from srh_clinic.integration.targets import is_of_slide
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.destination import Destination, UnreachableError
from srh_clinic.pacs.inbox import INBOX
from srh_clinic.pacs.objects import ServiceError

BEAT = 0.5
"""Seconds after which is looked whether something is to be sent, when nobody says so."""


class Delivery:
    """Sends the results of a run's cases.

    Parameters
    ----------
    out
        The run's folder.
    slide
        Whether the restored slide goes along, which is most of what is sent.
    """

    def __init__(self, out: Path, destination: Destination, audit: Audit, *, slide: bool = True) -> None:
        self.out, self.destination, self.audit, self.slide = out, destination, audit, slide

    def deliver_next(self, ledger: Ledger) -> bool:
        """Send the results of one case and note what came of it; False when there is none to send now.

        A call that is cut between sending and noting sends again: results have the UIDs that follow from what made them, so
        the other side has each once.
        """
        deliveries = Deliveries(ledger, self.destination.name)
        due = deliveries.due()
        if due is None:
            return False
        objects = self.objects_of(due)
        if not objects:
            deliveries.note(due, "kept", "no-study")
            return True
        try:
            sent = self.destination.send(objects)
        except UnreachableError as error:
            self._note_late(deliveries, due, str(error), error.after)
        except (InputError, OSError) as error:
            reason = error.word if isinstance(error, ServiceError) and error.status is not None else "unusable"
            deliveries.note(due, "refused", reason)
            self.audit.note("refused", case=due.name, to=self.destination.name, reason=reason)
        except Exception as error:  # a defect of ours or a library's: the other cases go on, and this one is tried again
            self._note_late(deliveries, due, f"failed-{type(error).__name__}")
        else:
            reason = sent.refused[0] if sent.refused else ""
            deliveries.note(due, "refused" if sent.refused else "sent", reason)
            said: dict[str, str | int] = {"stored": sent.stored, "refused": len(sent.refused)}
            self.audit.note("sent", case=due.name, to=self.destination.name, **said, **({"reason": reason} if reason else {}))
        return True

    def _note_late(self, deliveries: Deliveries, due: Due, reason: str, after: float = 0.0) -> None:
        deliveries.note(due, "late", reason, after)
        self.audit.note("late", case=due.name, to=self.destination.name, reason=reason, attempt=due.attempts + 1)

    def objects_of(self, due: Due) -> list[Path]:
        """The files to send of a case; none of one that is of no study there."""
        inbox = (self.out / INBOX).absolute()
        if not all(inbox in Path(file).parents for file in due.source):
            return []
        return result_objects(self.out, due.name, slide=self.slide)


def result_objects(out: Path, name: str, *, slide: bool) -> list[Path]:
    """The files of a case's results that go out; without the restored slide unless it is to go along."""
    return [file for file in sorted((out / DICOM / name).glob("*.dcm")) if slide or not is_of_slide(file)]


@dataclass
class Outgoing:
    """A thread that delivers."""

    failed: BaseException | None = None
    _wake: threading.Event = field(default_factory=threading.Event)

    def wake(self) -> None:
        """Something is to be sent."""
        self._wake.set()

    def check(self) -> None:
        """Raise what the thread ended by: a listener whose results go nowhere is not healthy."""
        if self.failed is not None:
            raise self.failed

    def wait(self) -> None:
        """Until something is to be sent, or a while."""
        self._wake.wait(BEAT)
        self._wake.clear()


@contextmanager
def delivering(delivery: Delivery, ledger: Path) -> Iterator[Outgoing]:
    """Deliver in a thread for as long as the context lasts.

    It ends between two cases: one that is being sent is sent.
    """
    over, outgoing = threading.Event(), Outgoing()

    def run() -> None:
        try:
            with Ledger(ledger) as opened:
                Deliveries(opened, delivery.destination.name).take_over()
                while not over.is_set():
                    try:
                        more = delivery.deliver_next(opened)
                    except (InputError, OSError):  # a full disk, or a ledger that is locked: the next beat may go better
                        more = False
                    if not more:
                        outgoing.wait()
        except BaseException as error:
            outgoing.failed = error

    thread = threading.Thread(target=run, name="delivering", daemon=True)
    thread.start()
    try:
        yield outgoing
    finally:
        over.set()
        outgoing.wake()
        thread.join()
