"""The protocol of a study as a page that can be printed, signed and filed."""

from __future__ import annotations

from pathlib import Path

from srh_clinic.escaping import page_text
from srh_clinic.validation.study.questions import wording
from srh_clinic.validation.study.records import StudyProtocol

SENTINEL_TEXTS = {
    "same": "one restoration on both sides",
    "blurred": "a good image beside the same out of focus",
    "added": "a restoration beside the same with a nucleus planted",
    "removed": "a restoration beside the same with a nucleus erased",
}
"""What is shown in tasks with known answers."""


def protocol_page(protocol: StudyProtocol, commitment: str = "") -> str:
    """The protocol as HTML that needs no network, with the commitment to the key; what comes from outside is shown as text."""
    return page_text(
        [Path(__file__).parent],
        "protocol.html",
        protocol=protocol,
        commitment=commitment,
        questions=[wording(protocol.kind, question) for question in protocol.questions],
        sentinels=SENTINEL_TEXTS,
        ratings=protocol.tasks * protocol.raters_per_task,
    )
