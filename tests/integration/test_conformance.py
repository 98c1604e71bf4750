"""The conformance statement says what the writers write."""

from __future__ import annotations

from pathlib import Path

import pytest

from srh_clinic.integration import network
from srh_clinic.integration.conformance import OBJECTS, conformance_statement

STATEMENT = Path(__file__).resolve().parents[2] / "docs/conformance.md"


@pytest.fixture(scope="module")
def statement() -> str:
    return conformance_statement()


def test_the_statement_in_the_documents_is_current(statement: str) -> None:
    made_by = "python -m srh_clinic.integration.conformance > docs/conformance.md"
    assert statement == STATEMENT.read_text(encoding="utf-8"), made_by


def test_it_tells_every_object_and_class(statement: str) -> None:
    for what, _ in OBJECTS.values():
        assert f"## {what}" in statement
    for name in ("VL Whole Slide Microscopy Image", "Parametric Map", "Segmentation", "Comprehensive 3D SR"):
        assert f"| {name} |" in statement
    assert "| (0010,0020) | Patient ID | LO | *scan* |" in statement
    assert "| (0040,A493) | Verification Flag | CS | UNVERIFIED |" in statement


def test_it_tells_every_service_of_the_network(statement: str) -> None:
    for one in network.DIMSE:
        assert f"`{one.where}` | {one.role} | {one.commands} |" in statement
    for one in network.WEB:
        assert f"| {one.where} | {one.role} | {one.commands} |" in statement
    assert "no network roles" not in statement
