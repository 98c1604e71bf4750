"""Which workitems we have claimed, in the ledger's own file: noted before a claim is sent, so that it is known as ours."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pydicom.uid import generate_uid

from srh_clinic.cohort.ledger import Ledger

Stage = Literal["claiming", "held", "completing", "canceling", "completed", "canceled", "lost", "anothers"]
STAGES: tuple[Stage, ...] = get_args(Stage)

OPEN: tuple[Stage, ...] = ("claiming", "held", "completing", "canceling")
"""Stages in which something is still to be said to the service."""


@dataclass(frozen=True)
class Claimed:
    """A workitem that we have claimed, or were about to.

    Attributes
    ----------
    transaction
        The Transaction UID that makes it ours.
    began
        When it was claimed.
    cases
        Names that its cases may have in the ledger, of which not all need come; empty before its input is here.
    studies
        Folders of the inbox that its input is in.
    cause
        Why it is given up; see :data:`srh_clinic.pacs.worklist.CAUSES`.
    """

    uid: str
    transaction: str
    stage: Stage
    began: float
    cases: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    cause: str = ""


class Claims:
    """What the ledger says of the workitems of one service; ``service`` is its name, without credentials."""

    def __init__(self, ledger: Ledger, service: str) -> None:
        self.ledger, self.service = ledger, service

    def open(self) -> list[Claimed]:
        """Those of which something is still to be said, in the order in which they were claimed."""
        return self._where(f"stage IN ({', '.join('?' * len(OPEN))})", *OPEN)

    def of(self, uid: str) -> Claimed:
        """One of them as it is now."""
        (claimed,) = self._where("uid = ?", uid)
        return claimed

    def all(self) -> list[Claimed]:
        """Every workitem that we ever tried to claim."""
        return self._where("TRUE")

    def _where(self, condition: str, *given: str) -> list[Claimed]:
        question = f"SELECT * FROM workitems WHERE service = ? AND {condition} ORDER BY began, uid"  # noqa: S608
        with self.ledger.reading() as db:
            rows = db.execute(question, (self.service, *given)).fetchall()
        return [
            Claimed(
                row["uid"],
                row["transaction_uid"],
                row["stage"],
                row["began"],
                tuple(json.loads(row["cases"])),
                tuple(json.loads(row["studies"])),
                row["cause"],
            )
            for row in rows
        ]

    def begin(self, uid: str) -> Claimed:
        """Note that a workitem is about to be claimed, by a Transaction UID that nobody has used."""
        claimed = Claimed(uid, str(generate_uid(prefix=None)), "claiming", time.time())
        return self.note(claimed)

    def note(self, claimed: Claimed, **changes: object) -> Claimed:
        """Write down how a claim is now; when this returns, it survives a power failure."""
        now = replace(claimed, **changes)  # type: ignore[arg-type]
        row = (now.uid, now.transaction, now.stage, now.began, json.dumps(now.cases), json.dumps(now.studies), now.cause)
        with self.ledger.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO workitems VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (self.service, *row, time.time())
            )
        return now


def studies_in_hand(ledger: Ledger) -> set[str]:
    """Folders of the inbox that hold the input of workitems of which something is still to be said, at any service."""
    question = f"SELECT studies FROM workitems WHERE stage IN ({', '.join('?' * len(OPEN))})"  # noqa: S608
    with ledger.reading() as db:
        return {study for row in db.execute(question, OPEN) for study in json.loads(row["studies"])}
