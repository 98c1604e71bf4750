"""Seams: do the borders of tiles show in a restored slide?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.case.restoring import at_pixel_size, look_over, restore_slide
from srh_clinic.integration import read_slide
from srh_clinic.metrics import seam_ratio
from srh_clinic.restorers import create_restorer
from srh_clinic.simulation import simulate_case
from srh_clinic.simulation.phantom import CaseDiagnosis
from srh_clinic.slide import ArraySlide, Identity, Slide
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table

LARGEST_RATIO = 1.05
"""Gradient energy on borders over that elsewhere; what was asked for."""

CASES: tuple[CaseDiagnosis, ...] = ("tumor", "normal", "mixed")
"""What the phantom cases show."""

CASE_QUALITY = 0.3
CASE_SIZE = 1024

REAL_UM_PER_PX = 0.35
"""Pixel size of the real brain field, which its file does not state."""


@dataclass(frozen=True)
class Field:
    """A slide to restore; ``clean`` holds counts ``(2, H, W)`` where the truth is known."""

    name: str
    slide: Slide
    clean: NDArray[Any] | None = field(default=None, repr=False)


def phantom_fields(bench: Bench, size: int = CASE_SIZE) -> list[Field]:
    """Degraded cases beyond the seeds of the test phantoms, so that they are in no training either.

    Several, because the tissue of one happens to have more or fewer edges where tiles end.
    """
    first = bench.protocol.phantoms.first_seed + bench.protocol.phantoms.count
    fields = []
    for seed, diagnosis in enumerate(CASES, start=first):
        case = simulate_case(diagnosis, CASE_QUALITY, size, seed)
        name = f"phantom: {diagnosis}, {size} px, quality {CASE_QUALITY}, seed {seed}"
        fields.append(Field(name, ArraySlide(case.counts, case.um_per_px, Identity(source=name)), case.clean))
    return fields


def real_field(path: Path) -> Field:
    """A real field of human brain.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    return Field(f"real brain, {path.name}", read_slide(path, REAL_UM_PER_PX))


def seams(bench: Bench, fields: list[Field], *, skipped: str = "") -> Report:
    """Seam ratio of each field as scanned and restored by the default RSCD.

    Parameters
    ----------
    skipped
        Says which field is missing and why.
    """
    rows = _ratios(bench, fields)
    return Report(
        name="seams",
        title="Seams between tiles",
        summary=(
            "Gradient energy across the lines on which tiles begin or end, over that across all other lines; 1 when tiles "
            f"leave no trace. {skipped}".strip()
        ),
        tables=(
            Table("What was asked", CRITERIA, _criteria(rows)),
            Table(
                "Ratios",
                (
                    Column("field", "Field"),
                    Column("image", "Image"),
                    Column("tiles", "Tiles", "d"),
                    Column("ratio", "Ratio", ".3f"),
                    Column("relative", "Over that as scanned", ".3f"),
                    Column("rows", "Across rows", ".3f"),
                    Column("columns", "Across columns", ".3f"),
                    Column("shifted", "95 % of shifted grids below", ".3f"),
                ),
                rows,
                "Shifted grids have the same borders moved to where no tile ends: what tissue alone gives.",
            ),
        ),
        provenance=bench.provenance(0),
    )


def _criteria(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over phantoms, and each real field."""
    restored = [row for row in rows if row["image"] == "restored"]
    phantoms = [row["ratio"] for row in restored if row["known"]]
    judged = [(row["field"], row["ratio"]) for row in restored if not row["known"]]
    if phantoms:
        judged.insert(0, (f"mean of {len(phantoms)} phantoms", float(np.mean(phantoms))))
    return [
        {"asked": f"{name}: at most {LARGEST_RATIO}", "measured": f"{ratio:.3f}", "met": ratio <= LARGEST_RATIO}
        for name, ratio in judged
    ]


def _ratios(bench: Bench, fields: list[Field]) -> list[dict[str, Any]]:
    """Seam ratio of each image of each field."""
    restorer = create_restorer("rscd", bundle=str(bench.bundle.path), device=bench.device)
    rows: list[dict[str, Any]] = []
    for place, one in enumerate(fields):
        view, _ = at_pixel_size(one.slide, bench.bundle.metadata["um_per_px"])
        restored = restore_slide(
            view,
            look_over(view),
            restorer,
            bench.bundle,
            work=bench.work,
            progress=lambda _, done, total, name=one.name: bench.report(f"seams: {name}", done, total),  # type: ignore[misc]
        )
        everything = (0, 0, *view.shape)
        images = {"as scanned": view.read(*everything), "restored": restored.slide.read(*everything), "clean": one.clean}
        measured = {image: seam_ratio(counts, restored.grid) for image, counts in images.items() if counts is not None}
        for image, ratio in measured.items():
            rows.append(
                {
                    "field": one.name,
                    "known": one.clean is not None,
                    "image": image,
                    "tiles": len(restored.grid),
                    "ratio": ratio.value,
                    "relative": ratio.value / measured["as scanned"].value,
                    "rows": ratio.rows,
                    "columns": ratio.columns,
                    "shifted": ratio.shifted,
                }
            )
        bench.report("seams", place + 1, len(fields))
    return rows
