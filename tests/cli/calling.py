"""A call of the command line, and what it leaves on the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    """What a call did."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def left_behind(folder: Path) -> list[str]:
    """Everything below a folder, as seen from it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
