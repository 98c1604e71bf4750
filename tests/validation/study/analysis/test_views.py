"""Answers as they are sorted for the analysis."""

from __future__ import annotations

import dataclasses

from srh_clinic.validation.study.analysis.preference import preference_rows
from srh_clinic.validation.study.analysis.views import CHOSEN, Choice, views


def test_images_of_one_patient_are_one_cluster(study):
    answers = tuple(
        dataclasses.replace(one, key=one.key.model_copy(update={"patient_hash": f"{int(one.key.seed) % 30:064x}"}))
        for one in study.answers
    )
    of = views(dataclasses.replace(study, answers=answers))
    assert of.by_patient
    assert not views(study).by_patient
    row = preference_rows(of, "quality", 0)[-1]
    assert row["images"] == 30


def test_a_choice_counts_one_a_half_or_nothing():
    assert [Choice("r", "", "i", "i", "b", "", "A", one).score for one in CHOSEN] == [1.0, 0.5, 0.0]
