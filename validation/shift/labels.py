"""Labels that differ only in how they are written: told, and joined when asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from srh_clinic.tables import spelling_key
from srh_clinic.validation.shift.records import STRATA, ManifestRow

COLUMNS = ("patient", *STRATA)
"""Columns whose labels group cases: one label in two spellings makes two patients of one, or two sites."""


TOLD = 5
"""Labels of a column that the sentence names; it counts the others."""


def alike_labels(rows: Sequence[ManifestRow], *, join: bool) -> tuple[list[ManifestRow], list[str]]:
    """Rows, with labels that are alike under their most frequent spelling if ``join``; and a sentence for each column."""
    joined: dict[str, dict[str, str]] = {}
    said = []
    for column in COLUMNS:
        spellings: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows:
            if row[column]:
                spellings[spelling_key(row[column])][row[column]] += 1
        several = [found for found in spellings.values() if len(found) > 1]
        if not several:
            continue
        joined[column] = {label: max(found, key=lambda one: found[one]) for found in several for label in found}
        named = "; ".join(" = ".join(map(ascii, found)) for found in several[:TOLD])
        more = f"; and {len(several) - TOLD} more" if len(several) > TOLD else ""
        told = "joined as one" if join else "counted as different (--join-labels joins them)"
        said.append(f"Labels of {column} that differ only in spelling, {told}: {named}{more}.")
    if not join or not joined:
        return list(rows), said
    return [_joined(row, joined) for row in rows], said


def alike_names(cases: Sequence[str]) -> list[str]:
    """A sentence about cases whose names differ only in spelling, as one case that stands twice in a table does."""
    names: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        names[spelling_key(case)].append(case)
    several = [found for found in names.values() if len(found) > 1]
    if not several:
        return []
    named = "; ".join(" = ".join(map(ascii, found)) for found in several[:TOLD])
    more = f"; and {len(several) - TOLD} more" if len(several) > TOLD else ""
    return [f"Cases whose names differ only in spelling, each counted: {named}{more}."]


def _joined(row: ManifestRow, joined: dict[str, dict[str, str]]) -> ManifestRow:
    cells = {column: labels.get(row[column], row[column]) for column, labels in joined.items()}
    return ManifestRow(row.line, {**row.cells, **cells})
