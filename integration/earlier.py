"""Whether a restoration was written before, by the same call: then nothing has to be computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.integration.reader import read_slide
from srh_clinic.integration.targets import derivation, target_files
from srh_clinic.slide import Slide

WHOSE = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "AccessionNumber",
    "ContainerIdentifier",
)
"""What a source may say of patient and study, which its restoration repeats."""


def written_before(out: str | Path, source: Slide, provenance: Mapping[str, Any]) -> list[Path]:
    """The files of a restoration that was made of the same slide in the same way; empty when they are not all there and whole.

    Parameters
    ----------
    out
        Where it would be written: a ``.dcm`` file, or a folder.
    source
        The slide that it is derived from. What its header says of patient and study must stand in the files as well.
    provenance
        What would make it, with ``source_pixels_sha256``: the source is known by its pixels, whatever its file is called.
    """
    files = target_files(Path(out))
    if not all(file.is_file() for file in files):
        return []
    try:
        before = read_slide(files)
    except InputError:
        return []
    theirs, ours = (slide.identity.attributes.get("headers", ()) for slide in (before, source))
    same = (
        {str(header.get("DerivationDescription")) for header in theirs} == {derivation(provenance)},
        before.shape == source.shape,
        abs(before.um_per_px - source.um_per_px) < 1e-6 * source.um_per_px,
        before.identity.patient_id == source.identity.patient_id,
        all(_repeats(header, ours[0]) for header in theirs if ours),
    )
    return files if all(same) else []


def _repeats(header: Dataset, source: Dataset) -> bool:
    return all(str(header.get(name)) == str(source.get(name)) for name in WHOSE if name in source)
