"""Small cases, and what a run of them leaves."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from killing import timeless

from srh_clinic.cohort.cases import Shard, list_cases
from srh_clinic.cohort.ledger import Entry, Ledger
from srh_clinic.cohort.running import _work, run_cohort
from srh_clinic.cohort.settings import CASES, CaseSettings
from srh_clinic.cohort.telling import write_results
from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide, Identity

CANARY = "CANARY"
"""Stands in every identifier and file name of the cases."""


def write_cases(folder: Path, number: int, edge: int = 300) -> Path:
    """Small slides of noise with names and identifiers that should travel nowhere."""
    folder.mkdir()
    for place in range(number):
        rng = np.random.default_rng(place)
        counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, edge, edge)), 0, 65_535).astype(np.uint16)
        whose = Identity(patient_id=f"{CANARY}-patient-{place}", specimen_id=f"{CANARY}-specimen-{place}")
        write_wsi(ArraySlide(counts, 0.47, whose), folder / f"{CANARY}^name^{place}.dcm")
    return folder


def work_drawing_little(*given: Any) -> None:
    """What a worker of a run does, without the pictures: most of what a small case takes, and not what these tests are of."""
    draw_nothing_for_a_while()
    _work(*given)


def draw_nothing_for_a_while() -> None:
    """In this process a picture takes a tenth of a second of nobody's time: a case is not over before it was seen."""
    import draws_little  # noqa: F401

    from srh_clinic.case import pictures

    def drawn(sheet: object) -> np.ndarray:
        time.sleep(0.1)
        return np.zeros((8, 8, 4), np.uint8)

    pictures._drawn = drawn  # type: ignore[assignment]


WHOLE = Shard()


def run(folder: Path, out: Path, settings: CaseSettings, shard: Shard = WHOLE, **how: object) -> list[Entry]:
    """A run of the cases of a folder with its table."""
    cases = list_cases(folder)
    mine = [case for case in cases if case in shard]
    entries = run_cohort(mine, settings, out, shard=shard, **how)  # type: ignore[arg-type]
    write_results(cases, shard, entries, out, out / CASES)
    return entries


def contents(out: Path) -> dict[str, str]:
    """A fingerprint of every result of a run, without what tells the time."""
    files = [*sorted((out / "cases").rglob("*")), out / "results.csv"]
    return {
        file.relative_to(out).as_posix(): hashlib.sha256(timeless(file)).hexdigest() if file.is_file() else "folder"
        for file in files
    }


def times_done(ledger: Path) -> Counter[str]:
    """How often the ledger says of each case that it was done."""
    with Ledger(ledger, read=True) as opened:
        return Counter(move.name for move in opened.history() if move.state == "done")


def kill_one(ledger: Ledger) -> bool:
    """Kill a process that has a case in hand; whether there was one."""
    owners = [row[0] for row in ledger._db.execute("SELECT owner FROM cases WHERE state = 'running' ORDER BY until")]
    for owner in owners:
        try:
            os.kill(int(owner.split()[1]), signal.SIGKILL)
        except ProcessLookupError:
            continue
        return True
    return False
