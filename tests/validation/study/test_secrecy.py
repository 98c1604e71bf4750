"""Whoever has the package, the public files and the default seed learns nothing of a study's order, kinds and baselines."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi
from small_study import IMAGES, PLAN, PX, RATERS, build, no_power

from srh_clinic.validation.bench.images import Reading
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.study import export
from srh_clinic.validation.study.assignment import Assignment, assign, order_with_repeats
from srh_clinic.validation.study.audit import check_study
from srh_clinic.validation.study.blinding import Blinding
from srh_clinic.validation.study.images import phantom_images
from srh_clinic.validation.study.plan import StudyPlan
from srh_clinic.validation.study.records import KeyEntry
from srh_clinic.validation.study.viewer import read_viewer

SEEDS = 20
"""Seeds that the attack tries; the default is the first."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "sample_size", no_power)


def guessed(seed: int) -> list[str]:
    """What each task is by the public code and a seed, as every task of every export of earlier versions was told."""
    design = assign(IMAGES, RATERS, 2, np.random.default_rng([seed, 1]))
    return [said for rater in range(RATERS) for said in of_rater(design, rater, seed)]


def of_rater(design: Assignment, rater: int, seed: int) -> list[str]:
    rng = np.random.default_rng([seed, 3, rater])
    numbers = design.of_rater(rater)
    order, _ = order_with_repeats(len(numbers), 3, rng)
    known = [int(rng.uniform(0, len(order))) for _ in range(PLAN.sentinel_images)]
    said = []
    for place, (number, again) in enumerate(order):
        said += ["sentinel"] * known.count(place)
        said.append(f"{'repeat' if again else 'real'} {design.tasks[numbers[number]].baseline}")
    return said


def truth(study: Path) -> list[str]:
    """The same of the key, in the order in which each rater sees the tasks."""
    entries = [KeyEntry.model_validate(one) for one in json.loads((study / "sealed" / "key.json").read_bytes())["entries"]]
    key = {entry.task_id: entry for entry in entries}
    said = []
    for rater in range(RATERS):
        for task in read_viewer(study / "public" / f"r{rater + 1:02}" / "viewer.html").tasks:
            entry = key[task["task_id"]]
            other = {entry.side_A_method, entry.side_B_method} - {"rscd"}
            baseline = PLAN.restorers[1:].index(other.pop()) if entry.kind != "sentinel" else ""
            said.append(f"{entry.kind} {baseline}".strip())
    return said


def test_seed_and_public_files_guess_tasks_no_better_than_chance(tmp_path: Path) -> None:
    for number in range(2):
        real = np.array(truth(build(tmp_path / str(number), hashlib.sha256(bytes([number])).digest())))
        attacks = [np.array(guessed(seed)) for seed in range(SEEDS)]
        assert len(real) == len(attacks[0])
        rng = np.random.default_rng(number)
        chance = [max((attack == rng.permutation(real)).sum() for attack in attacks) for _ in range(300)]
        # Of 300 shufflings of the truth the best guess is above all with a probability of 1 in 300 for each study.
        assert max((attack == real).sum() for attack in attacks) <= max(chance)


def test_the_default_seed_simulates_none_of_the_tissue_that_is_shown() -> None:
    plan = StudyPlan(restorers=("rscd", "median"), images=3, sentinels={"same": 1})
    shown, _ = export._images(plan, [], Reading(), 1, bytes(32))
    again, _ = export._images(plan, [], Reading(), 1, bytes(32))
    guess = phantom_images(load_protocol(), len(shown), plan.seed)
    assert all(np.array_equal(one.counts, other.counts) for one, other in zip(shown, again, strict=True))
    assert not {one.counts.tobytes() for one in shown} & {one.counts.tobytes() for one in guess}


def test_the_pattern_of_the_exact_design_is_hidden_and_stays_exact() -> None:
    plan = StudyPlan(images=150)
    made = [export.assignment_of(plan, 150, bytes([number] * 32)) for number in range(2)]
    plain = assign(150, 6, 5, np.random.default_rng(0))
    for one in made:
        assert set(one.imbalance.values()) == {0}
        told = {(task.image, task.baseline) for task in plain.tasks} & {(task.image, task.baseline) for task in one.tasks}
        # Of 450 tasks 270 are met by chance, with a standard deviation below 11.
        assert len(told) < 270 + 5 * 11
    assert made[0] != made[1]
    assert export.assignment_of(plan, 150, bytes(32)) == made[0]


def test_names_tell_no_side() -> None:
    """They are not of the generator that draws the sides, whose state its numbers would give away."""
    named, unnamed = Blinding(bytes(32)), Blinding(bytes(32))
    names = [named.name() for _ in range(100)]
    assert len(set(names)) == 100
    assert [named.coin() for _ in range(100)] == [unnamed.coin() for _ in range(100)]


def test_what_no_file_can_hide_is_noted_by_the_audit_and_is_so(tmp_path: Path) -> None:
    study = build(tmp_path / "study")
    assert ["can apply median to the image as scanned" in note for note in check_study(study).notes] == [True]
    key = {one["task_id"]: one for one in json.loads((study / "sealed" / "key.json").read_bytes())["entries"]}
    viewer = read_viewer(study / "public" / "r01" / "viewer.html")
    pictures = {name: np.frombuffer(raw, np.uint8).reshape(2, PX, PX).astype(float) for name, raw in viewer.images.items()}
    tasks = [task for task in viewer.tasks if "median" in (key[task["task_id"]][f"side_{side}_method"] for side in "AB")]
    for task in tasks:
        made = ndi.gaussian_filter(pictures[task["lq_img"]], (0, 2, 2))  # what the small study calls median
        off = {side: np.abs(pictures[task[f"img_{side}"]] - made).mean() for side in "AB"}
        assert key[task["task_id"]][f"side_{min(off, key=lambda side: off[side])}_method"] == "median"
    assert len(tasks) > 10
