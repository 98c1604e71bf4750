"""How well raters find planted hallucinations, as list-mode data for iMRMC.

Formats: the input file of the iMRMC application (https://didsr.github.io/iMRMC, user manual 4.1, "Raw study data") and the
data frame of its R package (https://cran.r-project.org/package=iMRMC, ``doIMRMC``); Gallas et al., Commun Stat A-Theor 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from srh_clinic.errors import InputError
from srh_clinic.escaping import csv_text
from srh_clinic.files import write_whole
from srh_clinic.validation.study.records import Hallucination, KeyEntry, Rating
from srh_clinic.validation.study.unblinding import Unblinded

SCORES: dict[Hallucination, int] = {"none": 0, "possible": 1, "definite": 2}
"""A rater's score of an image, by the answer about hallucinations."""

COLUMNS = ("readerID", "caseID", "modalityID", "score")


def imrmc_export(unblinded: Unblinded, out: Path) -> tuple[Path, Path]:
    """Write scores and truth as ``hallucination.imrmc`` for the application and ``hallucination.csv`` for R.

    Only sentinels have a truth, so only they are in it, each as one case: truth 1 where a nucleus was planted (``added``) or
    erased (``removed``), with the score of the edited side; truth 0 where both sides show one image (``same``), with the
    score of side A, whatever side B got. The other side is left out, because iMRMC takes cases as independent of each other.
    So the area under the curve is the probability that a rater gives a planted hallucination a higher score
    (none 0, possible 1, definite 2) than an image without one; the modality is the method that made the image.

    One rater's second score of one case is left out, as iMRMC takes one of each reader, case and modality. In identifiers,
    whatever is not a letter, a digit or one of ``-_.~@=`` is percent-encoded: iMRMC splits rows at commas.

    Parameters
    ----------
    unblinded
        The study with its key opened.
    out
        The folder.

    Returns
    -------
    tuple of Path
        ``hallucination.imrmc`` (after ``BEGIN DATA:``, rows of reader, case, modality and score; truth has reader ``-1`` and
        modality ``0``) and ``hallucination.csv`` (the same with a header; truth has reader and modality ``truth``).

    Raises
    ------
    InputError
        When no sentinel with truth 1, or none with truth 0, was answered, raters were not asked about hallucinations, or a
        rater or method is called what iMRMC reserves for the truth.
    """
    truth: dict[str, int] = {}
    scores: dict[tuple[str, str, str], int] = {}
    for answer in unblinded.answers:
        side = _scored_side(answer.key)
        if side is None:
            continue
        scored = answer.rating.halluc_A if side == "A" else answer.rating.halluc_B
        if scored is None:
            found = (
                f"no answer about hallucinations on side {side} of task number {answer.task.seq} of {answer.rating.rater_id}"
            )
            raise InputError(found, "a study that asks about hallucinations")
        case = _case(answer.key)
        truth[case] = int(answer.key.sentinel != "same")
        scores.setdefault((_reader(answer.rating), case, _modality(answer.key, side)), SCORES[scored])
    present = sum(truth.values())
    if present in (0, len(truth)):
        found = f"{present} sentinels with a planted hallucination and {len(truth) - present} without"
        raise InputError(found, "answers to sentinels of both kinds")
    readers, modalities = ({key[part] for key in scores} for part in (0, 2))
    sizes = (("NR", len(readers)), ("N0", len(truth) - present), ("N1", present), ("NM", len(modalities)))
    rows = [(*key, score) for key, score in scores.items()]
    lines = [
        f"Planted hallucinations of study {unblinded.protocol.study_id}",
        *(f"{name}: {size}" for name, size in sizes),
        "BEGIN DATA:",
        *(f"-1,{case},0,{present}" for case, present in truth.items()),
        *(",".join(map(str, row)) for row in rows),
    ]
    table = csv_text([COLUMNS, *(("truth", case, "truth", present) for case, present in truth.items()), *rows])
    return (
        write_whole(out / "hallucination.imrmc", "".join(f"{line}\n" for line in lines)),
        write_whole(out / "hallucination.csv", table),
    )


def _scored_side(key: KeyEntry) -> Literal["A", "B"] | None:
    """The side whose score has a truth; ``None`` for a task that has none."""
    if key.kind != "sentinel":
        return None
    if key.sentinel == "same":
        return "A"
    return key.sentinel_side if key.sentinel in ("added", "removed") else None


def _case(key: KeyEntry) -> str:
    """One image: a nucleus planted elsewhere makes another."""
    planted = "" if key.planted is None else "@" + "_".join(f"{number:g}" for number in key.planted)
    return f"{_quoted(key.case_id)}={key.sentinel}{planted}"


def _reader(rating: Rating) -> str:
    if rating.rater_id == "truth":
        raise InputError("a rater called truth", "another name, because iMRMC keeps this one for the truth")
    return rating.rater_id


def _modality(key: KeyEntry, side: Literal["A", "B"]) -> str:
    method = key.side_A_method if side == "A" else key.side_B_method
    if method in (None, "", "0", "truth"):
        raise InputError(f"a method called {method}", "another name, because iMRMC keeps this one for the truth")
    return _quoted(str(method))


def _quoted(name: str) -> str:
    return quote(name, safe="@=")
