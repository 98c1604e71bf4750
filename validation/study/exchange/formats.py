"""A study in the formats of other programs, and answers that come back from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.files import claimed, write_whole
from srh_clinic.validation.study.exchange.coco import coco_export
from srh_clinic.validation.study.exchange.imrmc import imrmc_export
from srh_clinic.validation.study.exchange.label_studio import label_studio_export, label_studio_import
from srh_clinic.validation.study.exchange.redcap import redcap_export, redcap_import
from srh_clinic.validation.study.folder import read_protocol, read_viewers
from srh_clinic.validation.study.return_checks import find_return
from srh_clinic.validation.study.returns import write_return
from srh_clinic.validation.study.unblinding import load_unblinded

BLINDED = ("label-studio", "redcap")
"""Formats that take tasks, for raters who do not use the viewer."""

UNBLINDED = ("coco", "imrmc", "kos", "sr")
"""Formats that take answers; ``kos`` and ``sr`` are written together."""


SAME_SCALE = 0.1
"""Relative difference of pixel sizes up to which a case is shown as it is; beyond, it was resampled."""


def export_answers(study: str | Path, to: str, out: str | Path, cases: Sequence[str | Path] = ()) -> list[Path]:
    """Write a study's tasks (``label-studio``, ``redcap``) or, once it is unblinded, its answers for another program.

    Tasks are written for each rater into a folder of the rater's name; images lie in Label Studio's file as uncompressed PNGs
    of one size.

    Parameters
    ----------
    cases
        For ``kos`` and ``sr``: the DICOM files or folders that the study was made from.

    Raises
    ------
    InputError
        When the format is unknown, the study is still blinded, a case is missing, or another run writes to ``out`` now.
    """
    with claimed(Path(out)):
        return _exported(Path(study), to, Path(out), cases)


def _exported(study: Path, to: str, out: Path, cases: Sequence[str | Path]) -> list[Path]:
    if to in BLINDED:
        written: list[Path] = []
        for rater, (viewer, tasks) in read_viewers(study, read_protocol(study)[0]).items():
            if any(task.focus is not None for task in tasks):
                raise InputError(
                    "a review, whose regions no other program can show",
                    "a preference study (a review is answered in its viewer)",
                    study,
                )
            if to == "redcap":
                written += redcap_export(tasks, out / rater)
                continue
            shown = [(name, task) for task in tasks for name in (task.lq_img, task.img_A, task.img_B) if name is not None]
            sizes = {name: (task.height, task.width) for name, task in shown}
            images = {
                name: np.frombuffer(viewer.images[name], dtype=np.uint8).reshape(2, *shape) for name, shape in sizes.items()
            }
            written += label_studio_export(tasks, images, out / rater)
        return written
    if to not in UNBLINDED:
        raise InputError(f"the format {to!r}", f"one of {', '.join((*BLINDED, *UNBLINDED))}")
    opened = load_unblinded(study)
    if to == "coco":
        return [coco_export(opened, out)]
    if to == "imrmc":
        return list(imrmc_export(opened, out))
    from srh_clinic.validation.study.exchange.dicom_records import dicom_export

    known = {Path(case).name: Path(case) for case in cases}
    places = {}
    for case_id in sorted({answer.key.case_id for answer in opened.answers if answer.key.kind == "real"}):
        name, _, corner = case_id.rpartition("@")
        if name not in known:
            raise InputError(
                f"no DICOM file of the case {name or case_id}", "every DICOM case that the study was made from (--case)", study
            )
        y, x = corner.split(",")
        places[case_id] = (known[name], int(y), int(x))
    scales = {path: _um_per_px(path) for path, _, _ in places.values()}
    for answer in opened.answers:
        if answer.key.case_id in places:
            path = places[answer.key.case_id][0]
            if abs(scales[path] / answer.task.um_per_px - 1) > SAME_SCALE:
                found = f"pixels of {scales[path]:.3g} um although raters saw pixels of {answer.task.um_per_px:.3g} um"
                raise InputError(found, "cases at the pixel size at which they were shown", path)
    return dicom_export(opened, places, out)


def import_answers(study: str | Path, source: str, file: str | Path | Sequence[str | Path], rater: str) -> Path:
    """Take a rater's answers from Label Studio or REDCap; they become the rater's return, chained from here on.

    Parameters
    ----------
    file
        What the other program exported; of Label Studio several, where the parts of a rater's tasks are several projects.

    Raises
    ------
    InputError
        When the format or the rater is unknown, the rater's return is there already, an answer is missing or wrong, or there
        are several files of REDCap.
    """
    study = Path(study)
    if source not in BLINDED:
        raise InputError(f"the format {source!r}", f"one of {', '.join(BLINDED)}")
    found = read_viewers(study, read_protocol(study)[0])
    if rater not in found:
        raise InputError(f"the rater {rater!r}", f"one of {', '.join(found)}", study)
    if (path := find_return(study, rater)) is not None:
        raise InputError(f"a return that {rater} already made", "no return of this rater (move it away first)", path)
    viewer, tasks = found[rater]
    files = [Path(one) for one in ((file,) if isinstance(file, str | Path) else file)]
    if source == "label-studio":
        rows = label_studio_import(files, tasks)
    elif len(files) == 1:
        rows = redcap_import(files[0], tasks)
    else:
        raise InputError(f"{len(files)} files of REDCap", "one, with all answers of a rater", study)
    written = write_return(rows, tasks[0].study_id, rater, viewer.secret)
    return write_whole(study / "returned" / f"{rater}.jsonl", written)


def _um_per_px(path: Path) -> float:
    from srh_clinic.integration import read_slide

    return float(read_slide(path).um_per_px)
