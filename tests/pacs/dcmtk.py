"""dcmtk's programs. pynetdicom installs scripts of the same names, with other options, beside Python."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def dcmtk(name: str) -> str | None:
    """Where a program of dcmtk is, which is no script; None where it is not installed."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=folder)
        if found is not None and not Path(found).read_bytes().startswith(b"#!"):
            return found
    return None
