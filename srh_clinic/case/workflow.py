"""From a case to files: what the command line and MONAI's ``python -m monai.bundle run`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.preview import Preview
from srh_clinic.case.provenance import origin_of, require_own_folder
from srh_clinic.case.record import CaseOrigin, CaseRecord
from srh_clinic.case.result import CaseResult, result_before
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Slide

DECIDING = ("selective", "reference")
"""Settings that change what is said of a slide and none of its pixels."""

Writer = Callable[[CaseResult, Path], object]
"""Writes what it makes of a result into a folder."""


def diagnose_into(
    pipeline: RestoreThenClassify,
    slide: Slide,
    origin: CaseOrigin,
    *,
    out: Path | None,
    dicom_out: Path | None = None,
    more: Sequence[Writer] = (),
    work: Path | None = None,
    progress: Progress = silent,
    preview: Preview | None = None,
) -> CaseResult:
    """Restore and classify a slide, and write what came of it: the result into ``out``, DICOM to ``dicom_out``.

    A ``dicom_out`` that ends in ``.dcm`` gets the restored slide, any other is a folder that gets all result objects.

    Raises
    ------
    InputError
        When the slide cannot be read, a place cannot be written, or ``dicom_out`` holds something else; this before anything
        is computed.
    """
    made_by = restored_by(pipeline, origin)
    if dicom_out is not None:
        require_free_dicom(dicom_out, slide, made_by)
    result = pipeline(slide, work=work, progress=progress, origin=origin, preview=preview)
    if dicom_out is not None:
        progress("writing DICOM", 0, 1)
        _write_dicom(result, slide, dicom_out, made_by)
        progress("writing DICOM", 1, 1)
    if out is not None:
        progress("drawing", 0, 1)
        result.save(out, lambda draft: [write(result, draft) for write in more])
        progress("drawing", 1, 1)
    return result


def require_free_dicom(dicom_out: Path, slide: Slide, made_by: Mapping[str, Any]) -> None:
    """Refuse a place for DICOM that holds something else; ``made_by`` is what :func:`restored_by` says.

    Raises
    ------
    InputError
        When it does, or cannot be written.
    """
    from srh_clinic.integration import require_free_target
    from srh_clinic.integration.results import require_free_results
    from srh_clinic.integration.targets import is_one_file

    (require_free_target if is_one_file(dicom_out) else require_free_results)(dicom_out, slide, made_by)


def _write_dicom(result: CaseResult, slide: Slide, dicom_out: Path, made_by: Mapping[str, Any]) -> None:
    from srh_clinic.case.findings import findings_of
    from srh_clinic.integration import write_wsi
    from srh_clinic.integration.deidentify import NO_DATE, NamelessSlide
    from srh_clinic.integration.results import write_results
    from srh_clinic.integration.targets import is_one_file

    # A case is often diagnosed on the day of its operation, and that is the day of the study.
    created = NO_DATE if isinstance(slide, NamelessSlide) else None
    if is_one_file(dicom_out):
        write_wsi(result.restored.on_scan, dicom_out, derived_from=slide, provenance=made_by, created=created)
    else:
        write_results(findings_of(result, slide), dicom_out, restored_by=made_by, created=created)


def diagnosed_before(
    pipeline: RestoreThenClassify,
    slide: Slide,
    origin: CaseOrigin,
    *,
    out: Path | None,
    dicom_out: Path | None = None,
    more: Collection[str] = (),
) -> CaseRecord | None:
    """The result of a :func:`diagnose_into` like this one that has written everything, ``more`` of the optional files.

    Returns
    -------
    None when something is missing or was made in another way, or when there is no ``out``.
    """
    from srh_clinic.integration import written_before
    from srh_clinic.integration.results import result_objects_before, run_of
    from srh_clinic.integration.targets import is_one_file

    if out is None:
        return None
    record = result_before(out, pipeline.made_by, origin, slide.um_per_px, more=more)
    if record is None or dicom_out is None:
        return record
    if not written_before(dicom_out, slide, restored_by(pipeline, origin)):
        return None
    if is_one_file(dicom_out):
        return record
    run = run_of(pipeline.made_by, slide, origin.pixels_sha256)
    return record if result_objects_before(dicom_out, run) else None


def restored_by(pipeline: RestoreThenClassify, origin: CaseOrigin) -> dict[str, Any]:
    """What a restored slide is known by among others of the same place; what only decides changes none of its pixels."""
    made_by = pipeline.made_by
    settings = {name: value for name, value in made_by["settings"].items() if name not in DECIDING}
    return {**made_by, "settings": settings, "source_pixels_sha256": origin.pixels_sha256}


def diagnose_case(
    bundle: str | Path,
    case: str | Path,
    output_dir: str | Path,
    restorer: str = "rscd",
    device: str = "auto",
    seed: int = 0,
    dicom_out: str | Path | None = None,
) -> CaseResult:
    """What ``configs/inference.json`` of a bundle runs: a case's file or folder in, the folder of its result out.

    Parameters
    ----------
    bundle
        The bundle's folder, or the name of one in the package.
    dicom_out
        Where the restored slide is written too, a ``.dcm`` file, or all result objects, a folder.

    Raises
    ------
    InputError
        When bundle or case cannot be read, or a place holds the result of another case.
    """
    from srh_clinic.files import check_place
    from srh_clinic.integration import read_slide

    slide, out = read_slide(case), Path(output_dir)
    check_place(out, folder=True)
    origin = origin_of(slide)
    require_own_folder(out, origin)
    # A Path: what MONAI calls the bundle's root is a folder, also where a bundle of the package has its name.
    pipeline = RestoreThenClassify.from_bundle(Path(bundle), restorer, device, seed, selective_policy="bundle")
    return diagnose_into(pipeline, slide, origin, out=out, dicom_out=None if dicom_out is None else Path(dicom_out))
