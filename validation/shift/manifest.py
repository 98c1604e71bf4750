"""The manifest of an accuracy-shift report: a CSV with a row for each case, its patient and its truth."""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.tables import TableLine, read_lines
from srh_clinic.validation.shift.labels import alike_labels, alike_names
from srh_clinic.validation.shift.records import STRATA, WHEN, Cohort, Exclusion, ManifestRow, Prediction, ShiftCase

REQUIRED = ("case", "patient", "truth")
PREDICTIONS = tuple(f"{when}_{name}" for when in WHEN for name in CLASSES)
"""Columns of a manifest that brings its predictions."""

NUMBERS = {"t_pred": "steps_predicted", "trust": "trust", "agreement": "agreement"}
"""Columns of further numbers of a case that a manifest with predictions may bring, and their names in :class:`ShiftCase`."""

OTHER = "ch3"
"""Column of CH3's file, where each channel has one and ``case`` is CH2's."""

OPTIONAL = (*STRATA, OTHER, "slide", *NUMBERS, *(f"{when}_{what}" for when in WHEN for what in ("said", "support")))

SUM_TOLERANCE = 1.5e-3 + 1e-9
"""How far the probabilities of a case may be from 1 in all: what rounding three of them to three digits leaves."""

NEEDED = "a manifest with the columns case, patient, truth"

CODES = frozenset({"na", "n/a", "#n/a", "<na>", "null", "missing", "unknown", "unk", ".", "-", "--", "?"})
"""How tables write that a value is missing, beside the numbers of :data:`CODE`."""

CODE = re.compile(r"-(1|9{1,4})(\.0+)?")

CODED = ("patient", *OPTIONAL, *PREDICTIONS)
"""Columns in which a code of :data:`CODES` is no value: nothing here is negative."""


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

    def other_path(self, row: ManifestRow) -> Path | None:
        """Where CH3's file of a row lies, ``None`` when its case holds both channels."""
        return self.path.parent / row[OTHER] if row[OTHER] else None


def read_manifest(path: str | Path, *, join_labels: bool = False) -> Manifest:
    """Read a manifest and check everything that can be checked without its images.

    Parameters
    ----------
    join_labels
        Take labels that differ only in how they are written for one; otherwise a warning tells them.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, has no row, or a row has another number of cells, no case or patient, a truth
        that is no class, a case twice, or probabilities that are none.
    """
    path = Path(path)
    lines, sha256 = read_lines(path, NEEDED, REQUIRED)
    header = [name.strip().lower() for name in lines[0].cells]
    _check_header(header, path)
    found = [_row(one, header, path) for one in lines[1:] if any(cell.strip() for cell in one.cells)]
    if not found:
        raise InputError("no rows", "one row for each case", path)
    found, notes = alike_labels(found, join=join_labels)
    found, codes = _without_codes(found)
    predicted = all(name in header for name in PREDICTIONS)
    if predicted:
        notes += alike_names([row["case"] for row in found])
    _check_rows(found, path, predicted=predicted)
    unread = [name for name in header if name and name not in (*REQUIRED, *OPTIONAL, *PREDICTIONS)]
    warnings = [f"The columns {', '.join(unread)} are not read."] if unread else []
    return Manifest(
        path,
        tuple(found),
        sha256,
        has_predictions=predicted,
        warnings=(*notes, *codes, *warnings, *_warnings(found)),
    )


def _row(one: TableLine, header: Sequence[str], path: Path) -> ManifestRow:
    beyond = [cell for cell in one.cells[len(header) :] if cell.strip()]
    if len(one.cells) < len(header) or beyond:
        found = f"{len(one.cells)} cells in line {one.line} under {len(header)} columns"
        raise InputError(found, "a cell for each column, in quotes where it holds the separator", path)
    return ManifestRow(one.line, dict(zip(header, (cell.strip() for cell in one.cells), strict=False)))


def _without_codes(rows: Sequence[ManifestRow]) -> tuple[list[ManifestRow], list[str]]:
    """The rows without codes for what is missing, where they are none of the values that a column can have; and a sentence."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    kept = []
    for row in rows:
        codes = {name for name in CODED if row[name].lower() in CODES or CODE.fullmatch(row[name])}
        for name in codes:
            found[name, row[name]] += 1
        kept.append(ManifestRow(row.line, {**row.cells, **dict.fromkeys(codes, "")}) if codes else row)
    said = [f"{name} {code} ({count} rows)" for (name, code), count in found.items()]
    return kept, [f"Taken for missing: {', '.join(said)}."] if said else []


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
            lacking = [name for name in PREDICTIONS if not row[name]]
            some = "" if len(lacking) == len(PREDICTIONS) else f": {', '.join(lacking)} missing"
            excluded.append(Exclusion(row["case"], f"no prediction in the manifest{some}"))
            continue
        before, after = (_prediction(row, when, manifest.path) for when in WHEN)
        numbers = {name: _number(row, column, manifest.path) if row[column] else None for column, name in NUMBERS.items()}
        cases.append(case_of(row, before, after, slide=row["slide"] or row["case"], **numbers))
    if not cases:
        raise InputError("no row with predictions", f"values in the columns {', '.join(PREDICTIONS)}", manifest.path)
    # Slides may be numbered within their patient.
    patches = len({(case.patient, case.slide) for case in cases}) < len(cases)
    return Cohort(tuple(cases), "patch" if patches else "slide", tuple(excluded), manifest.warnings)


def case_of(row: ManifestRow, before: Prediction, after: Prediction, **more: object) -> ShiftCase:
    """A case as its row names it."""
    strata = {name: row[name] for name in STRATA}
    return ShiftCase(row["case"], row["patient"], row["truth"], before, after, **strata, **more)  # type: ignore[arg-type]


def _check_header(header: Sequence[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if len(header) == 1 and (other := next((one for one in "|:" if header[0].count(one) > 1), "")):
        raise InputError(f"columns separated by {other!r}", "commas, semicolons or tabs", path)
    if missing:
        raise InputError(f"no column {', '.join(missing)}", "the columns case, patient, truth", path)
    if doubled := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"the column {', '.join(doubled)} twice", "each column once", path)
    some = [name for name in PREDICTIONS if name in header]
    if some and len(some) < len(PREDICTIONS):
        lacking = [name for name in PREDICTIONS if name not in header]
        raise InputError(f"{some[0]} but not {', '.join(lacking)}", "all probabilities before and after, or none", path)


def _check_rows(rows: Sequence[ManifestRow], path: Path, *, predicted: bool) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        for name in ("case", "patient"):
            if not row[name]:
                raise InputError(f"no {name} in line {row.line}", f"a {name} in every row", path)
        if row["truth"] not in CLASSES:
            raise InputError(f"the truth {row['truth']!r} in line {row.line}", f"one of {', '.join(CLASSES)}", path)
        name = _case_name(row["case"]) if predicted else row["case"]  # of images the run compares files and pixels
        if name in seen:
            raise InputError(f"the case {row['case']!r} in lines {seen[name]} and {row.line}", "each case once", path)
        seen[name] = row.line


def _case_name(name: str) -> str:
    """What names of one path have in common, and names that look the same in print."""
    shown = "".join(one for one in unicodedata.normalize("NFC", name) if unicodedata.category(one) != "Cf")
    return posixpath.normpath(shown)


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
