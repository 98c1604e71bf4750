"""Where this is loaded every call of a ledger is timed, and a run's folder tells the sum when all are done."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from srh_clinic.cohort.ledger import Ledger

CALLS = ("adopt", "claim", "renew", "finish", "park", "fail", "hand_back", "open_cases")
"""What workers ask of a ledger."""

SECONDS = "ledger-seconds"


def ledger_seconds(out: Path) -> float:
    """Seconds that a run's workers have spent in its ledger."""
    return sum(float(line) for line in (out / SECONDS).read_text(encoding="ascii").split())


def _timed(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def timed(ledger: Ledger, *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(ledger, *given, **named)
        finally:
            with (ledger.path.parent / SECONDS).open("a", encoding="ascii") as file:
                file.write(f"{time.perf_counter() - began:.6f}\n")

    return timed


for name in CALLS:
    setattr(Ledger, name, _timed(getattr(Ledger, name)))
