"""A model card in the terminal."""

from __future__ import annotations

from itertools import zip_longest

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Table
from rich.text import Text

from srh_clinic.cli.output import LEAST_WIDTH, listed, spaced
from srh_clinic.escaping import terminal_text

GUTTER = 3
"""Characters that a column takes beside its words, at most."""

LEAST_TEXT = 8
"""Characters that a column has at least, where a word has as many."""


class Card(Markdown):
    """Markdown as text that moves no terminal, in whose tables no number is cut or folded."""

    def __init__(self, markdown: str) -> None:
        super().__init__("\n".join(spaced(terminal_text(line), LEAST_WIDTH) for line in markdown.splitlines()))


class _WholeTable(TableElement):
    """A table, or its rows below each other where its numbers would not fit beside each other."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        heads = [cell.content for cell in self.header.row.cells] if self.header is not None and self.header.row else []
        rows = [[cell.content for cell in row.cells] for row in self.body.rows] if self.body is not None else []
        if sum(map(_least, zip_longest(heads, *rows, fillvalue=Text()))) <= options.max_width:
            for table in super().__rich_console__(console, options):
                if isinstance(table, Table):
                    for column, cells in zip(table.columns, zip_longest(heads, *rows, fillvalue=Text()), strict=False):
                        column.min_width, column.overflow = _least(cells) - GUTTER, "fold"
                yield table
        else:
            for row in rows:
                yield listed([(head, cell) for head, cell in zip_longest(heads, row, fillvalue=Text()) if cell])
                yield Text()


def _least(cells: tuple[Text, ...]) -> int:
    """Characters of a column in which no word with a digit is folded."""
    words = [word for cell in cells for word in cell.plain.split()]
    numbered = max((len(word) for word in words if any(map(str.isdigit, word))), default=0)
    return max(numbered, min(LEAST_TEXT, max(map(len, words), default=0))) + GUTTER


Card.elements = {**Markdown.elements, "table_open": _WholeTable}
