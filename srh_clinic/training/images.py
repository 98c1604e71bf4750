"""Images to train on, whose they are, and which of them are held out: patients, not images, are split.

Data are an OpenSRH tree, a manifest, or a folder of cases. Images of one patient, and copies of one file, always stand on the
same side, whatever the folders are called.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_case import series_in
from srh_clinic.integration.dicom_file import read_header
from srh_clinic.integration.nio_layout import strip_files
from srh_clinic.integration.opensrh import META, read_tree
from srh_clinic.integration.pair import cases_in
from srh_clinic.integration.places import files_in, is_left_by_system, tiffs_in

NEEDED = "a folder of images, an OpenSRH tree, a manifest with the columns case and patient, or a folder of pool-*.npy files"

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

Whose = Literal["folders", "files"]
"""Who the patients of a folder of TIFFs are: each folder directly below is one, or each case is of another."""

HELD_OUT = 0.25
"""Share of the patients that is held out: half of them say when to stop, the other half what was reached."""

_ENDS = 2**16  # bytes at both ends of a file by which copies are told
_STOREYS = 6  # of folders below folders that are looked into


@dataclass(frozen=True)
class TrainingImage:
    """A case to train on.

    Attributes
    ----------
    files
        Its file or folder, or the files of CH2 and CH3.
    patient
        Whose it is.
    label
        Index in ``CLASSES`` of what all of it shows; ``None`` when nobody says it.
    part
        The part that the data put its patient into; empty when they do not say.
    is_patch
        Whether it is a patch of OpenSRH, which is as the imager scanned it.
    """

    files: tuple[Path, ...]
    patient: str
    label: int | None = None
    part: str = ""
    is_patch: bool = False


def find_images(data: Path, whose: Whose = "folders") -> list[TrainingImage]:
    """All images of some data, in an order that depends on nothing but their names.

    Parameters
    ----------
    data
        An OpenSRH tree; a CSV file with the columns ``case`` and ``patient`` and, where known, ``truth``, ``split`` and
        ``ch3``; or a folder, in which patients are what DICOM headers say and otherwise what ``whose`` says.
    whose
        Who the patients of TIFFs and strips are.

    Raises
    ------
    InputError
        When there are none, or it is not said whose they are.
    """
    if data.is_file():
        images = list(_of_manifest(data))
    elif (data / META).is_file():
        tree = read_tree(data)
        parts = tree.split()
        label = {name: CLASSES.index(name) for name in CLASSES}
        images = [
            TrainingImage((one.file,), one.patient, label[one.shows], parts.get(one.patient, ""), True)  # type: ignore[index]
            for one in tree.patches
        ]
    elif data.is_dir():
        images = list(_of_folder(data, whose))
    else:
        raise InputError("no such file or folder", NEEDED, data)
    if not images:
        raise InputError("a folder without images", NEEDED, data)
    return images


def _of_manifest(path: Path) -> Iterator[TrainingImage]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"a file that is no CSV table ({error})", NEEDED, path) from error
    for number, row in enumerate(rows, start=2):
        said = {str(key).strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
        if not said.get("case") or not said.get("patient"):
            raise InputError(f"row {number} without a case or a patient", "the columns case and patient in every row", path)
        truth, part = said.get("truth", "").lower(), said.get("split", "").lower().replace("validation", "val")
        if truth and truth not in CLASSES:
            raise InputError(f"truth {truth[:40]!r} in row {number}", "one of " + ", ".join(CLASSES), path)
        if part and part not in PARTS:
            raise InputError(f"split {part[:40]!r} in row {number}", "one of " + ", ".join(PARTS), path)
        files = tuple(path.parent / name for name in (said["case"], said.get("ch3", "")) if name)
        if missing := next((file for file in files if not file.exists()), None):
            found = f"a case in row {number} that does not exist ({missing.name})"
            raise InputError(found, "a path as seen from the manifest", path)
        yield TrainingImage(files, said["patient"], CLASSES.index(truth) if truth else None, part)


def _of_folder(folder: Path, whose: Whose) -> Iterator[TrainingImage]:
    for files, is_dicom in _cases(folder, _STOREYS):
        patient = _patient_in_header(files[0]) if is_dicom else ""
        if not patient and whose == "files":
            patient = str(files[0].relative_to(folder))
        if not patient:
            below = files[0].relative_to(folder).parts
            if len(below) < 2:
                needed = "a folder for each patient, a manifest, or --patients files where each is of another patient"
                raise InputError("images that do not say whose they are", needed, files[0])
            patient = below[0]
        yield TrainingImage(files, patient)


def _cases(folder: Path, storeys: int) -> Iterator[tuple[tuple[Path, ...], bool]]:
    """Cases in and below a folder, and whether they are DICOM."""
    if strip_files(folder) is not None:
        yield (folder,), True
        return
    for case in cases_in(tiffs_in(folder)):
        yield (case if isinstance(case, tuple) else (case,)), False
    if any(file.suffix.lower() == ".dcm" for file in files_in(folder)):
        for file in series_in(folder):
            yield (file,), True
    for below in sorted(item for item in folder.iterdir() if item.is_dir() and not is_left_by_system(item.name)):
        if storeys and not below.name.startswith("."):
            yield from _cases(below, storeys - 1)


def _patient_in_header(file: Path) -> str:
    """Who a DICOM file, or the first strip of a folder, says the patient is."""
    strips = strip_files(file) if file.is_dir() else None
    header = read_header(strips.pairs[0][0] if strips else file, ["PatientID"]).header
    return str(header.get("PatientID") or "").strip()


@dataclass(frozen=True)
class Split:
    """Images by part; ``notes`` say what a user should know of it."""

    images: Mapping[Part, Sequence[TrainingImage]]
    notes: tuple[str, ...] = field(default=())

    @property
    def patients(self) -> dict[Part, int]:
        """Patients of each part."""
        return {part: len({image.patient for image in images}) for part, images in self.images.items()}


def split_images(images: Sequence[TrainingImage], seed: int = 0, held_out: float = HELD_OUT) -> Split:
    """Put whole patients into parts; the data's own word goes before ours.

    Patients who share a copy of a file count as one. Which are held out depends on their names and the seed, not on the order
    or the number of their images, and is drawn within groups that show the same classes, so that each is held out where it can
    be. Half of what is held out is ``val``, which says when to stop, half ``test``; where only one patient is, they are both.

    Raises
    ------
    InputError
        When there are fewer than two patients, or the data put one patient into two parts.
    """
    groups = _groups(images)
    stated = {name: _stated_part(members) for name, members in groups.items()}
    if len(groups) < 2:
        raise InputError(f"images of {len(groups)} patient", "at least two patients: one to train on, one held out")
    strata: dict[tuple[int, ...], list[str]] = {}
    for name, members in groups.items():
        if not stated[name]:
            strata.setdefault(tuple(sorted({one.label for one in members if one.label is not None})), []).append(name)
    parts = {name: part for name, part in stated.items() if part}
    for names in strata.values():
        ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        count = min(max(round(held_out * len(names)), 1), len(names) - 1)
        parts |= {name: "val" if at % 2 == 0 else "test" for at, name in enumerate(ranked[:count])}
        parts |= dict.fromkeys(ranked[count:], "train")
    parts, notes = _both_sides(parts, seed)
    found: dict[Part, list[TrainingImage]] = {part: [] for part in PARTS}
    for name, members in groups.items():
        found[parts[name]] += members  # type: ignore[index]
    if not found["test"] or not found["val"]:
        found["test"] = found["val"] = found["test"] or found["val"]
        notes += ("one patient alone is held out: what says when to stop also says what was reached",)
    return Split(found, notes)


def _both_sides(parts: dict[str, str], seed: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """Hold somebody out, and train on somebody, where a part came out empty: strata of one patient are all for training."""
    names = sorted(parts, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    if "train" not in parts.values():
        raise InputError("no patient to train on", "a split that leaves some for training")
    if set(parts.values()) == {"train"}:
        parts = {**parts, names[0]: "val"}
    return parts, ()


def _groups(images: Sequence[TrainingImage]) -> dict[str, list[TrainingImage]]:
    """Images by patient, those who share a copy of a file under one name."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    seen: dict[str, str] = {}
    for image in images:
        own = lead(f"patient {image.patient}")
        for file in image.files if not image.is_patch else ():
            other = lead(seen.setdefault(_print_of(file), own))
            own, dropped = min(own, other), max(own, other)
            leader[dropped] = own
    groups: dict[str, list[TrainingImage]] = {}
    for image in images:
        groups.setdefault(lead(f"patient {image.patient}"), []).append(image)
    return groups


def _print_of(file: Path) -> str:
    """A name for what a file holds, the same for copies; of a folder its own path."""
    if file.is_dir():
        return str(file.resolve())
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with file.open("rb") as stream:
        digest.update(stream.read(_ENDS))
        stream.seek(max(size - _ENDS, 0))
        digest.update(stream.read(_ENDS))
    return digest.hexdigest()


def _stated_part(members: Sequence[TrainingImage]) -> str:
    stated = {member.part for member in members if member.part}
    if len(stated) > 1:
        names = " and ".join(sorted({member.patient for member in members}))
        raise InputError(f"patient {names[:80]} in two parts ({', '.join(sorted(stated))})", "each patient in one part")
    return stated.pop() if stated else ""


def labelled(images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """The images of which it is known what they show."""
    return [image for image in images if image.label is not None]
