"""Those who work on a run's cases, wherever they are, as the run sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from srh_clinic.cohort.ledger import Ledger

WATCHED = 0.25
"""Seconds between two looks at the workers and the ledger."""

FRUITLESS = 5
"""Deaths for each worker without a move of any case between them, after which a run gives up."""

TO_END = 60.0
"""Seconds that a worker gets to hand back its case before it is left alone or killed."""


class Crew(Protocol):
    """The workers of a run, on this machine or on a cluster."""

    @property
    def alive(self) -> int:
        """How many there are."""

    @property
    def busy(self) -> bool:
        """Whether one of them may still say something of a case."""

    @property
    def checked(self) -> bool:
        """Whether one of them has found that the run's settings are those of its ledger."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each worker that gets no case."""

    def look(self, waiting: int, ledger: Ledger) -> None:
        """See who has ended and why, and have as many at work as there is work for."""

    def wait(self) -> None:
        """Until something may have changed, or :data:`WATCHED` seconds."""
