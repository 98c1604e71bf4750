"""Places of a slide in words."""

from __future__ import annotations

import pytest

from srh_clinic.regions import in_words


@pytest.mark.parametrize(
    ("y", "x", "words"),
    [
        (0.1, 0.1, "upper left"),
        (0.5, 0.5, "centre"),
        (0.9, 0.5, "lower centre"),
        (0.5, 1.0, "right"),
        (1.0, 0.0, "lower left"),
    ],
)
def test_places_in_words(y: float, x: float, words: str) -> None:
    assert in_words(y, x) == words
