"""What reporting checklists ask of a study, and which section of a report answers it: ``checklists.yaml``, typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from srh_clinic.errors import InputError, first_fault
from srh_clinic.validation.reporting.report import Column, Table

SectionName = Literal[
    "abstract",
    "use",
    "acquisition",
    "preprocessing",
    "model",
    "size",
    "flow",
    "outcomes",
    "transitions",
    "harm",
    "tests",
    "intervals",
    "discrimination",
    "calibration",
    "subgroups",
    "sites",
    "selective",
    "drift",
    "development",
    "gallery",
    "limitations",
    "checklists",
    "provenance",
]

SECTIONS: tuple[SectionName, ...] = get_args(SectionName)
"""Sections of an accuracy-shift report, in its order."""

State = Literal["present", "author", "not-applicable"]

STATES: tuple[State, ...] = get_args(State)
"""Answered by a section; for the author, since the report cannot know it; not asked of a study of this kind."""

STATE_TITLES: dict[State, str] = {"present": "Present", "author": "For the author", "not-applicable": "Not applicable"}

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where PyYAML has it: the lists are read for every report."""

Words = Annotated[str, Field(min_length=1)]


class _Entry(BaseModel):
    """Part of the file; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Entry):
    """An item of a checklist.

    ``asks`` is told in our own words. ``section`` is the one that answers it, None unless the item is present; ``note`` says
    why an item is not applicable, or what is left to the author; ``needs`` names what manifest or headers must say for the
    section to answer it.
    """

    item: Annotated[str, Field(pattern=r"^(F|U|T|Us|R|E|G)?[1-9]\d?[a-g]?$|^[IVX]+$")]
    asks: Words
    state: State
    section: SectionName | None = None
    note: str = ""
    needs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.state == "present") != (self.section is not None):
            raise ValueError(
                f"found item {self.item} as {self.state} with section {self.section} (needed one if present only)"
            )
        if self.state == "not-applicable" and not self.note:
            raise ValueError(f"found no note on item {self.item}, which says why it is not applicable")
        return self


class Checklist(_Entry):
    """A checklist with its items in the order of their numbers; ``source`` is the address of its publication."""

    list: Literal["STARD-AI", "TRIPOD+AI", "CLAIM", "DECIDE-AI", "FUTURE-AI"]
    edition: Words
    source: Annotated[str, Field(pattern=r"^https://doi\.org/10\.")]
    rows: Annotated[tuple[Item, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        twice = [item for item, count in Counter(row.item for row in self.rows).items() if count > 1]
        if twice:
            raise ValueError(f"found item {twice[0]} of {self.list} twice; needed each once")
        return self


class _Checklists(_Entry):
    lists: tuple[Checklist, ...]


@cache
def checklists(path: Path | None = None) -> tuple[Checklist, ...]:
    """The checklists of a file, by default the packaged one.

    Raises
    ------
    InputError
        When it cannot be read, or is wrong.
    """
    path = Path(__file__).with_name("checklists.yaml") if path is None else path
    try:
        return _Checklists.model_validate(yaml.load(path.read_text(encoding="utf-8"), LOADER)).lists  # noqa: S506 - a safe loader
    except (OSError, yaml.YAMLError) as error:
        raise InputError(str(error), "checklists as YAML", path) from error
    except ValidationError as error:
        raise InputError(first_fault(error), "checklists whose items are complete", path) from error


def tables(present: Collection[str], known: Collection[str] | None = None) -> tuple[Table, ...]:
    """How many items of each checklist are answered, then each checklist item by item.

    Parameters
    ----------
    present
        The sections that the report could fill. An item whose section is not among them is for the author, and says so.

    known
        What manifest and headers say, of which an item may need some; None for everything.

    Raises
    ------
    ValueError
        When there is no section of such a name.
    """
    unknown = set(present) - set(SECTIONS)
    if unknown:
        raise ValueError(f"found the sections {', '.join(sorted(unknown))}; needed some of {', '.join(SECTIONS)}.")
    columns = (
        Column("item", "Item"),
        Column("asks", "What it asks, in our words"),
        Column("state", "State"),
        Column("section", "Section"),
        Column("note", "Note"),
    )
    summary, drawn = [], []
    for one in checklists():
        rows = [_answered(row, present, known) for row in one.rows]
        counts = Counter(row.state for row in rows)
        by_state: dict[str, int] = {state: counts[state] for state in STATES}
        summary.append({"list": one.list, "rows": len(rows), **by_state})
        shown = [
            {
                "item": row.item,
                "asks": row.asks,
                "state": STATE_TITLES[row.state].lower(),
                "section": row.section,
                "note": row.note or None,
            }
            for row in rows
        ]
        note = f"{one.source}; fill in the official list for what is submitted."
        drawn.append(Table(f"{one.list} ({one.edition})", columns, shown, note))
    totals = (Column("list", "Checklist"), Column("rows", "Rows", "d"))
    states = tuple(Column(state, STATE_TITLES[state], "d") for state in STATES)
    return (Table("Reporting checklists", (*totals, *states), summary), *drawn)


def _answered(row: Item, present: Collection[str], known: Collection[str] | None) -> Item:
    """The item as this report answers it."""
    lacking = [] if known is None else [one for one in row.needs if one not in known]
    if row.section is None or (row.section in present and not lacking):
        return row
    missing = f"Section {row.section} would answer it, which this report could not fill."
    if row.section in present:
        missing = f"Section {row.section} would answer it if manifest or headers stated: {', '.join(lacking)}."
    return row.model_copy(update={"state": "author", "section": None, "note": f"{missing} {row.note}".strip()})
