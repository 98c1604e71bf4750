"""A run as it goes on: drawn or told, and kept in a log and in metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srh_clinic.cli.output import Terminal, tell

if TYPE_CHECKING:
    from srh_clinic.cohort.ledger import Ledger
    from srh_clinic.cohort.running import Seen

DeathsOption = Annotated[int, typer.Option(min=1, help="Workers that may die on a case before it is parked.")]
LogFileOption = Annotated[
    Path | None, typer.Option(readable=False, help="Append what happens, JSON lines without identifiers or file names.")
]
MetricsOption = Annotated[
    Path | None, typer.Option(readable=False, help="Keep this file up to date for Prometheus' node exporter (textfile).")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]

TOLD = 10.0
"""Seconds between two lines that say how far a run is, where there is no terminal to draw in."""

KEPT = 15.0
"""Seconds between two writings of the metrics."""


@contextmanager
def watching(quiet: bool, log_file: Path | None, metrics: Path | None) -> Iterator[Callable[[Seen, Ledger], None]]:
    """Show a run, and keep its log and metrics."""
    from srh_clinic.cohort.deliveries import count_deliveries
    from srh_clinic.cohort.telling import append_log, metrics_text
    from srh_clinic.files import write_whole

    written, left_out = 0.0, set[str]()
    with _dashboard(quiet) as show:

        def watch(seen: Seen, ledger: Ledger) -> None:
            nonlocal written
            if log_file is not None:
                append_log(log_file, ledger)
            for sentence in set(seen.left_out) - left_out:
                left_out.add(sentence)
                tell(f"srh-clinic: left out: {sentence}", err=True)
            if metrics is not None and (seen.over or time.monotonic() - written > KEPT):
                write_whole(metrics, metrics_text(ledger.entries(), count_deliveries(ledger), seen.workers), "metrics")
                written = time.monotonic()
            show(seen)

        yield watch


@contextmanager
def _dashboard(quiet: bool) -> Iterator[Callable[[Seen], None]]:
    """Draws a run in a terminal on stderr; elsewhere a line now and then."""
    terminal = Terminal(stderr=True)
    if quiet:
        yield lambda seen: None
    elif terminal.is_terminal:
        from rich.live import Live

        from srh_clinic.cli.dashboard import run_panel
        from srh_clinic.cohort.ledger import ENDED

        before: list[int] = []
        with Live(console=terminal, refresh_per_second=4, transient=True) as live:

            def draw(seen: Seen) -> None:
                before.append(sum(seen.counts[state] for state in ENDED))
                live.update(run_panel(seen, terminal.width, before[0]))

            yield draw
    else:
        said, when = "", -TOLD

        def line(seen: Seen) -> None:
            nonlocal said, when
            words = ", ".join(f"{number} {state}" for state, number in seen.counts.items() if number)
            if words != said and seen.seconds - when >= TOLD:
                said, when = words, seen.seconds
                tell(f"{words}; {seen.workers} workers, {seen.seconds:.0f} s", err=True)

        yield line
