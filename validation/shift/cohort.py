"""A simulated cohort on disk: an image a file, and the manifest that an accuracy-shift report is made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.escaping import csv_text
from srh_clinic.files import write_whole
from srh_clinic.integration import write_wsi
from srh_clinic.progress import Progress, silent
from srh_clinic.simulation import simulate_cohort
from srh_clinic.simulation.cohort import DEPTHS_UM, KINDS
from srh_clinic.slide import ArraySlide, Identity

COLUMNS = ("case", "patient", "truth", "site", "depth", "subtype", "severity")


def write_cohort(
    out: str | Path,
    patients: int = 64,
    sites: int = 4,
    depths_um: Sequence[float] = DEPTHS_UM,
    size: int = 480,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    *,
    report: Progress = silent,
) -> Path:
    """Write the images of :func:`~srh_clinic.simulation.simulate_cohort` as DICOM into ``out``, and their manifest.

    Returns
    -------
    The manifest, ``out/manifest.csv``, written when all images are there.

    Raises
    ------
    InputError
        When an argument is out of its range, or ``out`` holds other files by these names or cannot be written.
    """
    folder = Path(out)
    total = patients * len(depths_um)
    rows = []
    for number, image in enumerate(simulate_cohort(patients, sites, depths_um, size, seed, kinds)):
        report("simulating", number, total)
        name = f"{image.case}.dcm"
        identity = Identity(patient_id=image.patient, specimen_id=image.case)
        write_wsi(ArraySlide(image.phantom.counts, image.phantom.um_per_px, identity), folder / name)
        rows.append([name, image.patient, image.truth, image.site, image.depth, image.subtype, image.severity])
    report("simulating", total, total)
    return write_whole(folder / "manifest.csv", csv_text([COLUMNS, *rows]))
