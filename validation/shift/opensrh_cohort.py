"""The manifest of an OpenSRH tree: a row for each slide of the patients that no training has seen."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Literal

from srh_clinic.diagnosis import CLASSES, NORMAL, TUMOR
from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.integration.opensrh import META, Patch, read_tree
from srh_clinic.training.images import PARTS, find_images, split_images

Whom = Literal["held-out", "all"]


def write_opensrh_manifest(tree: Path, out: Path, whom: Whom = "held-out") -> Path:
    """Write a manifest for ``validate``: case, patient, truth and subtype of each slide.

    A slide with a tumor patch is a tumor, one with normal patches alone normal, whatever its patient has.

    Parameters
    ----------
    tree
        Folder with ``meta/opensrh.json``.
    out
        The CSV file; cases are paths as seen from it.
    whom
        ``"held-out"``: the patients whom ``train`` leaves out with its own settings, or whom the tree's split does; ``"all"``.

    Raises
    ------
    InputError
        When the tree is damaged, a word is none of these, or the patches of a slide do not have a folder of their own.
    """
    if whom not in ("held-out", "all"):
        raise InputError(f"the patients {whom!r}", "held-out or all")
    listed = read_tree(tree)
    patients = set(listed.patients)
    if whom == "held-out":
        split = split_images(find_images(tree))
        patients = {image.patient for part in PARTS if part != "train" for image in split.images[part]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "truth", "subtype"])
    for (patient, slide), patches in listed.slides().items():
        if patient in patients:
            folder = _folder_of(patches, listed.patches, slide, tree)
            truth = CLASSES[TUMOR if any(patch.shows == CLASSES[TUMOR] for patch in patches) else NORMAL]
            case = os.path.relpath(folder, out.resolve().parent)
            writer.writerow([case, patient, truth, patches[0].patient_class])
    return write_whole(out, text.getvalue(), "the manifest")


def _folder_of(patches: list[Patch], everything: tuple[Patch, ...], slide: str, tree: Path) -> Path:
    """The folder that holds the patches of one slide and no others."""
    folder = Path(os.path.commonpath([patch.file.parent for patch in patches]))
    if sum(folder in patch.file.parents for patch in everything) != len(patches):
        found = f"slide {slide!r} of patient {patches[0].patient!r}, whose patches share a folder with others"
        raise InputError(found, "a folder for the patches of each slide", tree / META)
    return folder
