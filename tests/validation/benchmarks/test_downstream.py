"""The classifier before and after: what counts as wrong, and that the tables add up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from srh_clinic.classifiers import PatchClassifier
from srh_clinic.diagnosis import CLASSES, outcome
from srh_clinic.intensity import Counts
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.benchmarks.downstream import PRINTED, classification


@pytest.mark.parametrize(
    ("truth", "said", "expected"),
    [
        ("tumor", "tumor", "correct"),
        ("nondiagnostic", "nondiagnostic", "correct"),
        ("nondiagnostic", "tumor", "wrong"),
        ("nondiagnostic", "normal", "wrong"),
        ("tumor", "normal", "wrong"),
        ("normal", "tumor", "wrong"),
        ("tumor", "nondiagnostic", "missed"),
        ("normal", "nondiagnostic", "missed"),
    ],
)
def test_only_a_confident_class_is_wrong(truth: str, said: str, expected: str) -> None:
    assert PRINTED[outcome(truth, said)] == expected


def test_the_tables_follow_from_what_the_classifier_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that calls every degraded patch non-diagnostic and everything else a tumor."""
    degraded = {bench.protocol.phantom(i).counts.tobytes() for i in bench.indices}

    def predict(self: PatchClassifier, patches: Counts) -> np.ndarray:
        said = [CLASSES.index("nondiagnostic") if patch.tobytes() in degraded else 0 for patch in patches]
        return np.eye(3)[said]

    monkeypatch.setattr(PatchClassifier, "predict_proba", predict)
    report = classification(bench)
    shares = {row["patches"]: row for row in report.tables[1].rows}
    assert list(shares) == [
        "clean",
        *("mild, before", "moderate, before", "severe, before", "before"),
        *("mild, after", "moderate, after", "severe, after", "after"),
    ]
    # Three of the six are glioma, three are blood.
    values = {name: tuple(shares[name][one].value for one in (*PRINTED.values(), "nondiagnostic")) for name in shares}
    assert values["clean"] == values["after"] == (0.5, 0.5, 0.0, 0.0)
    assert values["before"] == values["severe, before"] == (0.5, 0.0, 0.5, 1.0)
    assert shares["before"]["correct"].low < 0.12 < 0.88 < shares["before"]["correct"].high
    confusion = {table.title.rpartition(": ")[2]: table.rows for table in report.tables[3:]}
    assert confusion["before"] == [
        {"truth": "tumor", "tumor": 0, "normal": 0, "nondiagnostic": 3},
        {"truth": "normal", "tumor": 0, "normal": 0, "nondiagnostic": 0},
        {"truth": "nondiagnostic", "tumor": 0, "normal": 0, "nondiagnostic": 3},
    ]
    asked = {row["asked"]: row["met"] for row in report.tables[0].rows}
    assert asked == {
        "clean: at least 95% correct": False,
        "severe, before: more than 50% called non-diagnostic": True,
        "severe, after: at least 75% correct": False,
        "severe, after: at most 6% wrong": False,
        "after: at least 75% correct": False,
        "after: at most 6% wrong": False,
    }


def test_a_rerun_reads_what_was_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classification(bench)
    monkeypatch.setattr(PatchClassifier, "predict_proba", lambda *_: pytest.fail("asked again"))
    assert classification(bench).tables == first.tables
    row = json.loads((bench.work / "classifier.jsonl").read_text().splitlines()[0])
    assert sum(row["probabilities"]) == pytest.approx(1, abs=3e-6)
    assert row["said"] == CLASSES[int(np.argmax(row["probabilities"]))]
