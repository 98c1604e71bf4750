"""A rehearsal: simulated raters answer a study, so that a coordinator sees its analysis before anybody has rated."""

from __future__ import annotations

import json
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.validation.study.folder import read_protocol, read_secrets, read_viewers
from srh_clinic.validation.study.records import KeyEntry
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
    secret, _ = read_secrets(study)
    key = [KeyEntry.model_validate(entry) for entry in json.loads(secret)["entries"]]
    protocol, _ = read_protocol(study)
    tasks = [task for _, mine in read_viewers(study, protocol).values() for task in mine]
    if truth is None:
        methods = (protocol.test, *protocol.baselines)
        truth = Truth(dict.fromkeys(protocol.baselines, PREFERENCE), hallucination=dict.fromkeys(methods, HALLUCINATION))
    write_whole(returned / REHEARSAL, b"Simulated raters: nothing in this folder was measured.\n")
    ratings = simulated_ratings(tasks, key, truth, protocol.test, seed)
    return [
        write_whole(returned / f"{rater}.jsonl", write_return(rows, protocol.study_id, rater))
        for rater, rows in ratings.items()
    ]
