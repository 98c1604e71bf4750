"""The ways by which cases come in beside the listening port: what the listener's loop asks of each."""

from __future__ import annotations

from typing import Protocol

from srh_clinic.cohort.ledger import Ledger


class Door(Protocol):
    """A watched folder, a worklist: looked at by the listener in every beat of its loop, in its own thread.

    What comes through is put into the :class:`~srh_clinic.pacs.inbox.Inbox`, or enrolled in the ledger where it lies. Either
    way it is a case of the same ledger, done by the same workers, and its results go to the same destination.
    """

    def look(self, ledger: Ledger) -> None:
        """Take in what has come, and tell whoever asked what became of it; must return within a second or so.

        Parameters
        ----------
        ledger
            The run's: see ``entries`` for the state of a case, ``Deliveries`` for where its results have gone.
        """

    def close(self) -> None:
        """The listener ends; what is not done is found again when it begins anew."""
