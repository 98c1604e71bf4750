"""What the tests of the analysis share: the truth that raters are simulated from, and ways to look at what was found."""

from __future__ import annotations

import dataclasses

from srh_clinic.validation.study.simulated_raters import (
    Truth,
)
from srh_clinic.validation.study.unblinding import Unblinded

TRUTH = Truth(
    {"care": 0.75, "ddpm": 0.6, "gan": 0.85, "noise2void": 0.9, "<b>$x_1$</b>": 0.7},
    hallucination={"rscd": 0.03, "ddpm": 0.15, "gan": 0.4},
    side_bias=0.3,
    sensitivity={"r0": 0.95, "r1": 0.3, "r2": 0.8, "r3": 0.8, "r4": 0.8, "r5": 0.8},
)


def table(section, title):
    return next(one for one in section.tables if one.title.startswith(title))


def with_answers(study: Unblinded, keep=lambda answer: True, **changes) -> Unblinded:
    """The study with changed ratings of the answers that are kept."""
    answers = tuple(
        dataclasses.replace(one, rating=one.rating.model_copy(update=changes)) for one in study.answers if keep(one)
    )
    return dataclasses.replace(study, answers=answers)
