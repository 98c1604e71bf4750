"""Workitems done: claimed, their input fetched, their cases done by the same workers as any other, their results referred to.

::

    claiming  ----->  held  ----->  completing  ----->  completed
        |              |  \\_______
        v              v           v
     anothers         lost      canceling  ------->  canceled

Each arrow is written down before it is told to the service. What was under way when a process ended goes on by the same claim.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from srh_clinic.cohort.cases import case_name
from srh_clinic.cohort.deliveries import Deliveries, seconds_until_again
from srh_clinic.cohort.ledger import ENDED, Entry, Ledger
from srh_clinic.errors import InputError
from srh_clinic.pacs.address import Node, WebAddress, parse_address, web_address
from srh_clinic.pacs.archives import Calling, archive_at
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.claims import OPEN, Claimed, Claims
from srh_clinic.pacs.credentials import credentials_for
from srh_clinic.pacs.delivering import result_objects
from srh_clinic.pacs.dicom_json import Json
from srh_clinic.pacs.events import CancelRequests
from srh_clinic.pacs.inbox import Inbox
from srh_clinic.pacs.objects import Archive, Instance, ServiceError, Wanted, is_whole, name_of, objects_in, place_of
from srh_clinic.pacs.web import WebArchive
from srh_clinic.pacs.worklist import (
    CAUSE_OF,
    CAUSES,
    Cause,
    Filter,
    Input,
    LostClaimError,
    Worklist,
    cancellation_of,
    completion_of,
    inputs_of,
    outputs_of,
    progress_of,
    state_of,
    uid_of,
)
from srh_clinic.progress import silent

BEAT = 1.0
"""Seconds between two looks at the workitems that we have claimed."""

SEARCHED = 10.0
"""Seconds between two searches for what is scheduled."""

REPORTED, HEARTBEAT = 5.0, 60.0
"""Seconds between two reports of progress at least, and at most: by a report that is not taken a lost claim is seen."""

FIRST_WAIT, MOST_WAIT = 2.0, 60.0
"""Seconds until a service that did not do what it was asked to is asked again, the first time and at most by ourselves."""

MOST = 2
"""Workitems that are claimed at a time: one in hand and the next one's input fetched; the others are for other performers."""

SEARCH = ""
"""In the place of a workitem's UID: the search for others."""

WITHDRAWN = CANCELED, LOST = ("canceled", "claim-lost")
"""The ledger's words for a case whose workitem is no longer to be done."""

FETCHED = "worklist"
"""Folder of a run for input on its way into the inbox."""

Results = Callable[[str], Sequence[Path]]
"""The result objects of a case that went to the archive, by the case's name."""


class Performer:
    """Goes on with the workitems of one worklist, a step at a time.

    Parameters
    ----------
    source
        The archive that input is fetched from, whatever places a workitem names.
    results
        Which files of a case were sent.
    there
        Where they were sent to, by the name of that destination in the ledger.
    requests
        Workitems that their requesters want canceled.
    """

    def __init__(
        self,
        worklist: Worklist,
        which: Filter,
        source: Archive,
        inbox: Inbox,
        audit: Audit,
        *,
        results: Results,
        there: tuple[str, WebAddress | Node],
        requests: CancelRequests,
        most: int = MOST,
    ) -> None:
        self.worklist, self.which, self.source, self.inbox, self.audit = worklist, which, source, inbox, audit
        self.results, self.there, self.requests, self.most = results, there, requests, most
        self._told: dict[str, tuple[float, float]] = {}
        self._trouble = ("", -HEARTBEAT)
        self._later: dict[str, tuple[int, float]] = {}

    def step(self, ledger: Ledger, *, search: bool = True) -> None:
        """Look at every workitem that we have claimed, and claim others while there is room.

        A service that does not answer is asked again by the next step.

        Raises
        ------
        OSError
            When the disk is full.
        """
        claims = Claims(ledger, self.worklist.name)
        for claimed in claims.open():
            if self._is_due(claimed.uid):
                self._go_on(claimed, claims)
        if search and len(claims.open()) < self.most:
            known = {one.uid for one in claims.all()}
            for workitem in self._scheduled():
                if (uid := uid_of(workitem)) not in known:
                    self._go_on(claims.begin(uid), claims)
                if len(claims.open()) >= self.most:
                    return

    def _scheduled(self) -> list[Json]:
        if not self._is_due(SEARCH):
            return []
        try:
            found = self.worklist.scheduled(self.which)
        except InputError as error:
            self._note_trouble(SEARCH, error)
            return []
        self._later.pop(SEARCH, None)
        return found

    def _is_due(self, what: str) -> bool:
        """Whether the service may be asked again about a workitem, or for others."""
        return time.monotonic() >= self._later.get(what, (0, 0.0))[1]

    def _go_on(self, claimed: Claimed, claims: Claims) -> None:
        """Whatever can be done of a workitem now."""
        try:
            try:
                self._advance(claimed, claims)
            except LostClaimError:
                self._lose(claims.of(claimed.uid), claims)
        except InputError as error:  # the service or the archive is away: a later step may find it
            self._note_trouble(claimed.uid, error)
        except OSError:
            raise
        except Exception as error:  # a defect of ours or of what it was told: the other workitems go on
            self._give_up_on(claims.of(claimed.uid), claims, type(error).__name__)
        else:
            self._later.pop(claimed.uid, None)

    def _give_up_on(self, claimed: Claimed, claims: Claims, error: str) -> None:
        """Cancel a workitem that cannot be gone on with; leave it, when even that cannot be said."""
        self.audit.note("failed", workitem=name_of(claimed.uid), worklist=self.worklist.name, reason=error)
        if claimed.stage in ("held", "completing"):
            claims.note(claimed, stage="canceling", cause="defect")
        elif claimed.stage in OPEN:
            self._end(claims.note(claimed, stage="lost", cause="defect"))

    def _advance(self, claimed: Claimed, claims: Claims) -> None:
        if claimed.stage == "claiming":
            claimed = self._claim(claimed, claims)
        if claimed.stage == "held":
            self.requests.watch(claimed.uid)
        if claimed.stage == "held" and self.requests.wants(claimed.uid) is not None:
            claimed = self._give_up(claimed, claims, "requested")
        if claimed.stage == "held" and not claimed.cases:
            claimed = self._bring_input(claimed, claims)
        if claimed.stage == "held":
            claimed = self._follow(claimed, claims)
        if claimed.stage == "completing":
            self._complete(claimed, claims)
        if claimed.stage == "canceling":
            self._cancel(claimed, claims)

    def _claim(self, claimed: Claimed, claims: Claims) -> Claimed:
        """Claim a workitem, or see that an earlier call of ours has: by its Transaction UID the service knows."""
        try:
            self.worklist.change(claimed.uid, "IN PROGRESS", claimed.transaction)
        except LostClaimError:
            if not self._holds(claimed):
                self.audit.note("anothers", workitem=name_of(claimed.uid), worklist=self.worklist.name)
                return claims.note(claimed, stage="anothers")
        self.audit.note("claimed", workitem=name_of(claimed.uid), worklist=self.worklist.name)
        return claims.note(claimed, stage="held")

    def _holds(self, claimed: Claimed) -> bool:
        """Whether a workitem is under way by our claim; a service takes a report by that claim alone."""
        try:
            if state_of(self.worklist.retrieve(claimed.uid)) != "IN PROGRESS":
                return False
            self.worklist.update(claimed.uid, claimed.transaction, progress_of(0, "claimed"))
        except LostClaimError:
            return False
        return True

    def _bring_input(self, claimed: Claimed, claims: Claims) -> Claimed:
        """Fetch what a workitem is about, and put it where everything else arrives."""
        self._report(claimed, 1, "fetching its input")
        folder = self._fetched(claimed)
        instances = self._needed(inputs_of(self.worklist.retrieve(claimed.uid)))
        if instances is None:
            return self._give_up(claimed, claims, "incomplete")
        self.source.fetch(instances, folder, silent)
        if not all(is_whole(place_of(one, folder), one) for one in instances):
            return self._give_up(claimed, claims, "incomplete")
        self.inbox.heard(claimed.uid)
        try:
            taken = [self.inbox.take(place_of(one, folder), claimed.uid) for one in instances]
        finally:
            self.inbox.over(claimed.uid)
        self._clear(claimed)
        hows = {one.how for one in taken}
        if causes := [cause for how, cause in _CAUSE_OF_TAKING.items() if how in hows]:
            return self._give_up(claimed, claims, causes[0])
        studies = tuple(sorted({one.study.name for one in taken if one.study is not None}))
        cases = tuple(case_name(series) for series in dict.fromkeys(one.series for one in instances))
        claimed = claims.note(claimed, cases=cases, studies=studies)
        for name in cases:  # asked for once more, after nobody wanted it
            claims.ledger.readmit(name, WITHDRAWN)
        return claimed

    def _fetched(self, claimed: Claimed) -> Path:
        return self.inbox.folder.parent / FETCHED / name_of(claimed.uid)

    def _clear(self, claimed: Claimed) -> None:
        """Take away what was fetched and did not go into the inbox."""
        folder = self._fetched(claimed)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()

    def _needed(self, inputs: Sequence[Input]) -> list[Instance] | None:
        """The instances of a workitem's input that the archive has; None when it lacks one."""
        needed: set[Instance] = set()
        for one in inputs:
            wanted = Wanted(one.study, one.series, modalities=() if one.series else ("SM",))
            there = {instance.sop: instance for instance in self._announced(wanted)}
            if not there or not set(one.sops) <= set(there):
                return None
            needed |= {there[sop] for sop in one.sops or there}
        return sorted(needed) or None

    def _announced(self, wanted: Wanted) -> list[Instance]:
        """What the archive has; nothing of a study that it says it does not know, which another question would not mend."""
        try:
            return self.source.announced(wanted)
        except ServiceError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise
            return []

    def _follow(self, claimed: Claimed, claims: Claims) -> Claimed:
        """See what has become of a workitem's cases, and say so."""
        if {study.name for study in self.inbox.open_studies()} & set(claimed.studies):
            self._report(claimed, 5, "its input has arrived")
            return claimed
        entries = [entry for entry in claims.ledger.entries() if entry.name in claimed.cases]
        if not entries:
            return self._give_up(claimed, claims, "not-srh")
        bad = [entry for entry in entries if entry.state in ("parked", "failed")]
        if bad:
            return self._give_up(claimed, claims, CAUSE_OF.get(bad[0].kind, "defect"))
        if any(entry.state not in ENDED for entry in entries):
            self._report(claimed, *_progress(entries))
            return claimed
        deliveries = Deliveries(claims.ledger, self.there[0])
        states = [None if (found := deliveries.state_of(entry.name)) is None else found[0] for entry in entries]
        if "refused" in states:
            return self._give_up(claimed, claims, "results-refused")
        if None in states or "late" in states:
            self._report(claimed, 95, "storing its results")
            return claimed
        return claims.note(claimed, stage="completing")

    def _report(self, claimed: Claimed, percent: float, words: str) -> None:
        """Say how far it is, not too often; what has been said is never taken back by less."""
        now = time.monotonic()
        when, before = self._told.get(claimed.uid, (-HEARTBEAT, -1.0))
        percent = max(percent, before)
        if now - when >= (REPORTED if percent > before else HEARTBEAT):
            self.worklist.update(claimed.uid, claimed.transaction, progress_of(percent, words))
            self._told[claimed.uid] = (now, percent)

    def _complete(self, claimed: Claimed, claims: Claims) -> None:
        workitem = self.worklist.retrieve(claimed.uid)
        files = [file for name in claimed.cases for file in self.results(name)]
        outputs = [one.instance for one in objects_in(files)] if files else []
        if state_of(workitem) != "COMPLETED" or outputs_of(workitem) != {one.sop for one in outputs}:
            moments = (datetime.fromtimestamp(claimed.began, UTC), datetime.now(UTC))
            said = completion_of(workitem, *moments, outputs, self.there[1])
            self.worklist.update(claimed.uid, claimed.transaction, said)
            self.worklist.change(claimed.uid, "COMPLETED", claimed.transaction)
        self._end(claims.note(claimed, stage="completed"))

    def _give_up(self, claimed: Claimed, claims: Claims, cause: Cause) -> Claimed:
        if cause == "requested":
            self._withdraw(claimed, claims, CANCELED)
        return claims.note(claimed, stage="canceling", cause=cause)

    def _cancel(self, claimed: Claimed, claims: Claims) -> None:
        if state_of(self.worklist.retrieve(claimed.uid)) != "CANCELED":
            said = cancellation_of(_cause(claimed.cause), datetime.now(UTC), self.requests.wants(claimed.uid))
            self.worklist.update(claimed.uid, claimed.transaction, said)
            self.worklist.change(claimed.uid, "CANCELED", claimed.transaction)
        self._end(claims.note(claimed, stage="canceled"))

    def _lose(self, claimed: Claimed, claims: Claims) -> None:
        """The claim is no longer ours: stop, and say nothing more of it.

        Unless it is, and what is not taken is how we describe what we did: then there is another way to end.
        """
        if claimed.stage == "completing" and self._holds(claimed):
            claims.note(claimed, stage="canceling", cause="defect")
            return
        if claimed.stage == "held":
            self._withdraw(claimed, claims, LOST)
        self._end(claims.note(claimed, stage="lost"))

    def _withdraw(self, claimed: Claimed, claims: Claims, kind: str) -> None:
        """Take back the cases that no other workitem of ours is about."""
        others = {name for one in claims.open() if one.uid != claimed.uid for name in one.cases}
        for name in set(claimed.cases) - others:
            claims.ledger.withdraw(
                name, kind, "the workitem that asked for it is no longer to be done; retry does it all the same"
            )

    def _end(self, claimed: Claimed) -> None:
        self._clear(claimed)
        self.requests.forget(claimed.uid)
        self._told.pop(claimed.uid, None)
        self._later.pop(claimed.uid, None)
        reason = {"reason": claimed.cause} if claimed.cause else {}
        self.audit.note(claimed.stage, workitem=name_of(claimed.uid), worklist=self.worklist.name, **reason)

    def _note_trouble(self, what: str, error: InputError) -> None:
        times = self._later.get(what, (0, 0.0))[0]
        word, after = (error.word, error.after) if isinstance(error, ServiceError) else ("unusable", 0.0)
        wait = seconds_until_again(times, after, first=FIRST_WAIT, longest=MOST_WAIT)
        self._later[what] = (times + 1, time.monotonic() + wait)
        now = time.monotonic()
        if word != self._trouble[0] or now - self._trouble[1] >= HEARTBEAT:  # one that is down all night fills no log
            self.audit.note("trouble", worklist=self.worklist.name, reason=word)
            self._trouble = (word, now)


_CAUSE_OF_TAKING: dict[str, Cause] = {"unreadable": "damaged", "conflict": "conflict", "ours": "not-srh"}


def _cause(word: str) -> Cause:
    return next((cause for cause in CAUSES if cause == word), "defect")


def _progress(entries: Sequence[Entry]) -> tuple[float, str]:
    """How far the cases of a workitem are, as a percentage and in words of ours."""
    shares, words = [], "waiting for a worker"
    for entry in entries:
        stage, _, count = entry.stage.rpartition(" ")
        done, _, total = count.partition("/")
        part = int(done) / int(total) if done.isdecimal() and total.isdecimal() and int(total) else 0.0
        if entry.state in ENDED:
            shares.append(90.0)
        elif entry.state == "running":
            shares.append(10 + 75 * part if stage == "restoring" else 88.0 if stage in ("drawing", "writing DICOM") else 10.0)
            words = f"restoring, {100 * part:.0f} %" if stage == "restoring" else stage or "begun"
        else:
            shares.append(7.0)
    return sum(shares) / len(shares), words


@dataclass(frozen=True)
class Performing:
    """What a performer does; see the options of ``srh-clinic pacs listen``.

    Attributes
    ----------
    out
        The run's folder.
    url
        The service whose worklist it is.
    source, destination
        Addresses of the archives where input is and where results go.
    slide
        Whether the restored slide goes there too.
    """

    out: Path
    url: str
    source: str
    destination: str
    which: Filter
    calling: Calling
    slide: bool = True

    def checked(self) -> Performing:
        """The same.

        Raises
        ------
        InputError
            When an address is none, or credentials would be readable on their way.
        """
        self._worklist()
        archive_at(self.source, self.calling, os.environ)
        return self

    def door(self, inbox: Inbox, audit: Audit) -> WorklistDoor:
        """The way by which its cases come in."""
        worklist = self._worklist()
        performer = Performer(
            worklist,
            self.which,
            archive_at(self.source, self.calling, os.environ),
            inbox,
            audit,
            results=lambda name: result_objects(self.out, name, slide=self.slide),
            there=(self.destination, parse_address(self.destination)),
            requests=CancelRequests(worklist),
        )
        return WorklistDoor(performer)

    def _worklist(self) -> Worklist:
        address = web_address(self.url)
        service = WebArchive(address, self.calling.trust, credentials_for(address, os.environ))
        return Worklist(service, self.calling.title)


class WorklistDoor:
    """A :class:`~srh_clinic.pacs.door.Door`: a performer in a thread of its own, so that a slow service holds nobody up."""

    def __init__(self, performer: Performer) -> None:
        self.performer = performer
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    def look(self, ledger: Ledger) -> None:
        """See :class:`~srh_clinic.pacs.door.Door`; raises what the thread ended by."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(ledger.path,), name="worklist", daemon=True)
            self._thread.start()
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """See :class:`~srh_clinic.pacs.door.Door`: a step is finished, unless the service takes its time."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(BEAT * 5)
        self.performer.requests.close()

    def _run(self, path: Path) -> None:
        searched = -SEARCHED
        try:
            with Ledger(path) as ledger:
                while not self._over.wait(BEAT):
                    search = time.monotonic() - searched >= SEARCHED
                    if search:
                        searched = time.monotonic()
                    self.performer.step(ledger, search=search)
        except BaseException as error:
            self._failed = error
