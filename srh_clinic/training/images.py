"""Images to train on, whose they are, and which of them are held out: patients, not images, are split.

Data are an OpenSRH tree, a manifest, or a folder of cases. Images of one patient, copies of one file, and files that show the
same always stand on the same side, whatever the folders are called and however a patient is spelt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srh_clinic.diagnosis import CLASSES
from srh_clinic.errors import InputError
from srh_clinic.integration.dicom_case import series_in
from srh_clinic.integration.dicom_file import read_header
from srh_clinic.integration.nio_layout import strip_files
from srh_clinic.integration.opensrh import read_tree, tree_of
from srh_clinic.integration.pair import cases_in
from srh_clinic.integration.places import files_in, is_left_by_system, tiffs_in
from srh_clinic.tables import read_lines, spelling_key

NEEDED = "a folder of images, an OpenSRH tree, a manifest with the columns case and patient, or a folder of pool-*.npy files"

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

Whose = Literal["folders", "files"]
"""Who the patients of a folder of TIFFs are: each folder directly below is one, or each case is of another."""

HELD_OUT = 0.25
"""Share of the patients that is held out: half of them say when to stop, the other half what was reached."""

COLUMNS = ("case", "patient", "truth", "split", "ch3")
"""Of a manifest; those without truth, split and ch3 are whole too."""

_ENDS = 2**16  # bytes at both ends of a file by which copies are told
_WITHIN = 2**12  # bytes in the middle of a patch, of which there are hundreds of thousands, by which copies are told
_PLAIN = 16  # values of these bytes up to which a patch shows nothing that would tell it from another
_STOREYS = 6  # of folders below folders that are looked into
_TOLD = 4  # names that a sentence tells


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
        An OpenSRH tree, or a folder in one; a CSV file with the columns ``case`` and ``patient`` and, where known, ``truth``,
        ``split`` and ``ch3``; or a folder, in which patients are what DICOM headers say and otherwise what ``whose`` says.
    whose
        Who the patients of TIFFs and strips are.

    Raises
    ------
    InputError
        When there are none, or it is not said whose they are.
    """
    if data.is_file():
        images = list(_of_manifest(data))
    elif data.is_dir():
        images = _of_tree(data) or list(_of_folder(data, whose))
    else:
        raise InputError("no such file or folder", NEEDED, data)
    if not images:
        raise InputError("a table without rows" if data.is_file() else "a folder without images", NEEDED, data)
    return images


def _of_tree(place: Path) -> list[TrainingImage]:
    """The patches of an OpenSRH tree, or of a folder in one; none where a place lies in no tree or holds none of them."""
    root = tree_of(place)
    if root is None:
        return []
    tree = read_tree(root)
    parts = tree.split()
    label: dict[str, int] = {name: CLASSES.index(name) for name in CLASSES}
    return [
        TrainingImage((one.file,), one.patient, label[one.shows], parts.get(one.patient, ""), True)
        for one in tree.below(place)
    ]


def _of_manifest(path: Path) -> Iterator[TrainingImage]:
    (head, *rows), _ = read_lines(path, NEEDED, COLUMNS)
    names = [name.strip().lower() for name in head.cells]
    known: dict[Path, int] = {}
    for row in rows:
        said, number = {name: cell.strip() for name, cell in zip(names, row.cells, strict=False)}, row.line
        if not any(said.values()):
            continue
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
        for file in files:
            if (before := known.setdefault(file.resolve(), number)) != number:
                raise InputError(f"the case {file.name} in row {before} and, again, in row {number}", "each case once", path)
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


def split_images(
    images: Sequence[TrainingImage],
    seed: int = 0,
    held_out: float = HELD_OUT,
    shown: Callable[[TrainingImage], str | None] = lambda image: None,
) -> Split:
    """Put whole patients into parts; the data's own word goes before ours.

    Patients who are spelt alike (:func:`~srh_clinic.tables.spelling_key`) or share a copy of an image count as one. Which are
    held out depends on their names and the seed, not on the order or the number of their images, and is drawn within groups
    that show the same classes, so that each is held out where it can be. Half of what is held out is ``val``, which says when
    to stop, half ``test``; where only one patient is, or the data name none of the other part, they are both.

    Parameters
    ----------
    images
        All of the data.
    seed
        Of the draw.
    held_out
        Share of the patients that is held out.
    shown
        A name for what an image shows, the same in whatever format it was saved; None where there is none. Without it copies
        are told by the bytes of their files alone.

    Raises
    ------
    InputError
        When there are fewer than two patients, or the data put one patient into two parts.
    """
    groups = _groups(images, shown)
    stated = {name: _stated_part(members) for name, members in groups.items()}
    if len(groups) < 2:
        few = f"images of {len(groups)} patient ({_named(images)})"
        raise InputError(few, "at least two patients: one to train on, one held out")
    strata: dict[tuple[int, ...], list[str]] = {}
    for name, members in groups.items():
        if not stated[name]:
            strata.setdefault(tuple(sorted({one.label for one in members if one.label is not None})), []).append(name)
    parts = {name: part for name, part in stated.items() if part}
    drawn = 0  # over all strata, so that many small ones do not all hold out for the same part
    for _, names in sorted(strata.items()):
        ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        count = min(max(round(held_out * len(names)), 1), len(names) - 1)
        parts |= {name: "val" if at % 2 == 0 else "test" for at, name in enumerate(ranked[:count], start=drawn)}
        drawn += count
        parts |= dict.fromkeys(ranked[count:], "train")
    parts = _both_sides(parts, seed)
    notes = _told(groups, stated)
    found: dict[Part, list[TrainingImage]] = {part: [] for part in PARTS}
    for name, members in groups.items():
        found[parts[name]] += members  # type: ignore[index]
    if not found["test"] or not found["val"]:
        found["test"] = found["val"] = found["test"] or found["val"]
        alone = len({image.patient for image in found["val"]}) == 1
        why = "one patient alone is held out" if alone else "the data name one held-out part alone"
        notes += (f"{why}: what says when to stop also says what was reached",)
    return Split(found, notes)


def _told(groups: Mapping[str, Sequence[TrainingImage]], stated: Mapping[str, str]) -> tuple[str, ...]:
    """What a user should know of who counts as one, and of whom the data put into no part."""
    notes = []
    if joined := [members for members in groups.values() if len({one.patient for one in members}) > 1]:
        names = "; ".join(_named(members) for members in joined[:_TOLD])
        more = f"; and {len(joined) - _TOLD} more" if len(joined) > _TOLD else ""
        notes.append(f"patients who count as one, for they are spelt alike or share a copy of an image: {names}{more}")
    if any(stated.values()) and (left := sum(not part for part in stated.values())):
        notes.append(f"{left} patient{'s' if left > 1 else ''} whom the data put into no part are split as without their word")
    return tuple(notes)


def _named(members: Sequence[TrainingImage]) -> str:
    names = sorted({member.patient for member in members})
    return " and ".join(map(ascii, names[:_TOLD])) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")


def _both_sides(parts: dict[str, str], seed: int) -> dict[str, str]:
    """Hold somebody out, and train on somebody, where a part came out empty: strata of one patient are all for training."""
    names = sorted(parts, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    if "train" not in parts.values():
        raise InputError("no patient to train on", "a split that leaves some for training")
    if set(parts.values()) == {"train"}:
        parts = {**parts, names[0]: "val"}
    return parts


def _groups(images: Sequence[TrainingImage], shown: Callable[[TrainingImage], str | None]) -> dict[str, list[TrainingImage]]:
    """Images by patient, those who are spelt alike or share a copy of an image under one name."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    seen: dict[str, str] = {}
    for image in images:
        own = lead(f"patient {image.patient}")
        prints = [_print_of_patch(image.files[0])] if image.is_patch else [*map(_print_of, image.files), shown(image)]
        for one in (f"spelt {spelling_key(image.patient)}", *prints):
            if one is None:
                continue
            other = lead(seen.setdefault(one, own))
            own, dropped = min(own, other), max(own, other)
            leader[dropped] = own
    groups: dict[str, list[TrainingImage]] = {}
    for image in images:
        groups.setdefault(lead(f"patient {image.patient}"), []).append(image)
    return groups


def _print_of(file: Path) -> str:
    """A name for what a file, or all files of a folder of strips, hold: the same for copies."""
    if file.is_dir():
        inside = sorted(_print_of(one) for one in file.rglob("*") if one.suffix.lower() == ".dcm" and one.is_file())
        return hashlib.blake2b("".join(inside).encode(), digest_size=16).hexdigest() if inside else str(file.resolve())
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with file.open("rb") as stream:
        digest.update(stream.read(_ENDS))
        stream.seek(max(size - _ENDS, 0))
        digest.update(stream.read(_ENDS))
    return digest.hexdigest()


def _print_of_patch(file: Path) -> str | None:
    """A name for what the middle of a patch's file holds; None where that is too plain, and for one that is not there."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(size - _WITHIN, 0) // 2)
            within = stream.read(_WITHIN)
    except OSError:
        return None  # whoever opens it says so, with its name
    if len(set(within)) <= _PLAIN:
        return None
    return hashlib.blake2b(within + str(size).encode(), digest_size=16).hexdigest()


def _stated_part(members: Sequence[TrainingImage]) -> str:
    stated = {member.part for member in members if member.part}
    if len(stated) > 1:
        several = len({member.patient for member in members}) > 1
        why = ", who are spelt alike or share a copy of an image," if several else ""
        found = f"patient{'s' if several else ''} {_named(members)}{why} in two parts ({', '.join(sorted(stated))})"
        raise InputError(found, "each patient in one part")
    return stated.pop() if stated else ""


def labelled(images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """The images of which it is known what they show."""
    return [image for image in images if image.label is not None]
