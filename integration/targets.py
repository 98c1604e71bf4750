"""Where a slide may be written: names that are free, or hold an earlier output of the same kind, never a source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from srh_clinic import __version__
from srh_clinic.errors import InputError
from srh_clinic.files import check_place
from srh_clinic.integration.dicom_file import DAMAGED, quiet_pydicom, read_header
from srh_clinic.intensity import RAMAN_SHIFTS
from srh_clinic.slide import Identity, Slide

MANUFACTURER = "srh-clinic"
"""Manufacturer of every image that we write, by which we know them again."""

NEEDED = "a name that is not taken, or that of an earlier output of the same source"

_SUMMARY = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Manufacturer",
    "DerivationDescription",
    "SourceImageSequence",
]


def is_one_file(out: Path) -> bool:
    """Whether ``out`` names a file for both optical paths; otherwise it names a folder with one file per Raman shift."""
    return out.suffix.lower() == ".dcm"


def target_files(out: Path, levels: Sequence[int] = ()) -> list[Path]:
    """The files that a slide written to ``out`` is made of, with those of the ``levels`` of its pyramid."""
    if is_one_file(out):
        return [out]
    return [out / f"SRS{shift}{level}.dcm" for level in ("", *(f"-{factor}" for factor in levels)) for shift in RAMAN_SHIFTS]


def is_of_slide(file: Path) -> bool:
    """Whether a file of a folder of results is of the restored slide, by the name that :func:`target_files` gave it."""
    return file.stem.partition("-")[0] in {f"SRS{shift}" for shift in RAMAN_SHIFTS}


def require_new(out: Path, endings: Sequence[str], what: str) -> None:
    """Refuse a name that is taken, or that does not say ``what`` it holds by one of ``endings``.

    Raises
    ------
    InputError
        When it is.
    """
    if not out.name.lower().endswith(tuple(endings)):
        raise InputError(f"the name {out.name!r} for {what}", f"one that ends in {' or '.join(endings)}")
    if out.exists():
        raise InputError("a name that is taken", "another one", out)


def require_free_target(out: Path, source: Slide | None, provenance: Mapping[str, Any] | None = None) -> None:
    """Refuse a place that :func:`write_wsi` would refuse, as far as it can be known before the slide is computed.

    Parameters
    ----------
    out
        Where the slide will be written: a ``.dcm`` file, or a folder.
    source
        The slide that it will be derived from; ``None`` for an original.
    provenance
        What will make it, where that is known: then an earlier restoration that was made in another way is not replaced.

    Raises
    ------
    InputError
        When a file of the source, or a file that is no earlier output of the same source, would be overwritten. A source
        without DICOM identity leaves no trace in what is derived from it, so any existing file is refused there unless
        ``provenance`` tells the pixels of the source and is the same.
    """
    ours = None if provenance is None else derivation(provenance)
    try:
        check_place(out, folder=not is_one_file(out))
        for target in target_files(out):
            if target.exists():
                origin = None if source is None else source.identity
                found = _obstacle(target, source_files(source), origin, derivation=ours)
                same = provenance is not None and "source_pixels_sha256" in provenance
                if found is None and source is not None and not _source_uids(origin) and not same:
                    found = "an existing file that does not show whether it was made from this source"
                if found is not None:
                    raise InputError(found, NEEDED, target)
    except OSError as error:
        raise InputError(f"a place that cannot be read ({error.strerror})", "a readable folder", out) from error


def check_replaceable(target: Path, files: Sequence[Path], origin: Identity | None, series_uid: str) -> None:
    """Refuse an existing file that is not an earlier output of the series ``series_uid`` or of the same source.

    ``files`` are those that the source's pixels come from, ``origin`` is its identity.
    """
    if target.exists() and (found := _obstacle(target, files, origin, series_uid)) is not None:
        raise InputError(found, NEEDED, target)


def source_files(source: object) -> tuple[Path, ...]:
    """The files that a slide's pixels come from, where it says so."""
    files: tuple[Path, ...] = getattr(source, "files", ())
    return files


def derivation(provenance: Mapping[str, Any]) -> str:
    """The Derivation Description of what was made so; it tells one provenance from another."""
    run = json.dumps(provenance, sort_keys=True, default=str)
    text = f"Restored by srh-clinic {__version__}, research use only: {run}"
    if len(text) <= 1024:  # the length of an ST value
        return text
    return (
        f"Restored by srh-clinic {__version__}, research use only: settings sha256 {hashlib.sha256(run.encode()).hexdigest()}"
    )


def _obstacle(
    target: Path,
    files: Sequence[Path],
    origin: Identity | None,
    series_uid: str | None = None,
    derivation: str | None = None,
) -> str | None:
    """Why an existing file must stay; ``None`` when it may be replaced. ``series_uid`` is ``None`` before it is known."""
    if target.is_dir():
        return "a folder"
    if any(file.exists() and target.samefile(file) for file in files):
        return "a file that the slide is read from"
    try:
        with quiet_pydicom():
            header = read_header(target, _SUMMARY).header
            says = {keyword: str(header.get(keyword) or "") for keyword in _SUMMARY[:5]}
            referenced = _referenced(header)
    except InputError as error:
        return error.found
    except DAMAGED:
        return "a damaged DICOM file"
    sources = _source_uids(origin)
    if says["SOPInstanceUID"] in sources:
        return "an image that the slide is derived from"
    if says["SOPClassUID"] != VLWholeSlideMicroscopyImageStorage or says["Manufacturer"] != MANUFACTURER:
        return "a DICOM file that srh-clinic did not write"
    same_series = says["SeriesInstanceUID"] == series_uid or (series_uid is None and not sources)
    if not (same_series or referenced & sources):
        return "a slide of another series"
    if derivation is not None and says["DerivationDescription"] != derivation:
        return "a restoration of another source, or one made with other settings, weights or another version"
    return None


def _source_uids(origin: Identity | None) -> set[str]:
    """SOP Instance UIDs of the instances that a slide comes from."""
    headers: tuple[Dataset, ...] = () if origin is None else origin.attributes.get("headers", ())
    return {str(header.get("SOPInstanceUID")) for header in headers}


def _referenced(header: Dataset) -> set[str]:
    """SOP Instance UIDs of the images that an image says it is derived from."""
    return {str(item.get("ReferencedSOPInstanceUID")) for item in header.get("SourceImageSequence") or []}
