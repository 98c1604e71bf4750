"""David Clunie's dicom3tools, the reference validator, and the complaints of it that are known to be false."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KNOWN = Path(__file__).resolve().parent.parent / "dciodvfy_known.txt"

needs_validators = pytest.mark.skipif(
    shutil.which("dciodvfy") is None or shutil.which("dcentvfy") is None,
    reason="dciodvfy and dcentvfy are missing: install the Debian package dicom3tools",
)


def known_complaints() -> list[str]:
    """The complaints of ``tests/dciodvfy_known.txt``; each stands below its reason."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def complaints(tool: str, *files: Path) -> list[str]:
    """Errors and warnings of a validator but for the known ones; the private scheme 99SRHCLINIC is the first of them."""
    run = subprocess.run([tool, *files], capture_output=True, text=True, errors="replace", timeout=120)
    known = known_complaints()
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) and not any(part in line for part in known)]
