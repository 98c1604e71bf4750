"""What reports are made of: sections of sentences, tables and figures; and reports, as Markdown and as JSON.

A number is formatted in one place, :meth:`Column.cell`; the JSON holds it unrounded. Nothing in a report is typed by hand.
"""

from __future__ import annotations

import base64
import json
import math
import os
import platform
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jinja2

from srh_clinic import __version__
from srh_clinic.escaping import terminal_text
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.files import write_whole

if TYPE_CHECKING:
    from rich.console import RenderableType

LIBRARIES = ("torch", "monai", "timm", "numpy", "scipy", "scikit-image", "statsmodels")

TEMPLATE = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False).from_string(  # noqa: S701 - Markdown
    """\
# {{ report.title }}

{{ report.summary }}
{% for table in report.tables %}

## {{ table.title }}

|{% for column in table.columns %} {{ column.title }} |{% endfor %}

|{% for column in table.columns %}{{ " --- |" if column.is_text else " ---: |" }}{% endfor %}

{% for row in table.rows %}
|{% for column in table.columns %} {{ column.markdown(row) }} |{% endfor %}

{% endfor %}
{% if table.footnote %}

{{ table.footnote }}
{% endif %}
{% endfor %}

## How this was made

| | |
| --- | --- |
{% for name, value in report.provenance.items() %}
| {{ name }} | {{ value }} |
{% endfor %}
"""
)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``key`` finds a row's value, ``format`` is a format specification for numbers and for the ends of an :class:`Interval`
    (``""`` for text).
    """

    key: str
    title: str
    format: str = ""

    @property
    def is_text(self) -> bool:
        """Text stands to the left, numbers to the right."""
        return not self.format

    def cell(self, row: Mapping[str, Any]) -> str:
        """What a reader sees; a value that a row does not have is a dash, as is an interval."""
        value = row.get(self.key)
        if value is None:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, Undefined):
            return "–" if value.value is None else f"{value.value:{self.format}} [–]"
        if isinstance(value, Interval):
            return f"{value.value:{self.format}} [{value.low:{self.format}}, {value.high:{self.format}}]"
        return format(value, self.format)

    def markdown(self, row: Mapping[str, Any]) -> str:
        """The same in Markdown, where a no stands out."""
        return "**no**" if row.get(self.key) is False else self.cell(row)

    def short(self, row: Mapping[str, Any]) -> str:
        """The same without the ends of an interval."""
        value = row.get(self.key)
        return self.cell({self.key: value.value} if isinstance(value, Interval | Undefined) else row)


@dataclass(frozen=True)
class Table:
    """A table of a report; each row maps column keys to values, and may hold more than the columns show."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""

    @property
    def footnote(self) -> str:
        """The note, and the reasons for numbers and intervals that are not determined."""
        reasons: dict[str, list[str]] = defaultdict(list)
        for row in self.rows:
            for column in self.columns:
                value = row.get(column.key)
                if isinstance(value, Undefined):
                    reasons[value.why].append(f"{row[self.columns[0].key]} ({column.title})")
        told = [self.note] if self.note else []
        for why, places in reasons.items():
            named = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
            told.append(f"Not determined: {named}, because {why}.")
        return " ".join(told)


def reasoned_table(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], note: str = "") -> Table:
    """A table whose undefined numbers are dashes, with the reasons for them in its note."""
    shown = [{key: None if isinstance(value, Undefined) else value for key, value in row.items()} for row in rows]
    note = Table(title, tuple(columns), rows, note).footnote
    if not rows:
        note = f"{note} There is nothing that this table is made of.".strip()
    return Table(title, tuple(columns), shown, note)


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its name, what it shows, and its drawing as PNG or as an ``<svg>`` element.

    ``name`` is the stem of its file, and unlike that of any other figure of a page.
    """

    name: str
    title: str
    caption: str
    png: bytes = field(default=b"", repr=False)
    svg: str = field(default="", repr=False)

    @property
    def png_base64(self) -> str:
        """The PNG as a page holds it."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Picture:
    """A picture of an exhibit: what it shows, and its PNG in base64."""

    title: str
    png: str


@dataclass(frozen=True)
class Exhibit:
    """A case of a gallery; ``page`` leads to its case page, "" without one."""

    case: str
    says: str
    pictures: tuple[Picture, ...]
    page: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page: what it says and shows, what it could not say and why, and how it was made.

    ``name`` is its anchor on the page; ``text`` are paragraphs; ``provenance`` is empty where the page says it once for all.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    gallery: Sequence[Exhibit] = ()
    missing: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def filled(self) -> bool:
        """Whether there is anything but reasons."""
        return bool(self.text or self.tables or self.figures or self.gallery)


@dataclass(frozen=True)
class Report:
    """What a benchmark found: a section with files of its own.

    ``name`` is the stem of its files; ``provenance`` says how to make it again (see :func:`provenance`).
    """

    name: str
    title: str
    summary: str
    tables: tuple[Table, ...]
    provenance: Mapping[str, Any] = field(repr=False)
    figures: Sequence[Figure] = ()

    @property
    def section(self) -> Section:
        """The report as a part of a page."""
        return Section(self.name, self.title, (self.summary,), self.tables, figures=self.figures, provenance=self.provenance)

    @property
    def markdown(self) -> str:
        """The report for people."""
        return TEMPLATE.render(report=self)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON holds it: every number unrounded, an interval as ``{value, low, high, n, level}``."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "tables": {table.title: [plain(row) for row in table.rows] for table in self.tables},
            "provenance": plain(self.provenance),
        }


CRITERIA = (Column("asked", "Asked"), Column("measured", "Measured"), Column("met", "Met"))
"""Columns of a table of what was asked for: a sentence, the numbers, whether they meet it.

Where a number is a mean or a share, the row's ``finding`` is it with its interval.
"""


def write_report(report: Report, out: str | Path) -> tuple[Path, Path]:
    """Write ``NAME.md`` and ``NAME.json`` into the folder ``out``, and return their paths; each is whole when it exists.

    Raises
    ------
    InputError
        When the folder cannot be written.
    """
    folder = Path(out)
    # A non-finite number is not JSON, and none belongs in a report.
    content = json.dumps(report.to_dict(), indent=2, allow_nan=False, default=str) + "\n"
    markdown = write_whole(folder / f"{report.name}.md", report.markdown.encode(), "a report")
    return markdown, write_whole(folder / f"{report.name}.json", content.encode(), "a report")


TEXT_FOLD = 24
"""Characters that a terminal's column of text has at least, where its text is longer."""

LEAST_TEXT = 8
"""Characters that a column of text has in a terminal however narrow."""

LONGEST_UNFOLDED = 36
"""Characters of the longest word with a number that is kept on one line."""

TITLE_FOLDS = (12, 8)
"""Characters that a long word of a column's title is folded at, the second where there is less room."""

GUTTER = 2
"""Characters between two columns."""


Written = Callable[[Column, Mapping[str, Any]], str]
"""How a column's cell of a row is written."""


def rich_tables(report: Report, width: int | None = None) -> list[RenderableType]:
    """The report's tables for a terminal of ``width`` characters; None for one in which every table fits.

    No number is cut or wrapped: where a table is too wide the ends of its intervals are left out, then its last columns, and
    it says so.
    """
    return [_rich_table(table, math.inf if width is None else width) for table in report.tables]


def _rich_table(table: Table, width: float) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    widths, cell, exact = _fitting(table, width)
    note = [table.footnote] if table.footnote else []
    if cell is Column.short and any(isinstance(value, Interval) for row in table.rows for value in row.values()):
        note.append("Intervals are in the report.")
    if hidden := [column.title for column in table.columns[len(widths) :]]:
        note.append(f"Columns in the report, for which there is no room here: {', '.join(hidden)}.")
    # As Text, for what stands in square brackets is no markup.
    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, GUTTER - 1, 0, 0), pad_edge=False)
    columns = table.columns[: len(widths)]
    for column, least in zip(columns, widths, strict=True):
        if column.is_text and not exact:
            rich.add_column(Text(terminal_text(column.title)), min_width=least, overflow="fold")
        else:
            justify: Literal["left", "right"] = "left" if column.is_text else "right"
            rich.add_column(Text(terminal_text(column.title)), width=least, justify=justify, overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(terminal_text(cell(column, row))) for column in columns))
    # Not as rich's title and caption, which are folded at the table's width, in the middle of a number where it is narrow.
    title, caption = Text(terminal_text(table.title), style="italic"), Text(terminal_text(" ".join(note)), style="dim italic")
    return Group(title, rich, caption, "") if note else Group(title, rich)


def _fitting(table: Table, width: float) -> tuple[list[int], Written, bool]:
    """Widths of the first columns that fit into a terminal, how their cells are written, and whether widths are exact."""
    wide, narrow = TITLE_FOLDS
    for cell, fold in ((Column.cell, wide), (Column.short, wide), (Column.short, narrow)):
        widths = [_width(column, table, cell, fold) for column in table.columns]
        ends = list(accumulate(one + GUTTER for one in widths))
        if ends[-1] <= width:
            return widths, cell, False
    fitting = sum(end <= width for end in ends)
    if fitting < 2 <= len(widths) and table.columns[1].is_text:
        # Text beside the first column may fold, at words: a number that does not fit is left out.
        folded = [_longest_numbered(column, table, Column.short) for column in table.columns[:2]]
        if (spare := int(width) - sum(folded) - 2 * GUTTER) >= 0:
            return [folded[0] + spare // 2, folded[1] + spare - spare // 2], Column.short, True
    if not fitting:
        return [int(width) - GUTTER], Column.short, True
    return widths[:fitting], Column.short, False


def _width(column: Column, table: Table, cell: Written, fold: int) -> int:
    """Characters that a column takes at least."""
    longest = max((len(cell(column, row)) for row in table.rows), default=0)
    words = max(len(word) for word in column.title.split())
    if not column.is_text:
        return max(longest, min(words, fold))
    return max(min(max(longest, words), TEXT_FOLD), _longest_numbered(column, table, cell))


def _longest_numbered(column: Column, table: Table, cell: Written) -> int:
    """Characters of the longest word with a digit in a column of text, which is not folded; hashes and paths are."""
    found = (word for row in table.rows for word in terminal_text(cell(column, row)).split() if any(map(str.isdigit, word)))
    return max((len(word) for word in found if len(word) <= LONGEST_UNFOLDED), default=LEAST_TEXT)


def provenance(*, seed: int, **more: Any) -> dict[str, Any]:
    """How a report was made: command, date, seed, versions, machine, and whatever else is named.

    ``None`` values are left out.
    """
    program, *arguments = sys.argv
    return {
        "command": shlex.join([Path(program).name, *arguments]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        **{name: value for name, value in more.items() if value is not None},
        "srh-clinic": __version__,
        "Python": platform.python_version(),
        **{library: metadata.version(library) for library in LIBRARIES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries and NumPy's numbers as Python's, throughout."""
    if isinstance(value, Interval | Undefined):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value
