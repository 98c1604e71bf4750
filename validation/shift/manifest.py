"""The manifest of an accuracy-shift report: a CSV with a row for each case, its patient and its truth."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.validation.shift.records import STRATA, WHEN, Cohort, Exclusion, Prediction, ShiftCase

REQUIRED = ("case", "patient", "truth")
PREDICTIONS = tuple(f"{when}_{name}" for when in WHEN for name in CLASSES)
"""Columns of a manifest that brings its predictions."""

NUMBERS = {"t_pred": "steps_predicted", "trust": "trust", "agreement": "agreement"}
"""Columns of further numbers of a case that a manifest with predictions may bring, and their names in :class:`ShiftCase`."""

OPTIONAL = (*STRATA, "slide", *NUMBERS, *(f"{when}_{what}" for when in WHEN for what in ("said", "support")))

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a case may be from 1 in all: what rounding to three digits leaves."""


@dataclass(frozen=True)
class ManifestRow:
    """A row as it stands: its line in the file, and its cells by column."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


@dataclass(frozen=True, eq=False)
class Manifest:
    """A manifest that can be used.

    Attributes
    ----------
    path
        The file; cases that are paths are taken from its folder.
    rows
        All of its rows.
    sha256
        Of the file.
    has_predictions
        Whether it brings predictions, so that cases are only names.
    warnings
        What a reader of the report must know: a patient in two sites, one class only, columns that nobody reads.
    """

    path: Path
    rows: tuple[ManifestRow, ...]
    sha256: str
    has_predictions: bool
    warnings: tuple[str, ...] = field(default=())

    def case_path(self, row: ManifestRow) -> Path:
        """Where the image of a row lies."""
        return self.path.parent / row["case"]


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest and check everything that can be checked without its images.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, has no row, or a row has no case or patient, a truth that is no class, a case
        twice, or probabilities that are none.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except OSError as error:
        raise InputError(error.strerror or str(error), "a manifest that can be read", path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"a file that is not CSV in UTF-8 ({error})", "a manifest with the columns case, patient, truth", path
        ) from error
    if not rows:
        raise InputError("an empty file", "a manifest with the columns case, patient, truth", path)
    header = [name.strip().lower() for name in rows[0]]
    _check_header(header, path)
    found = tuple(
        ManifestRow(line, dict(zip(header, (cell.strip() for cell in cells), strict=False)))
        for line, cells in enumerate(rows[1:], start=2)
        if any(cell.strip() for cell in cells)
    )
    if not found:
        raise InputError("no rows", "one row for each case", path)
    _check_rows(found, path)
    unread = [name for name in header if name and name not in (*REQUIRED, *OPTIONAL, *PREDICTIONS)]
    warnings = [f"The columns {', '.join(unread)} are not read."] if unread else []
    return Manifest(
        path,
        found,
        hashlib.sha256(content).hexdigest(),
        has_predictions=all(name in header for name in PREDICTIONS),
        warnings=(*warnings, *_warnings(found)),
    )


def cohort_from_predictions(manifest: Manifest) -> Cohort:
    """The cases of a manifest that brings its predictions; rows that lack one are left out and say so.

    Rows are patches when a ``slide`` has more than one of them.

    Raises
    ------
    InputError
        When a probability, a number or a class said is none, or no row has predictions.
    """
    cases, excluded = [], []
    for row in manifest.rows:
        if not all(row[name] for name in PREDICTIONS):
            excluded.append(Exclusion(row["case"], "no prediction in the manifest"))
            continue
        before, after = (_prediction(row, when, manifest.path) for when in WHEN)
        numbers = {name: _number(row, column, manifest.path) if row[column] else None for column, name in NUMBERS.items()}
        cases.append(case_of(row, before, after, slide=row["slide"] or row["case"], **numbers))
    if not cases:
        raise InputError("no row with predictions", f"values in the columns {', '.join(PREDICTIONS)}", manifest.path)
    patches = len({case.slide for case in cases}) < len(cases)
    return Cohort(tuple(cases), "patch" if patches else "slide", tuple(excluded), manifest.warnings)


def case_of(row: ManifestRow, before: Prediction, after: Prediction, **more: object) -> ShiftCase:
    """A case as its row names it."""
    strata = {name: row[name] for name in STRATA}
    return ShiftCase(row["case"], row["patient"], row["truth"], before, after, **strata, **more)  # type: ignore[arg-type]


def _check_header(header: Sequence[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise InputError(f"no column {', '.join(missing)}", "the columns case, patient, truth", path)
    if doubled := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"the column {', '.join(doubled)} twice", "each column once", path)
    some = [name for name in PREDICTIONS if name in header]
    if some and len(some) < len(PREDICTIONS):
        lacking = [name for name in PREDICTIONS if name not in header]
        raise InputError(f"{some[0]} but not {', '.join(lacking)}", "all probabilities before and after, or none", path)


def _check_rows(rows: Sequence[ManifestRow], path: Path) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        for name in ("case", "patient"):
            if not row[name]:
                raise InputError(f"no {name} in line {row.line}", f"a {name} in every row", path)
        if row["truth"] not in CLASSES:
            raise InputError(f"the truth {row['truth']!r} in line {row.line}", f"one of {', '.join(CLASSES)}", path)
        if row["case"] in seen:
            found = f"the case {row['case']!r} in lines {seen[row['case']]} and {row.line}"
            raise InputError(found, "each case once", path)
        seen[row["case"]] = row.line


def _warnings(rows: Sequence[ManifestRow]) -> list[str]:
    """What is no error, but has to be known."""
    warnings = []
    sites: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sites[row["patient"]].add(row["site"])
    several = [patient for patient, found in sites.items() if len(found) > 1]
    if several:
        some = ", ".join(several[:5]) + (", ..." if len(several) > 5 else "")
        warnings.append(
            f"Patients in more than one site: {some}; sites are then compared as if these were different patients."
        )
    if len(classes := {row["truth"] for row in rows}) == 1:
        warnings.append(
            f"All cases are {next(iter(classes))} in truth: nothing can be said of how well classes are told apart."
        )
    return warnings


def _prediction(row: ManifestRow, when: str, path: Path) -> Prediction:
    values = [_number(row, f"{when}_{name}", path) for name in CLASSES]
    if min(values) < 0 or abs(sum(values) - 1) > SUM_TOLERANCE:
        found = f"probabilities of {', '.join(f'{value:g}' for value in values)} {when} in line {row.line}"
        raise InputError(found, "three numbers from 0 to 1 that add up to 1", path)
    said = row[f"{when}_said"] or CLASSES[values.index(max(values))]
    if said not in CLASSES:
        raise InputError(f"{said!r} as {when}_said in line {row.line}", f"one of {', '.join(CLASSES)}", path)
    total = sum(values)
    support = _number(row, f"{when}_support", path) if row[f"{when}_support"] else None
    if support is not None and not 0 <= support <= 1:
        raise InputError(f"{support:g} as {when}_support in line {row.line}", "a number from 0 to 1", path)
    return Prediction(said, (values[0] / total, values[1] / total, values[2] / total), support)


def _number(row: ManifestRow, name: str, path: Path) -> float:
    try:
        value = float(row[name])
    except ValueError as error:
        raise InputError(f"{row[name]!r} as {name} in line {row.line}", "a number", path) from error
    if not math.isfinite(value):
        raise InputError(f"{row[name]!r} as {name} in line {row.line}", "a finite number", path)
    return value
