"""Which results have gone where: a case that is done is delivered to a destination once, whatever cuts it off.

The rows stand in the ledger's own file. A case without a row is yet to be delivered, so that nothing must be written at the
moment when it is done.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Literal, get_args

from srh_clinic.cohort.ledger import Ledger

Delivery = Literal["sent", "refused", "late", "kept"]
DELIVERIES: tuple[Delivery, ...] = get_args(Delivery)
"""Stored there; not wanted there; to be tried again; not to be sent, since the scan is of no study there."""

FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0
"""Seconds until a delivery is tried again after its first failure, and at most."""

_DUE = """
SELECT cases.name, cases.source, cases.outputs, COALESCE(deliveries.attempts, 0) AS attempts, deliveries.outputs AS before
FROM cases LEFT JOIN deliveries ON deliveries.name = cases.name AND deliveries.destination = :there
WHERE cases.state = 'done' AND (
    deliveries.name IS NULL OR deliveries.outputs != cases.outputs OR (
        deliveries.state = 'late' AND deliveries.until NOT BETWEEN :now AND :now + :longest
    )
)
ORDER BY cases.changed LIMIT 1
"""


_FREE = """
SELECT name FROM cases WHERE state = 'done' AND changed < :before AND CASE WHEN :there IS NULL THEN NOT EXISTS (
    SELECT 1 FROM deliveries WHERE name = cases.name AND outputs = cases.outputs AND state IN ('late', 'refused')
) ELSE EXISTS (
    SELECT 1 FROM deliveries WHERE name = cases.name AND outputs = cases.outputs AND destination = :there
    AND state = 'sent' AND changed < :before
) END
"""


def seconds_until_again(failed: int, after: float = 0.0, *, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> float:
    """How long to leave a service alone that has ``failed`` so often before this time: twice as long each time.

    Where it asks for more by the seconds ``after`` it gets them, up to :data:`LONGEST_WAIT`.
    """
    return max(min(first * 2.0 ** min(failed, 10), longest), min(after, LONGEST_WAIT))


@dataclass(frozen=True)
class Due:
    """A case whose results are to go somewhere; ``outputs`` says which results, ``attempts`` how often that has failed."""

    name: str
    source: tuple[str, ...]
    outputs: str
    attempts: int


class Deliveries:
    """What the ledger says of results on their way to one destination.

    Parameters
    ----------
    destination
        Its name, without credentials.
    """

    def __init__(self, ledger: Ledger, destination: str) -> None:
        self.ledger, self.destination = ledger, destination

    def take_over(self) -> None:
        """Wait no more for destinations of earlier calls that did not answer: what was late there is yet to be sent here."""
        with self.ledger.transaction() as db:
            db.execute("DELETE FROM deliveries WHERE state = 'late' AND destination != ?", (self.destination,))

    def due(self) -> Due | None:
        """The next case to deliver; None when there is none now."""
        with self.ledger.reading() as db:
            asked = {"there": self.destination, "now": time.time(), "longest": LONGEST_WAIT}
            row = db.execute(_DUE, asked).fetchone()
        if row is None:
            return None
        attempts = row["attempts"] if row["before"] == row["outputs"] else 0
        return Due(row["name"], tuple(json.loads(row["source"])), row["outputs"], attempts)

    def note(self, due: Due, state: Delivery, kind: str, after: float = 0.0) -> None:
        """Say what became of a delivery, and in one word of ours why.

        A late one is tried again after a while that grows, and not before the seconds ``after`` which the other side asks for.
        """
        wait = seconds_until_again(due.attempts, after) if state == "late" else 0.0
        now = time.time()
        row = (due.name, self.destination, due.outputs, state, due.attempts + 1, now + wait, kind, now)
        with self.ledger.transaction() as db:
            db.execute("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            if state != "late" or not due.attempts:  # a PACS that is down for a weekend fills no history
                self.ledger.remark(due.name, f"{state}-{kind}" if kind else state)

    def state_of(self, name: str) -> tuple[Delivery, str] | None:
        """What became of the delivery of a case's present results, and why; None before it was tried."""
        with self.ledger.reading() as db:
            row = db.execute(
                "SELECT deliveries.state, deliveries.kind FROM deliveries JOIN cases USING (name) "
                "WHERE name = ? AND destination = ? AND deliveries.outputs = cases.outputs AND cases.state = 'done'",
                (name, self.destination),
            ).fetchone()
        return None if row is None else (row[0], row[1])


def at_rest(ledger: Ledger, destination: str | None, before: float) -> set[str]:
    """Names of cases that were done, and whose results were at their destination, before a moment: nothing is owed of them.

    Without a destination results stay here; then those are left out that are yet to go to one of an earlier call.
    """
    with ledger.reading() as db:
        return {row[0] for row in db.execute(_FREE, {"before": before, "there": destination})}


def count_deliveries(ledger: Ledger) -> dict[str, int]:
    """How many deliveries are in each state, to all destinations."""
    counted: dict[str, int] = dict.fromkeys(DELIVERIES, 0)
    with ledger.reading() as db:
        for row in db.execute("SELECT state, COUNT(*) FROM deliveries GROUP BY state"):
            counted[row[0]] = row[1]
    return counted
