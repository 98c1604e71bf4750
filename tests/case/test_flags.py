"""What a reader must know before trusting a result."""

from __future__ import annotations

from flat_case import TILE, noisy, pipeline

from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide


def test_notes_of_the_reader_become_flags() -> None:
    slide = ArraySlide(noisy(100).counts, 0.47, notes=("stretched from 8 bits",))
    assert pipeline()(slide).flags == ("reading: stretched from 8 bits",)


def flags_of(counts: Counts) -> list[str]:
    return [flag.split(":")[0] for flag in pipeline()(ArraySlide(counts, 0.47)).flags]


def test_a_channel_in_which_nothing_was_measured_is_flagged() -> None:
    counts = noisy(100).counts.copy()
    assert flags_of(counts) == []
    counts[1] = 0
    assert "dead-channel" in flags_of(counts)
    counts[1] = counts[0]
    assert "same-channels" in flags_of(counts)


def test_a_slide_that_is_nearly_all_glass_is_flagged() -> None:
    counts = noisy(10, (640, 640), level=400).counts.copy()
    counts[:, :48, :48] = noisy(100, (48, 48)).counts
    assert "little-tissue" in flags_of(counts)


def test_a_slide_smaller_than_a_patch_is_flagged() -> None:
    assert "small" in flags_of(noisy(100, (TILE - 1, 200)).counts)
    assert "small" not in flags_of(noisy(100, (TILE, 200)).counts)
