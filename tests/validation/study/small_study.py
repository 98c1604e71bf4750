"""A study of small images, as the export writes it, without restoring anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from srh_clinic.validation.study import export
from srh_clinic.validation.study.assignment import assign
from srh_clinic.validation.study.blinding import Blinding
from srh_clinic.validation.study.export import write_study
from srh_clinic.validation.study.images import StudyImage
from srh_clinic.validation.study.plan import StudyPlan
from srh_clinic.validation.study.records import Kind, StudyProtocol
from srh_clinic.validation.study.restored import RestoredImages, View

PX = 48
RATERS, IMAGES = 4, 30
PLAN = StudyPlan(
    restorers=("rscd", "median", "cyclegan"), raters=RATERS, images=IMAGES, sentinels={"same": 2, "blurred": 2}, repeats=3
)
NAME, UID = "Quincy^Adelaide", "1.2.840.113619.2.55.3.604688119"


def image(number: int) -> StudyImage:
    rng = np.random.default_rng(number)
    clean = 12_000 + 9_000 * ndi.gaussian_filter(rng.normal(size=(2, PX, PX)), (0, 2, 2)) * 8
    noisy = np.clip(clean + rng.normal(0, 1_500, clean.shape), 0, 65_535).astype(np.uint16)
    return StudyImage(f"case-{number:04}", f"patient-{number}", noisy, 0.47, identifiers=(NAME, UID))


def build(folder: Path, salt: bytes = bytes(32)) -> Path:
    """A study of small images and three methods that filter, as the export writes it."""
    images = [image(number) for number in range(IMAGES + PLAN.sentinel_images)]
    views = {}
    for name, sigma in (("rscd", 1.0), ("median", 2.0), ("cyclegan", 0.7)):
        for number, one in enumerate(images):
            made = ndi.gaussian_filter(one.counts.astype(float), (0, sigma, sigma))
            views[name, number] = View(name, np.rint(made).astype(np.uint16), ((4, 4, 10, 10, "structure"),))
    restored = RestoredImages(SimpleNamespace(report=lambda *_: None), images, views)  # type: ignore[arg-type]
    assignment = export.assignment_of(PLAN, IMAGES, salt)
    sentinels = export._sentinels(PLAN, restored, range(IMAGES, len(images)), salt)
    protocol = export._protocol(PLAN, assignment, IMAGES, ["cases"], salt, "For tests.")
    write_study(folder, PLAN, protocol, restored, assignment, sentinels, Blinding(salt))
    return folder


def no_power(ratings: np.ndarray, seed: int, comparisons: int) -> dict[str, Any]:
    """The sample size's simulation takes longer than the rest of an export."""
    bound = {"bound": 0.05, "images_needed": {}}
    return {"power": 0.9, "alpha": 0.01, "rater_sd": 0.7, "image_sd": 1.5, "comparisons": [], "hallucinations": bound}


def described(kind: Kind) -> StudyProtocol:
    """The protocol of a study that is nowhere written."""
    plan = replace(PLAN, kind=kind, sentinels={"same": 1})
    return export._protocol(plan, assign(6, 2, 2, np.random.default_rng(0)), 6, [], bytes(32), "For tests.")
