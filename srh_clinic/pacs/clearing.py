"""What was received does not stay for ever: it goes when its results have long been where they belong, and nothing else does.

A series goes as a whole when its case is done, its results are at the destination, and nothing has come of its study, each
longer ago than it is to be kept. What is parked, failed, late or refused stays, and what belongs to a workitem in hand.
Results stay too, and the ledger keeps the case with a note.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from srh_clinic.cohort.deliveries import at_rest
from srh_clinic.cohort.ledger import Ledger
from srh_clinic.errors import InputError
from srh_clinic.integration.arriving import instance_in
from srh_clinic.pacs.arrival import name_in, series_of
from srh_clinic.pacs.audit import Audit
from srh_clinic.pacs.claims import studies_in_hand
from srh_clinic.pacs.inbox import Inbox

DAY = 86_400.0

CLEARED, SOON = 3600.0, 60.0
"""Seconds between two times that the inbox is gone through, and where something of it was not yet looked at."""

LOOKED = 0.5
"""Seconds after which others have their turn."""


class Clearing:
    """Lets received files go.

    Parameters
    ----------
    destination
        Where results go, by its name in the ledger; None when they stay here.
    keep
        Days that files are kept for after their results have arrived there; None keeps them for ever.
    """

    def __init__(self, inbox: Inbox, audit: Audit, destination: str | None, keep: float | None) -> None:
        self.inbox, self.audit, self.destination, self.keep = inbox, audit, destination, keep
        self._under_way: Iterator[None] = iter(())
        self._began = float("-inf")

    def look(self, ledger: Ledger) -> None:
        """Go on with what is to go, for a moment; begins anew every :data:`CLEARED` seconds."""
        if self.keep is None:
            return
        until = time.monotonic() + LOOKED
        while time.monotonic() < until:
            if next(self._under_way, self) is not self:
                continue
            if time.monotonic() - self._began < CLEARED:
                return
            self._began = time.monotonic()
            self._under_way = self._go_through(ledger, time.time() - DAY * self.keep)

    def _go_through(self, ledger: Ledger, before: float) -> Iterator[None]:
        """Every study, with a stop after each."""
        free, in_hand = at_rest(ledger, self.destination, before), studies_in_hand(ledger)
        for study in self.inbox.studies() if free else []:
            if study in self.inbox.open_studies():  # as all of them are when a listener begins
                self._began = min(self._began, time.monotonic() - CLEARED + SOON)
            elif study.name not in in_hand:
                with suppress(InputError, OSError):  # one that is taken away by hand, or no room for a note: the next time
                    self._let_go(study, ledger, free, before)
            yield

    def _let_go(self, study: Path, ledger: Ledger, free: set[str], before: float) -> None:
        files = sorted(study.glob("*.dcm"))
        if not files or max(file.stat().st_mtime for file in files) >= before:
            return
        found = series_of([instance_in(file) for file in files])
        names = {series: name_in(ledger, series) for series in found if series.reason != "label"}
        going = {name: list(series.instances) for series, name in names.items() if name in free}
        if not going:
            return
        if len(going) == len(names):  # labels and overviews go with the last of what they came with
            going[max(going)] += [one for series in found if series not in names for one in series.instances]
        for name, instances in going.items():
            with ledger.transaction():
                ledger.remark(name, "input-cleared")
            size = self.inbox.let_go(study, [one.path for one in instances])
            self.audit.note("cleared", case=name, files=len(instances), bytes=size)
