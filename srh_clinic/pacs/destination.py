"""Where results go: what a listener asks of a destination, whatever protocol leads there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class UnreachableError(Exception):
    """The other side does not answer, is busy, or broke off: the same call later may go well.

    Its text is one word of ours (``refused-association``, ``no-connection``, ``timeout``), fit for a log; ``after`` are the
    seconds that the other side asks to be left alone for.
    """

    def __init__(self, word: str, after: float = 0.0) -> None:
        super().__init__(word)
        self.after = after


@dataclass(frozen=True)
class Sent:
    """What the other side said of objects that were sent to it.

    Attributes
    ----------
    stored
        How many it has now, also those that it had before.
    refused
        One word of ours for each object that it does not want: sending it again would end in the same way. Empty when all
        are stored.
    """

    stored: int
    refused: tuple[str, ...] = ()


class Destination(Protocol):
    """A PACS that takes objects."""

    @property
    def name(self) -> str:
        """What ledger and logs call it: address and AE title or path, never a credential."""

    def send(self, objects: Sequence[Path]) -> Sent:
        """Store DICOM files there, and believe it only when the other side says so of each.

        An object that is there already counts as stored: UIDs of results follow from what made them.

        Raises
        ------
        UnreachableError
            When it should be tried again later; what was stored until then may stay.
        InputError
            When a file cannot be read, or the destination's settings cannot be used: no call will go well.
        """
