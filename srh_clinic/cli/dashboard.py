"""A run of many cases in the terminal, while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from srh_clinic.cohort.ledger import ENDED

if TYPE_CHECKING:
    from srh_clinic.cohort.running import Seen

STYLES = {"done": "green", "running": "cyan", "waiting": "dim", "parked": "yellow", "failed": "red"}


def run_panel(seen: Seen, width: int = 100, done_before: int = 0) -> RenderableType:
    """Cases by state, time that is left, and what each worker has in hand.

    Parameters
    ----------
    width
        Characters of the terminal.
    done_before
        Cases that were at an end when the run began: they say nothing of how fast it is.
    """
    total, ended = sum(seen.counts.values()), sum(seen.counts[state] for state in ENDED)
    states = Text("  ").join(Text(f"{number} {state}", STYLES[state]) for state, number in seen.counts.items() if number)
    rows: list[RenderableType] = [ProgressBar(total=max(total, 1), completed=ended, width=min(width, 60)), states]
    times = f"{_clock(seen.seconds)} so far"
    if ended > done_before and ended < total:
        times += f", {_clock(seen.seconds / (ended - done_before) * (total - ended))} left"
    rows.append(Text(f"{times}, {seen.workers} workers"))
    hands = Table.grid(padding=(0, 2))
    for entry in seen.running:
        hands.add_row(entry.name, f"attempt {entry.attempts}", entry.stage)
    return Group(*rows, hands)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
