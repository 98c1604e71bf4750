"""The three classes, what came of a diagnosis, and when restoration has done harm."""

from __future__ import annotations

from typing import Literal

Diagnosis = Literal["tumor", "normal", "nondiagnostic"]

CLASSES: tuple[Diagnosis, ...] = ("tumor", "normal", "nondiagnostic")
"""The order of classes everywhere."""

TUMOR, NORMAL, NONDIAGNOSTIC = range(3)
"""Places of the classes in :data:`CLASSES`."""

CLASS_WORDS: dict[str, str] = {"tumor": "tumor", "normal": "normal", "nondiagnostic": "non-diagnostic"}
"""The classes as people read them."""

Outcome = Literal["correct", "wrong", "nondiagnostic"]

OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "nondiagnostic")
"""Every prediction has one of these outcomes; see :func:`outcome`."""

Use = Literal["restored", "original", "nondiagnostic"]
"""Whose word a policy lets stand: that of the restored image, that of the original, or neither, and the case is
non-diagnostic."""

USES: tuple[Use, ...] = ("restored", "original", "nondiagnostic")


def outcome(truth: str, said: str) -> Outcome:
    """``correct``; ``wrong``, a confident class that is not the truth; or ``nondiagnostic`` where a diagnosis could be made.

    >>> outcome("nondiagnostic", "tumor"), outcome("tumor", "nondiagnostic"), outcome("nondiagnostic", "nondiagnostic")
    ('wrong', 'nondiagnostic', 'correct')
    """
    if said == truth:
        return "correct"
    return "nondiagnostic" if said == "nondiagnostic" else "wrong"


def is_harm(was: Outcome, now: Outcome) -> bool:
    """Whether a case is worse off for its restoration: it was right and is not, or it is newly and confidently wrong."""
    return (was == "correct" and now != "correct") or (was != "wrong" and now == "wrong")
