"""A case whose findings are known: planted patches, steps and regions on a slide that differs in every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.integration import read_slide, write_wsi
from srh_clinic.integration.results import CaseFindings, Marked, Said, Values, write_results
from srh_clinic.regions import Region
from srh_clinic.slide import ArraySlide, Identity, Slide, pixels_sha256

WHEN = datetime(2026, 3, 4, 5, 6, 7)
SHAPE = (460, 700)
PATCH = 96
"""Edge of a patch in pixels; a third of it is 32, the cell of the maps."""

NOTICE = "Demonstration weights, trained on simulated tissue. Research use only, not a medical device."
PROVENANCE: dict[str, Any] = {
    "version": "0.1.0",
    "bundle": "phantom-demo",
    "weights_sha256": "ab" * 32,
    "seed": 7,
    "settings": {"restorer": "rscd", "sampler": "direct"},
    "notice": NOTICE,
}
RESTORED_BY = {**PROVENANCE, "source_pixels_sha256": "cd" * 32}


@dataclass(frozen=True, eq=False)
class Planted:
    positions: NDArray[np.int64]
    edge: int
    values: NDArray[Any]


def region(y: int, x: int, height: int, width: int, um: float = 0.47) -> Region:
    pixels = {"y": y, "x": x, "height": height, "width": width}
    in_um = {f"{name}_um": round(value * um, 1) for name, value in pixels.items()}
    return Region(where="upper left", **pixels, **in_um)


FLAGGED = (
    Marked("added_nucleus", "a nucleus that the input does not support", region(33, 65, 31, 30), 1.75),
    Marked("lattice", "a pattern of a grid that the input does not have", region(96, 192, 96, 96), 1.25),
)
RESCAN = (Marked("rescan", "poor image quality; worth rescanning", region(0, 384, 192, 192)),)


def corners() -> NDArray[np.int64]:
    """Patches side by side but for the last column and the lower right corner, which is glass."""
    return np.array(
        [(y, x) for y in (0, 96, 192, 288) for x in (0, 96, 192, 288, 384) if (y, x) != (288, 384)], dtype=np.int64
    )


def probabilities(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet([2, 1, 0.5], len(corners())).astype(np.float32)


def counts(seed: int = 0, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = (y * shape[1] + x) % 60_000 + seed
    return np.stack([image, 65_000 - image]).astype(np.uint16)


def findings(scan: Slide, **changes: Any) -> CaseFindings:
    """The findings of a scan of :data:`SHAPE`; ``changes`` replace fields."""
    at = corners()
    restored = ArraySlide(np.asarray(scan.read(0, 0, *scan.shape)) // 2, scan.um_per_px, scan.identity)
    rng = np.random.default_rng(1)
    planted = CaseFindings(
        scan=scan,
        restored=restored,
        before=Said("nondiagnostic", {"tumor": 0.0, "normal": 0.0, "nondiagnostic": 1.0}, 0.75),
        after=Said("tumor", {"tumor": 0.8125, "normal": 0.1875, "nondiagnostic": 0.0}, 0.625),
        classes_before=Values(Planted(at, PATCH, probabilities(1)), 1.0),
        classes_after=Values(Planted(at, PATCH, probabilities()), 1.0),
        steps=Values(Planted(at, PATCH, rng.integers(0, 200, len(at)).astype(np.float32)), 1.0),
        trust=Values(Planted(at, PATCH, rng.random(len(at)).astype(np.float32) * 3), 1.0),
        flagged=FLAGGED,
        rescan=RESCAN,
        doubts=("diagnosis-changed: nondiagnostic as scanned, tumor after restoration",),
        warnings=("differs: restored image differs from its input at 2 places, see trust",),
        notes=("reading: stretched from 12 bits",),
        decision="tumor; the support is above its limit (the caller's)",
        decided="tumor",
        quality="Image quality: steps predicted 90 at the median.",
        quality_numbers={"median": 90, "p90": 150, "largest": 199, "restored": 17, "skipped": 2, "capped": 1, "flagged": 2},
        channel_order="CH2 is the first channel: its name says 2845",
        provenance=PROVENANCE,
        scan_sha256=pixels_sha256(scan),
    )
    return replace(planted, **changes)


def written(folder: Path, scan_changes: Any = None, **changes: Any) -> tuple[list[Path], list[Path]]:
    """A scan in ``folder/scan`` and its results in ``folder/results``: the files of both."""
    identity = Identity(patient_id="P1", specimen_id="S1")
    scan_files = write_wsi(ArraySlide(counts(), 0.47, identity), folder / "scan", created=WHEN)
    for file in scan_files if scan_changes is not None else []:
        scan_changes(file)
    made = findings(read_slide(folder / "scan"), **changes)
    return scan_files, write_results(made, folder / "results", restored_by=RESTORED_BY, created=WHEN)
