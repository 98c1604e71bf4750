"""The listener: what comes in becomes cases of one ledger, workers do them, and their results go out; until it is ended."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from srh_clinic.cohort.cases import Shard
from srh_clinic.cohort.ledger import DEATHS, Ledger
from srh_clinic.cohort.running import Seen, ledger_file, local_crew
from srh_clinic.cohort.settings import CaseSettings
from srh_clinic.errors import InputError
from srh_clinic.files import claimed
from srh_clinic.pacs.arrival import PATIENCE, SETTLE, Arrivals
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.clearing import Clearing
from srh_clinic.pacs.delivering import Delivery, Outgoing, delivering
from srh_clinic.pacs.destination import Destination
from srh_clinic.pacs.door import Door
from srh_clinic.pacs.inbox import INBOX, Inbox
from srh_clinic.pacs.receiving import Port, receiving
from srh_clinic.pacs.watched import WatchedFolder, require_readable

BEAT = 0.25
"""Seconds between two beats of the loop, each of which looks at doors, inbox, workers and ledger."""

MakeDoor = Callable[[Inbox, Audit], Door]


@dataclass(frozen=True)
class Listening:
    """What a listener does; see the options of ``srh-clinic pacs listen``.

    Attributes
    ----------
    out
        The run's folder: ledger, inbox, results.
    port, folder, doors
        By which ways cases come in.
    destination
        Where results go; None keeps them here.
    slide
        Whether the restored slide is sent too.
    settle, patience
        See :class:`~srh_clinic.pacs.arrival.Arrivals`.
    keep
        See :class:`~srh_clinic.pacs.clearing.Clearing`.
    """

    out: Path
    settings: CaseSettings
    port: Port | None = None
    folder: Path | None = None
    doors: Sequence[MakeDoor] = ()
    destination: Destination | None = None
    slide: bool = True
    settle: float = SETTLE
    patience: float = PATIENCE
    keep: float | None = None
    workers: int = 1
    deaths: int = DEATHS
    audit: Path | None = None


def listen(asked: Listening, watch: Callable[[Seen, Ledger], object] = lambda seen, ledger: None) -> None:
    """Take in cases, do them and send their results, for ever: it ends by an exception, such as that of a signal.

    What is under way then is found again by the next call. The case in hand waits with the tiles that it has.

    Parameters
    ----------
    watch
        Called in every beat.

    Raises
    ------
    InputError
        When no way leads in, one cannot be opened, or the settings are others than those of the cases that are here.
    BusyError
        When another listener uses the folder.
    OSError
        When the disk is full.
    """
    if asked.port is None and asked.folder is None and not asked.doors:
        raise InputError("no way by which cases come in", "--port, --folder or --ups")
    if asked.folder is not None:
        require_readable(asked.folder)
    asked.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="pydicom")  # it prints values that break their VR; in all threads
    began, path = time.monotonic(), ledger_file(asked.out, Shard())
    with ExitStack() as stack:
        stack.enter_context(claimed(asked.out / INBOX))
        inbox, audit = Inbox(asked.out.absolute() / INBOX), Audit(asked.audit)
        ledger = stack.enter_context(Ledger(path, deaths=asked.deaths))
        arrivals = Arrivals(inbox, audit, asked.settle, asked.patience)
        clearing = Clearing(inbox, audit, None if asked.destination is None else asked.destination.name, asked.keep)
        doors = _open_doors(asked, inbox, audit, stack)
        workers = stack.enter_context(local_crew(asked.settings, asked.out, path, asked.workers, asked.deaths, stay=True))
        outgoing = Outgoing()
        if asked.destination is not None:
            delivery = Delivery(asked.out, asked.destination, audit, slide=asked.slide)
            outgoing = stack.enter_context(delivering(delivery, path))
        where = None if asked.port is None else stack.enter_context(receiving(asked.port, inbox, audit))
        audit.note("begin", port=where, workers=asked.workers)
        stack.callback(audit.note, "end")
        done = 0
        while True:
            for door in doors:
                door.look(ledger)
            arrivals.look(ledger)
            clearing.look(ledger)
            inbox.sweep()
            ledger.beat("listens")
            counts, running = ledger.overview()
            workers.look(asked.workers, ledger)
            if counts["done"] != done:
                done = counts["done"]
                outgoing.wake()
            outgoing.check()
            watch(Seen(counts, tuple(running), workers.alive, time.monotonic() - began), ledger)
            time.sleep(BEAT)


def _open_doors(asked: Listening, inbox: Inbox, audit: Audit, stack: ExitStack) -> list[Door]:
    doors: list[Door] = []
    if asked.folder is not None:
        doors.append(WatchedFolder(asked.folder.absolute(), inbox, audit, asked.settle))
    doors += [make(inbox, audit) for make in asked.doors]
    for door in doors:
        stack.callback(door.close)
    return doors
