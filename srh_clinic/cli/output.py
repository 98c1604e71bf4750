"""How the commands print: one line at a time as text, numbers whole, and quietly when nobody reads on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.text import Text

from srh_clinic.escaping import terminal_text

LEAST_WIDTH = 20
"""Characters that are laid out for at least; the lines of a narrower terminal are broken anywhere."""

BETWEEN_WORDS = re.compile(r'(?<=,)(?=[^\s\d])|(?<=":)(?=\S)')
"""Places within JSON where no number stands on both sides."""

FRAMED = 40
"""Characters from which on there is room for frames and for what stands side by side."""

PIPE_CLOSED = 128 + signal.SIGPIPE
"""What shells report when the reader of a pipe has gone, as after ``| head``."""


def tell(*lines: object, err: bool = False) -> None:
    """Print lines, whatever they hold as text; a terminal, which breaks them anywhere, gets them broken between words.

    A path stays on one line, to be copied.
    """
    seen = (sys.stderr if err else sys.stdout).isatty()
    for line in lines:
        text = terminal_text(line)
        typer.echo(folded(text, shutil.get_terminal_size().columns) if seen and not isinstance(line, Path) else text, err=err)


def folded(text: str, width: int) -> str:
    """Text broken between words, so that no number in it is broken by a terminal of ``width`` characters."""
    width = max(width, LEAST_WIDTH)
    if len(text) <= width:
        return text
    return "\n".join(textwrap.wrap(spaced(text, width), width, break_long_words=False, break_on_hyphens=False))


def spaced(text: str, width: int) -> str:
    """Text in which JSON that is one word longer than ``width`` has blanks between its parts."""
    return re.sub(rf"\S{{{width + 1},}}", lambda found: BETWEEN_WORDS.sub(" ", found.group()), text)


def listed(rows: Sequence[tuple[str | Text, str | Text]]) -> RenderableType:
    """What each row is about, and below it what it says, in rich's markup: for a terminal too narrow for columns."""
    lines = []
    for about, says in rows:
        name = about if isinstance(about, Text) else Text.from_markup(about, style="bold")
        lines += [*([name] if name else []), says]
    return Group(*lines)


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
