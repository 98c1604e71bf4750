"""A rehearsal: simulated raters answer a study, so that a coordinator sees its analysis before anybody has rated."""

from __future__ import annotations

from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.validation.study.folder import read_protocol, read_sealed, read_viewers
from srh_clinic.validation.study.log import log_event
from srh_clinic.validation.study.returns import write_return
from srh_clinic.validation.study.simulated_raters import Truth, simulated_ratings
from srh_clinic.validation.study.unblinding import REHEARSAL

PREFERENCE, HALLUCINATION = 0.7, 0.05
"""What the simulated raters prefer, and the proportion of images in which they find something; nothing was measured."""


def rehearse_study(study: str | Path, truth: Truth | None = None, seed: int = 0) -> list[Path]:
    """Let simulated raters answer every task, and write their returns.

    The sealed key is read for it, and what comes out says nothing about any method: rehearse on a copy. The analysis says so.

    Raises
    ------
    InputError
        When the study cannot be read, or holds a return already.
    """
    study = Path(study)
    returned = study / "returned"
    if returned.is_dir() and any(returned.iterdir()):
        raise InputError("returns of raters", "a study that nobody has answered yet", returned)
    sealed = read_sealed(study)
    protocol, _ = read_protocol(study)
    key = list(sealed.entries.values())
    viewers = read_viewers(study, protocol)
    tasks = [task for _, mine in viewers.values() for task in mine]
    if truth is None:
        methods = (protocol.test, *protocol.baselines)
        truth = Truth(dict.fromkeys(protocol.baselines, PREFERENCE), hallucination=dict.fromkeys(methods, HALLUCINATION))
    log_event(study, sealed.salt, "rehearsed", what="simulated raters answered; nothing was measured")
    write_whole(returned / REHEARSAL, b"Simulated raters: nothing in this folder was measured.\n")
    ratings = simulated_ratings(tasks, key, truth, protocol.test, seed)
    return [
        write_whole(returned / f"{rater}.jsonl", write_return(rows, protocol.study_id, rater, viewers[rater][0].secret))
        for rater, rows in ratings.items()
    ]
