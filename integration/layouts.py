"""A simulated case in each layout of files that is read."""

from __future__ import annotations

from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_writer import write_wsi
from srh_clinic.integration.nio_writer import NioLayout, Scan, write_nio
from srh_clinic.integration.opensrh_writer import write_opensrh
from srh_clinic.integration.tiff_writer import write_tiff
from srh_clinic.progress import Progress, silent
from srh_clinic.simulation import simulate_case
from srh_clinic.slide import ArraySlide, Identity

NIO: dict[str, NioLayout] = {"nio": "folders", "nio-mosaic": "mosaic", "nio-numbered": "numbered"}
LAYOUTS = ("dicom", "tiff", *NIO, "opensrh")


def write_simulated(
    out: Path,
    layout: str = "dicom",
    diagnosis: str = "tumor",
    quality: float = 0.3,
    size: int = 1024,
    seed: int = 0,
    scan: Scan | None = None,
    patients: int = 12,
    report: Progress = silent,
) -> list[Path]:
    """Write a simulated case, or for ``"opensrh"`` a tree of ``patients``, whose tissue is of their own.

    Parameters
    ----------
    out
        A file or a folder, as the layout has it.
    layout
        One of :data:`LAYOUTS`.
    diagnosis, quality, size, seed
        As in :func:`srh_clinic.simulation.simulate_case`.
    scan
        How the strips of an NIO imager are scanned.

    Raises
    ------
    InputError
        When the layout is unknown, an argument is none that it takes, or the place cannot be written.
    """
    if layout not in LAYOUTS:
        raise InputError(f"the layout {layout!r}", "one of " + ", ".join(LAYOUTS))
    if layout == "opensrh":
        return [write_opensrh(out, patients, seed=seed, report=report)]
    phantom = simulate_case(diagnosis, quality, size, seed)  # type: ignore[arg-type] # refused there if it is none of them
    slide = ArraySlide(phantom.counts, phantom.um_per_px, Identity(patient_id="PHANTOM", specimen_id=f"{diagnosis}-{seed}"))
    if layout == "tiff":
        return [write_tiff(slide, out)]
    return write_wsi(slide, out) if layout == "dicom" else [write_nio(slide, out, NIO[layout], scan)]
