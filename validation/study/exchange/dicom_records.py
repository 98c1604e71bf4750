"""What raters called a hallucination, as DICOM beside the slides that it was called in.

Formats: DICOM Key Object Selection (PS3.3 A.35.4) and Comprehensive SR with a measurement report (PS3.16 TID 1500), as
:mod:`srh_clinic.integration.evidence` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.integration import DicomSlide, read_slide
from srh_clinic.integration.evidence import MarkedRegion, ObserverReading, encoded, key_object_selection, observation_report
from srh_clinic.validation.study.records import Region
from srh_clinic.validation.study.unblinding import Answer, Unblinded

Place = tuple[Path, int, int]
"""A DICOM file or folder, and the row and column of its total pixel matrix at which a case's image starts."""


def dicom_export(
    unblinded: Unblinded, cases: Mapping[str, Place], out: Path, *, created: datetime | None = None
) -> list[Path]:
    """Write, for each rater and slide, what the rater said of its restorations; it unblinds, for it names the methods.

    ``SLIDE-RATER-report.dcm`` is a structured report with every answer about hallucinations and every region;
    ``SLIDE-RATER-key-objects.dcm`` points out the slide's instances, where the rater called a hallucination possible or
    definite. Only real tasks are in them: a repeat would say the same twice, and a sentinel was edited to be found.
    Patient and study are those of the slide; the rater is an identifier. Slides are numbered in the order of ``cases``.

    Parameters
    ----------
    unblinded
        The study with its key opened.
    cases
        Where the image of each case was cut from, by ``case_id``.
    out
        The folder.
    created
        Content date and time (default: now).

    Returns
    -------
    list of Path
        The files written; a slide and rater have a second file only where a hallucination was called.

    Raises
    ------
    InputError
        When a case that was answered is not in ``cases``, its path holds no DICOM slide, or its image leaves the slide.
    """
    named = {answer.key.case_id: answer for answer in unblinded.answers if answer.key.kind == "real"}
    if missing := sorted(named.keys() - cases.keys()):
        raise InputError(f"no DICOM file for the case {missing[0]}", "a DICOM file of each case that was rated")
    slides: dict[Path, DicomSlide] = {}
    for case_id, answer in named.items():
        path, y, x = cases[case_id]
        if path not in slides:
            slides[path] = _slide(path)
        height, width = slides[path].shape
        if not (0 <= y <= height - answer.task.height and 0 <= x <= width - answer.task.width):
            found = f"the case {case_id} at y={y} x={x}, {answer.task.height} x {answer.task.width} px"
            raise InputError(found, f"a place within the slide's {height} x {width} px", path)
    written: list[Path] = []
    paths = list(dict.fromkeys(path for path, _, _ in cases.values() if path in slides))
    for number, path in enumerate(paths, start=1):
        for rater in unblinded.protocol.raters:
            answers = [
                answer
                for answer in unblinded.answers
                if answer.key.kind == "real"
                and answer.task.rater_id == rater.rater_id
                and cases[answer.key.case_id][0] == path
            ]
            stem = out / f"slide{number}-{rater.rater_id}"
            written += _documents(unblinded, slides[path], answers, cases, stem, created)
    return written


def _slide(path: Path) -> DicomSlide:
    slide = read_slide(path)
    if not isinstance(slide, DicomSlide):
        raise InputError("an image that is not DICOM", "a DICOM whole slide image", path)
    return slide


def _documents(
    unblinded: Unblinded,
    slide: DicomSlide,
    answers: Sequence[Answer],
    cases: Mapping[str, Place],
    stem: Path,
    created: datetime | None,
) -> list[Path]:
    readings = [reading for answer in answers for reading in _readings(answer, cases[answer.key.case_id])]
    if not readings:
        return []
    observer, study_id = answers[0].task.rater_id, unblinded.protocol.study_id
    report = observation_report(
        slide.headers, readings, observer=observer, title=f"Rater study {study_id}"[:64], created=created
    )
    written = [write_whole(stem.with_name(f"{stem.name}-report.dcm"), encoded(report))]
    called = sum(reading.hallucination != "none" for reading in readings)
    if called:
        description = f"Rater study {study_id}: hallucination called in {called} of {len(readings)} restorations"
        selection = key_object_selection(slide.headers, observer=observer, description=description, created=created)
        written.append(write_whole(stem.with_name(f"{stem.name}-key-objects.dcm"), encoded(selection)))
    return written


def _readings(answer: Answer, place: Place) -> list[ObserverReading]:
    """What was said of each side, its regions moved into the slide."""
    _, y, x = place
    sides = (
        ("A", answer.key.side_A_method, answer.rating.halluc_A),
        ("B", answer.key.side_B_method, answer.rating.halluc_B),
    )
    return [
        ObserverReading(
            identifier=f"{answer.task.rater_id}/{answer.task.seq}/{side}",
            method=method,
            hallucination=called,
            regions=tuple(_moved(region, y, x) for region in answer.rating.regions if region.side == side),
        )
        for side, method, called in sides
        if method is not None and called is not None
    ]


def _moved(region: Region, y: int, x: int) -> MarkedRegion:
    xy = tuple(number + (x, y)[place % 2] for place, number in enumerate(region.xy))
    return MarkedRegion(region.shape, xy, region.category, region.severity)
