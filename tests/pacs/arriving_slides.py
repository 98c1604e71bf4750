"""Small slides as a PACS sends them, and who sends them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from many_cases import CANARY
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.presentation import build_context

from srh_clinic.integration import write_wsi
from srh_clinic.slide import ArraySlide, Identity

SENDER, LISTENER = "SENDER", "SRHCLINIC"


def slide_files(folder: Path, number: int = 0, edge: int = 300, levels: Sequence[int] = (2,)) -> list[Path]:
    """A slide of noise whose identifiers should travel nowhere: a file for each shift of each level, the levels' last."""
    rng = np.random.default_rng(number)
    counts = np.clip(9_000 + 2_500 * rng.standard_normal((2, edge, edge)), 0, 65_535).astype(np.uint16)
    whose = Identity(patient_id=f"{CANARY}-patient-{number}", specimen_id=f"{CANARY}-specimen-{number}")
    return write_wsi(ArraySlide(counts, 0.47, whose), folder, levels=list(levels))


def series_uid(file: Path) -> str:
    """Series Instance UID of a file."""
    return str(dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def send(files: Sequence[Path], port: int, title: str = SENDER, called: str = LISTENER, **how: object) -> list[int | None]:
    """Send files by C-STORE in one association; the status of each, None where there was no answer or no association."""
    metas = [dcmread(file, stop_before_pixels=True).file_meta for file in files]
    pairs = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    association = AE(title).associate("127.0.0.1", port, [build_context(*pair) for pair in pairs], called, **how)  # type: ignore[arg-type]
    if not association.is_established:
        return [None] * len(files)
    try:
        return [association.send_c_store(dcmread(file)).get("Status") for file in files]
    finally:
        if association.is_established:
            association.release()


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something, which must come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
