"""The result objects of a case in one folder: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    MicroscopyBulkSimpleAnnotationsStorage,
    ParametricMapStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, telling_of, whole_files
from srh_clinic.integration.damage import DAMAGED
from srh_clinic.integration.dicom_file import quiet_pydicom, read_header
from srh_clinic.integration.dicom_writer import FRAME_PX, pyramid_levels, write_wsi
from srh_clinic.integration.results.annotations import bulk_annotations
from srh_clinic.integration.results.content import CaseFindings
from srh_clinic.integration.results.maps import cell_px, class_segmentation, heat_maps, parametric_map
from srh_clinic.integration.results.report import case_report
from srh_clinic.integration.results.study import ResultStudy, result_uid
from srh_clinic.integration.targets import MANUFACTURER, NEEDED, require_free_target, source_files, target_files
from srh_clinic.slide import Slide

REPORT = "report.dcm"
"""The structured report: the last file to come, so that where it stands all are of one result."""

OBJECTS = (
    *(f"map-{name}.dcm" for name in ("tumor", "normal", "nondiagnostic", "steps", "trust")),
    "classes.dcm",
    "annotations.dcm",
    REPORT,
)
"""The files beside the restored slide's."""

SLIDE = VLWholeSlideMicroscopyImageStorage

CLASSES_BY_NAME = {
    **dict.fromkeys(OBJECTS[:-3], ParametricMapStorage),
    "classes.dcm": SegmentationStorage,
    "annotations.dcm": MicroscopyBulkSimpleAnnotationsStorage,
    REPORT: Comprehensive3DSRStorage,
}
"""The SOP class of each of them."""


def write_results(
    findings: CaseFindings, out: Path, *, restored_by: Mapping[str, Any], created: datetime | None = None
) -> list[Path]:
    """Write a case's results into the study of its scan: the restored slide with a pyramid, maps, annotations and a report.

    Parameters
    ----------
    out
        A folder. Results of the same scan there are replaced.
    restored_by
        What made the restored slide, see :func:`~srh_clinic.integration.write_wsi`.
    created
        Time stamped into the objects (default: now).

    Returns
    -------
    list of Path
        The files, the restored slide's first.

    Raises
    ------
    InputError
        When the place cannot be written or holds something else. What was there is there then, and nothing else.
    """
    created = created or datetime.now()
    require_free_results(out, findings.scan, restored_by)
    # Of a map that has a level's pixels, dicom-microscopy-viewer takes the ratio of the level's widths for its scale, which is
    # half a pixel of the level off at the far edge; of others the ratio of the pixels' sizes, which is exact.
    levels = [factor for factor in pyramid_levels(findings.restored.shape) if factor != cell_px(findings)]
    with whole_files(out, REPORT, _ours(out)) as draft, telling_of(out, draft), quiet_pydicom():
        written = write_wsi(
            findings.restored, draft, derived_from=findings.scan, provenance=restored_by, created=created, levels=levels
        )
        finest = tuple(dcmread(file, stop_before_pixels=True) for file in written[:2])
        scanned: tuple[Dataset, ...] = tuple(findings.scan.identity.attributes.get("headers", ()))
        study = ResultStudy(findings, scanned, finest, created)
        objects: dict[str, Dataset] = {
            f"map-{shown.name}.dcm": parametric_map(study, shown, number)
            for number, shown in enumerate(heat_maps(findings), start=1)
        }
        objects["classes.dcm"] = class_segmentation(study)
        if (annotations := bulk_annotations(study)) is not None:
            objects["annotations.dcm"] = annotations
        objects[REPORT] = case_report(study, list(objects.values()))
        for name, document in objects.items():
            dcmwrite(draft / name, document, enforce_file_format=True)
    return [out / file.name for file in written] + [out / name for name in objects]


def require_free_results(out: Path, scan: Slide, restored_by: Mapping[str, Any]) -> None:
    """Refuse a folder that :func:`write_results` would refuse, as far as it can be known before anything is computed.

    Raises
    ------
    InputError
        When ``out`` is a file, or one of the results' names is taken by something that is no earlier result of the same scan.
    """
    check_place(out, folder=True)
    require_free_target(out, scan, restored_by)
    for name in _ours(out):
        file = out / name
        if file.exists() and (found := _obstacle(file, scan)) is not None:
            raise InputError(found, NEEDED, file)


def result_objects_before(out: Path, run: str) -> bool:
    """Whether ``out`` holds the results of the same call, see :attr:`CaseFindings.run`: its report came last."""
    try:
        header = read_header(out / REPORT).header
        series = str(header.get("SeriesInstanceUID"))
    except (InputError, *DAMAGED):
        return False
    there = all((out / name).is_file() for name in OBJECTS if name != "annotations.dcm")
    return there and series == result_uid("series report", run)


def _ours(out: Path) -> list[str]:
    """The name of every file that an earlier result may have left."""
    levels = [2**power for power in range(1, FRAME_PX.bit_length())]
    return [file.name for file in target_files(out, levels)] + list(OBJECTS)


def _obstacle(file: Path, scan: Slide) -> str | None:
    """Why a file under one of our names must stay; ``None`` when it may be replaced."""
    if any(source.exists() and file.samefile(source) for source in source_files(scan)):
        return "a file that the slide is read from"
    try:
        header = read_header(file).header
        says = {name: str(header.get(name) or "") for name in ("Manufacturer", "SOPClassUID", "StudyInstanceUID")}
    except (InputError, *DAMAGED):
        return "a file that srh-clinic did not write"
    if says["Manufacturer"] != MANUFACTURER or says["SOPClassUID"] != CLASSES_BY_NAME.get(file.name, SLIDE):
        return "a file that srh-clinic did not write as this result"
    if scan.identity.study_uid not in ("", says["StudyInstanceUID"]):
        return "a result of another study"
    return None
