"""Cases of a manifest restored and classified: what is missing is run, each result is kept, a run that was cut goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from srh_clinic import __version__
from srh_clinic.bundles.bundle import MODEL_CARD
from srh_clinic.case.pictures import SquareMap
from srh_clinic.case.pipeline import RestoreThenClassify
from srh_clinic.case.provenance import drift_made_with, origin_of
from srh_clinic.case.record import CaseRecord, SaidOfSlide
from srh_clinic.case.result import OURS, PAGE, CaseResult
from srh_clinic.casepage import write_case_page
from srh_clinic.diagnosis import CLASSES, is_harm, outcome
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint, write_whole
from srh_clinic.integration import read_slide
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Reading, Slide
from srh_clinic.validation.shift.manifest import Manifest, case_of
from srh_clinic.validation.shift.records import Cohort, Exclusion, ManifestRow, Prediction, ShiftCase
from srh_clinic.validation.shift.sections.materials import scan_facts

KEPT = 2
"""Version of what a case's ``case.json`` holds; those of another are run anew."""

RESULT = "case.json"

WORK = ".partial"
"""Folder of the tiles of the case that is under way: a call that was cut goes on from them."""


@dataclass(frozen=True, eq=False)
class Run:
    """What came of a manifest's images: its slides and their patches, and what made them."""

    slides: Cohort
    patches: Cohort
    provenance: dict[str, Any]
    profiles: Mapping[str, dict[str, Any]]
    """What the drift check compares, by case."""
    made_with: Mapping[str, str]
    """What a case must have in common with these to be compared with them."""
    scans: Sequence[Mapping[str, Any]] = ()
    """What the images' headers say of their acquisition."""
    card: str = ""
    """The bundle's model card."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The bundle's."""


def run_cases(
    manifest: Manifest,
    out: Path,
    pipeline: RestoreThenClassify,
    reading: Reading,
    *,
    report: Progress = silent,
) -> Run:
    """Restore and classify every case of a manifest whose result is not in ``out/cases`` yet.

    A case that cannot be read takes no part, and the run says why. Of a case that restoration harms, the pictures and the
    case page are written as well.

    Raises
    ------
    InputError
        When no case can be read, two are one image, or ``out`` cannot be written.
    """
    _require_different_files(manifest)
    slides: list[ShiftCase] = []
    patches: list[ShiftCase] = []
    excluded: list[Exclusion] = []
    profiles: dict[str, dict[str, Any]] = {}
    made_by: dict[str, Any] = {}
    lines: dict[str, int] = {}
    scans: list[dict[str, Any]] = []
    for number, row in enumerate(manifest.rows):
        report("cases", number, len(manifest.rows))
        folder = out / "cases" / f"{number + 1:04d}-{_safe(Path(row['case']).stem)}"
        path = manifest.case_path(row)
        try:
            slide = _opened(path, manifest.other_path(row), reading)
            key = _key(slide, pipeline, reading)
            kept = _kept(folder, key, row) or _run(folder, slide, key, row, pipeline, out / WORK)
        except InputError as error:
            excluded.append(Exclusion(row["case"], f"found {error.found}"))
            continue
        earlier = lines.setdefault(kept["result"]["case"]["pixels_sha256"], row.line)
        if earlier != row.line:
            raise _one_image_twice(earlier, row.line, manifest)
        slides.append(_slide(row, kept, folder))
        patches += _patches(row, kept)
        scans.append(scan_facts(slide))
        profiles[row["case"]] = kept["profile"]
        made_by = kept["result"]["provenance"]
    report("cases", len(manifest.rows), len(manifest.rows))
    shutil.rmtree(out / WORK, ignore_errors=True)
    if not slides:
        raise InputError(
            f"no case that can be read ({excluded[0].case}: {excluded[0].why})", "at least one readable case", manifest.path
        )
    history = tuple(excluded), manifest.warnings
    made_with = drift_made_with(pipeline.bundle, pipeline.restorer, pipeline.conservative)
    levels = Cohort(tuple(slides), "slide", *history), Cohort(tuple(patches), "patch", *history)
    bundle = pipeline.bundle
    card = bundle.path / MODEL_CARD
    said = card.read_text(encoding="utf-8") if card.is_file() else ""
    return Run(*levels, made_by, profiles, made_with, scans, said, bundle.metadata)


def _require_different_files(manifest: Manifest) -> None:
    """Refuse a file or folder that two rows name, by whichever paths, before anything is restored."""
    lines: dict[tuple[int, int], int] = {}
    for row in manifest.rows:
        try:
            found = manifest.case_path(row).stat()
        except (OSError, ValueError):
            continue  # the run says why it takes no part
        if (earlier := lines.setdefault((found.st_dev, found.st_ino), row.line)) != row.line:
            raise _one_image_twice(earlier, row.line, manifest)


def _one_image_twice(earlier: int, later: int, manifest: Manifest) -> InputError:
    return InputError(f"one image in lines {earlier} and {later}", "each image once", manifest.path)


def _safe(name: str) -> str:
    """A file's name that every system takes, of whatever stands in a manifest."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40] or "case"


def _opened(path: Path, other: Path | None, reading: Reading) -> Slide:
    """A case as it lies there now, its siblings or the file of its other channel included; no pixel is kept."""
    for file in (path, *([] if other is None else [other])):
        if not file.exists():
            raise InputError("no such file", "a DICOM file or folder, or a two-channel TIFF", file)
    return read_slide(path if other is None else (path, other), **reading.options)


def _key(slide: Slide, pipeline: RestoreThenClassify, reading: Reading) -> str:
    """Everything that a result depends on; of the image what its files held when it was opened."""
    return fingerprint(
        version=(__version__, KEPT),
        weights=pipeline.bundle.weights_sha256,
        restorer=(pipeline.restorer.name, pipeline.restorer.settings),
        asked=(pipeline.seed, pipeline.conservative, pipeline.seeds, *reading.options.values()),
        content=slide.identity.content,
    )


def _kept(folder: Path, key: str, row: ManifestRow) -> dict[str, Any] | None:
    """The result of an earlier run, if it is of this image, these weights and settings, and this truth."""
    try:
        kept: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        CaseRecord.model_validate(kept["result"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    # The truth decides whether pictures were drawn.
    return kept if kept.get("key") == key and kept.get("truth") == row["truth"] else None


def _run(folder: Path, slide: Slide, key: str, row: ManifestRow, pipeline: RestoreThenClassify, work: Path) -> dict[str, Any]:
    origin = origin_of(slide, identity=False)  # a cohort's report travels; its manifest says whose
    result = pipeline(slide, work=work, origin=origin)
    if is_harm(outcome(row["truth"], result.before.diagnosis), outcome(row["truth"], result.diagnosis)):
        result.save(folder, lambda draft: write_case_page(result, draft / PAGE, row["case"]))
    else:  # an earlier run may have known another truth
        for name in OURS:
            (folder / name).unlink(missing_ok=True)
    kept = {
        "key": key,
        "truth": row["truth"],
        "trust": float(result.scrutiny.strengths.max()) if len(result.scrutiny.strengths) else None,
        "result": result.to_dict(),
        "patches": _listed(result.maps.classes_before, result.maps.classes_after),
        "profile": _profile(result),
    }
    write_whole(folder / RESULT, (json.dumps(kept) + "\n").encode())
    result.restored.discard()
    return kept


def _profile(result: CaseResult) -> dict[str, Any]:
    """What the drift check compares.

    Raises
    ------
    ValueError
        When the pipeline was not asked for it.
    """
    if result.profile is None:
        raise ValueError("found no profile; needed a pipeline with profiled=True.")
    return asdict(result.profile)


def _listed(before: SquareMap, after: SquareMap) -> list[dict[str, Any]]:
    """Each patch's corner, and what was said of it as scanned and restored."""
    return [
        {"y": y, "x": x, "before": _rounded(was), "after": _rounded(now)}
        for (y, x), was, now in zip(before.positions.tolist(), before.values, after.values, strict=True)
    ]


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


def _slide(row: ManifestRow, kept: Mapping[str, Any], folder: Path) -> ShiftCase:
    result = CaseRecord.model_validate(kept["result"])
    return case_of(
        row,
        _of_slide(result.before),
        _of_slide(result),
        steps_predicted=float(result.steps.median) if result.steps.largest else None,
        trust=kept["trust"],
        slide=row["case"],
        folder=folder if (folder / PAGE).is_file() else None,
    )


def _of_slide(said: SaidOfSlide) -> Prediction:
    p = said.probabilities
    return Prediction(said.diagnosis, (p.tumor, p.normal, p.nondiagnostic), said.support)


def _patches(row: ManifestRow, kept: Mapping[str, Any]) -> list[ShiftCase]:
    return [
        case_of(
            ManifestRow(row.line, {**row.cells, "case": f"{row['case']} at {patch['y']}, {patch['x']}"}),
            _of_patch(patch["before"]),
            _of_patch(patch["after"]),
            slide=row["case"],
        )
        for patch in kept["patches"]
    ]


def _of_patch(values: list[float]) -> Prediction:
    p = np.asarray(values)
    first, second, third = (float(value) for value in p / p.sum())
    return Prediction(CLASSES[int(p.argmax())], (first, second, third))
