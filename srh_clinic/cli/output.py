"""How the commands print: one line at a time as text, numbers whole, and quietly when nobody reads on."""

from __future__ import annotations

import os
import signal
import sys

import typer
from rich.console import Console
from rich.markup import escape

from srh_clinic.escaping import terminal_text

LEAST_WIDTH = 40
"""Characters that are laid out for at least; a narrower terminal breaks the lines, but no number is cut."""

PIPE_CLOSED = 128 + signal.SIGPIPE
"""What shells report when the reader of a pipe has gone, as after ``| head``."""


def tell(*lines: object, err: bool = False) -> None:
    """Print lines, whatever they hold as text."""
    for line in lines:
        typer.echo(terminal_text(line), err=err)


def words(text: object) -> str:
    """Text as it stands, where rich's markup is taken."""
    return escape(terminal_text(text))


class Terminal(Console):
    """A console that cuts no number, and leaves it to the caller when its reader has gone."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False)
        if self.width < LEAST_WIDTH:
            self.width = LEAST_WIDTH

    def on_broken_pipe(self) -> None:
        """Raise ``BrokenPipeError`` again, which ends a command as any other print does."""
        raise


def nobody_reads_on() -> typer.Exit:
    """End quietly: what is printed from now on goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return typer.Exit(PIPE_CLOSED)
