"""The gallery of an accuracy-shift report: the worst harm in pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from srh_clinic.validation.reporting.report import Exhibit, Picture, Section
from srh_clinic.validation.shift.harm import ledger
from srh_clinic.validation.shift.records import Cohort, ShiftCase

EXHIBITS = 12
"""Harmed cases that the gallery shows, the gravest; the ledger has all."""

PICTURE_EDGE = 260
"""Longer edge in px of a picture in the gallery."""

DIFFERENCE_SHOWN = 96
"""Change in grey levels of 255 at which the colours of a difference are full."""


def gallery(cohort: Cohort, out: Path) -> Section:
    """The worst harm in pictures."""
    harmed, title = ledger(cohort), "Gallery of harm"
    if not harmed:
        return Section("gallery", title, ["No case was harmed."])
    grave = [case for case in harmed if case.folder is not None][:EXHIBITS]
    if not grave:
        return Section("gallery", title, missing=["the manifest brought predictions, so there are no images"])
    shown = [
        Exhibit(
            case=case.case,
            says=f"truth {case.truth}: {case.before.said} ({case.before.certainty:.2f}) as scanned, {case.after.said} "
            f"({case.after.certainty:.2f}) restored.",
            pictures=tuple(_pictures(case)),
            page=str((case.folder / "case.html").relative_to(out)) if case.folder is not None else "",
        )
        for case in grave
    ]
    text = [
        f"{len(shown)} of {len(harmed)} harmed cases, the gravest first: as scanned, restored, what restoration took "
        "(blue) and gave (red), the steps that the calibrator asked for, and how strongly the guards speak against it."
    ]
    return Section("gallery", title, text, gallery=shown)


def _pictures(case: ShiftCase) -> Iterator[Picture]:
    from PIL import Image

    if case.folder is None:
        return
    with Image.open(case.folder / "before.png") as before, Image.open(case.folder / "after.png") as after:
        change = np.asarray(after.convert("L"), dtype=np.float64) - np.asarray(before.convert("L"), dtype=np.float64)
        given, taken = np.clip(change / DIFFERENCE_SHOWN, 0, 1), np.clip(-change / DIFFERENCE_SHOWN, 0, 1)
        coloured = 255 * np.stack([1 - taken, 1 - given - taken, 1 - given], axis=-1)
        pictures = {
            "as scanned": before.convert("RGB"),
            "restored": after.convert("RGB"),
            "difference": Image.fromarray(np.clip(np.rint(coloured), 0, 255).astype(np.uint8)),
        }
    for name, title in (("step_map", "steps"), ("trust_map", "guards")):
        with Image.open(case.folder / f"{name}.png") as drawn:
            pictures[title] = drawn.convert("RGB")
    for title, picture in pictures.items():
        picture.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        yield Picture(title, base64.b64encode(buffer.getvalue()).decode())
