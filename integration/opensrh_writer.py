"""A tree as OpenSRH keeps its patches, of simulated tissue: to try readers and trainings on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from srh_clinic.diagnosis import CLASSES, NORMAL, TUMOR
from srh_clinic.errors import InputError
from srh_clinic.files import require_new_folder, whole_folder
from srh_clinic.integration.opensrh import META, SPLIT
from srh_clinic.intensity import Counts
from srh_clinic.progress import Progress, silent
from srh_clinic.simulation import DIAGNOSIS_OF_KIND, simulate_cohort, simulate_patch

PATCH = 300
"""Edge of a patch in px."""

CLASS_OF_KIND = {"glioma": "hgg", "metastasis_discohesive": "metast", "metastasis_glandular": "metast"}
"""OpenSRH's name of what a tumor is; tissue of any other kind is of a normal brain."""

KINDS = ("glioma", "white_matter", "metastasis_discohesive", "grey_matter")
"""Tissue of one patient after another."""


def write_opensrh(
    out: Path, patients: int = 12, slides: int = 1, patches: int = 4, seed: int = 0, report: Progress = silent
) -> Path:
    """Write a tree of simulated patients into a new folder; every fourth patch of a tumor's slide shows normal brain.

    Parameters
    ----------
    out
        A folder that is not there, or empty.
    patients, slides, patches
        How many there are; slides of each patient, patches of each slide.
    seed
        Of the tissue and its degradation.

    Raises
    ------
    InputError
        When a number is not positive or the folder is taken.
    """
    if min(patients, slides, patches) < 1:
        raise InputError(f"{patients} patients of {slides} slides of {patches} patches", "one or more of each")
    require_new_folder(out)
    depths = [0.0] * (slides * patches)  # each patch is another field of the patient's tissue
    images = simulate_cohort(patients, 1, depths, PATCH, seed, KINDS)
    meta: dict[str, Any] = {}
    with whole_folder(out) as draft:
        for number, image in enumerate(images):
            patient, at = f"NIO_{int(image.patient[1:]):03d}", number % (slides * patches)
            slide, patch = str(at // patches + 1), at % patches
            about = meta.setdefault(patient, {"class": CLASS_OF_KIND.get(image.subtype, CLASSES[NORMAL]), "slides": {}})
            lists = about["slides"].setdefault(slide, {"tumor_patches": [], "normal_patches": []})
            shows: str = DIAGNOSIS_OF_KIND[image.subtype]
            counts = image.phantom.counts
            if shows == CLASSES[TUMOR] and patch % 4 == 3:
                shows = CLASSES[NORMAL]
                counts = simulate_patch("white_matter", 0.4, seed + number, PATCH).counts
            place = f"{PATCH * (patch // 2)}_{PATCH * (patch % 2)}_{PATCH}_{PATCH}"
            name = f"studies/{patient}/{slide}/patches/{patient}-{slide}-{place}.tif"
            lists[f"{shows}_patches"].append(name)
            _write_patch(draft / name, counts)
            report("patches", number + 1, patients * slides * patches)
        held_out = [patient for at, patient in enumerate(meta) if at % 4 >= 2 and at % 8 < 4]
        for name, content in ((META, meta), (SPLIT, {"train": [one for one in meta if one not in held_out], "val": held_out})):
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return out


def _write_patch(path: Path, counts: Counts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.ascontiguousarray(counts), photometric="minisblack")
