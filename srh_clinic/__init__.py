"""srh-clinic: restore stimulated Raman histology, then classify it. Research software, not a medical device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.case.result import CaseResult
    from srh_clinic.integration import read_slide

__version__ = "0.1.0"

__all__ = ["CaseResult", "RestoreThenClassify", "__version__", "read_slide"]

_HOME = {
    "CaseResult": "srh_clinic.case.pipeline",
    "RestoreThenClassify": "srh_clinic.case.pipeline",
    "read_slide": "srh_clinic.integration",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: the networks' libraries take seconds, and not every caller needs them."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
