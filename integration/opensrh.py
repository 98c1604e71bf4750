"""OpenSRH trees: patches that ``meta/opensrh.json`` lists by patient and slide, and how they are read as one slide.

The metadata lead: which patient and slide a patch is of, and what its patient was found to have, is what they say; names of
files and folders are not parsed. Where a patch lay on its slide they do not say: a slide is shown as its patches side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.files import parsed_json
from srh_clinic.integration.channels import ChannelOption, ChannelOrder, ChannelStatement, decide_channels
from srh_clinic.integration.depth import Depth
from srh_clinic.integration.frames import FramedSlide, Frames
from srh_clinic.integration.limits import limits
from srh_clinic.integration.places import tiffs_in
from srh_clinic.integration.snapshot import Snapshot, content_of
from srh_clinic.integration.tiff import read_tiff
from srh_clinic.intensity import CHANNELS, FULL_SCALE, Counts
from srh_clinic.slide import UM_PER_PX, Identity
from srh_clinic.tables import spelling_key

META = "meta/opensrh.json"
SPLIT = "meta/train_val_split.json"
NEEDED = "a patch, a slide or a patient of an OpenSRH tree"

LISTS = ("tumor_patches", "normal_patches", "nondiagnostic_patches")
"""What a slide's patches are listed under: what each patch shows."""

_PARTS = ("train", "val", "test")

NORMAL = "normal"
"""The class of patients without tumor; any other names a tumor."""


@dataclass(frozen=True)
class Patch:
    """A patch that the metadata list.

    Attributes
    ----------
    file
        Its TIFF.
    patient, slide
        As the metadata name them.
    patient_class
        What the patient was found to have.
    shows
        What the patch shows: ``"tumor"``, ``"normal"`` or ``"nondiagnostic"``.
    """

    file: Path
    patient: str
    slide: str
    patient_class: str
    shows: str


@dataclass(frozen=True)
class OpenSRH:
    """A tree, with what its metadata list, in their order."""

    root: Path
    patches: tuple[Patch, ...]

    @cached_property
    def patients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(patch.patient for patch in self.patches))

    def slides(self) -> dict[tuple[str, str], list[Patch]]:
        """Patches by patient and slide."""
        slides: dict[tuple[str, str], list[Patch]] = {}
        for patch in self.patches:
            slides.setdefault((patch.patient, patch.slide), []).append(patch)
        return slides

    def below(self, place: Path) -> list[Patch]:
        """The patches whose files lie at or below a place in the tree, of which any folder may be a link."""
        place = place.resolve()
        real = {folder: folder.resolve() for folder in {patch.file.parent for patch in self.patches}}

        def is_below(patch: Patch) -> bool:
            folder = real[patch.file.parent]
            return place in (patch.file, *patch.file.parents, folder, *folder.parents)

        return [patch for patch in self.patches if is_below(patch)]

    def split(self) -> dict[str, str]:
        """``"train"``, ``"val"`` or ``"test"`` by patient, as ``meta/train_val_split.json`` says; empty when there is none.

        Patients are called as the other metadata call them; here they may be spelt otherwise.

        Raises
        ------
        InputError
            When it is damaged, names no part, puts a patient into two, or names patients and none of them is in the tree.
        """
        path = self.root / SPLIT
        if not path.is_file():
            return {}
        said = _json(path)
        if not set(said) & set(_PARTS):
            raise InputError(f"the parts {', '.join(map(ascii, list(said)[:4])) or 'of nobody'}", "train and val", path)
        spelt: dict[str, str] = {}
        for name in _PARTS:
            for patient in _list(said.get(name, []), f"the patients of {name}", path):
                if spelt.setdefault(spelling_key(str(patient)), name) != name:
                    raise InputError(f"patient {patient} in both parts", "each patient in one part", path)
        parts = {one: spelt[key] for one in self.patients if (key := spelling_key(one)) in spelt}
        if spelt and not parts:
            raise InputError("no patient of those that meta/opensrh.json lists", "the split of this tree", path)
        return parts


def tree_of(place: Path) -> Path | None:
    """The folder of the OpenSRH tree in which a place lies, ``None`` when it lies in none."""
    absolute = place.absolute()
    return next((above for above in (absolute, *absolute.parents) if (above / META).is_file()), None)


def read_tree(root: Path) -> OpenSRH:
    """What the metadata of a tree list; no patch is opened.

    Raises
    ------
    InputError
        When they are damaged, list nothing, a path twice or one that leaves the tree.
    """
    path = root / META
    said = _json(path)
    patches = tuple(_patches(said, root.resolve(), path))
    if not patches:
        raise InputError("metadata of OpenSRH without patches", "patients with slides that list patches", path)
    known: dict[Path, Patch] = {}
    for patch in patches:
        other = known.setdefault(patch.file, patch)
        if other is not patch:
            found = f"the patch {patch.file.name} of patient {other.patient} and, again, of {patch.patient}"
            raise InputError(found, "each patch once", path)
    return OpenSRH(root.resolve(), patches)


def _patches(said: dict[str, Any], root: Path, path: Path) -> Iterator[Patch]:
    for patient, about in said.items():
        if not isinstance(about, dict) or not isinstance(about.get("class"), str):
            raise InputError(f"no class of patient {patient!r}", "a class and slides of each patient", path)
        slides = about.get("slides")
        if not isinstance(slides, dict):
            raise InputError(f"no slides of patient {patient!r}", "a class and slides of each patient", path)
        for slide, lists in slides.items():
            if not isinstance(lists, dict) or not set(LISTS) & set(lists):
                needed = " or ".join(LISTS[:2])
                raise InputError(f"slide {slide!r} of patient {patient!r} without patches", needed, path)
            for name in LISTS:
                for listed in _list(lists.get(name, []), f"{name} of slide {slide!r} of patient {patient!r}", path):
                    file = _inside(root, listed, path)
                    yield Patch(file, str(patient), str(slide), about["class"], name.removesuffix("_patches"))


def _inside(root: Path, listed: Any, path: Path) -> Path:
    """The file that the metadata list, which has to lie in the tree."""
    place = PurePosixPath(str(listed).replace("\\", "/"))  # as Windows lists paths
    if not isinstance(listed, str) or not listed or place.is_absolute() or ".." in place.parts:
        raise InputError(f"the patch {str(listed)[:80]!r}", "a path within the tree, as seen from its folder", path)
    return root.joinpath(*place.parts)


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > limits().header_bytes:
        raise InputError(f"a file of {path.stat().st_size} bytes", f"at most {limits().header_bytes}", path)
    try:
        said = parsed_json(path.read_bytes(), _once)
    except (OSError, ValueError) as error:
        raise InputError(f"a file that is not readable JSON ({error})", "the metadata of OpenSRH", path) from error
    if not isinstance(said, dict):
        raise InputError(f"a {type(said).__name__}", "a JSON object", path)
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON in which no name stands twice: the second would take the place of the first without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for at, (name, _) in enumerate(pairs) if name in dict(pairs[:at]))
        raise ValueError(f"{ascii(twice)[:60]} twice")
    return made


def _list(said: Any, what: str, path: Path) -> list[Any]:
    if not isinstance(said, list):
        raise InputError(f"{what} as a {type(said).__name__}", "a list", path)
    return said


@dataclass(frozen=True)
class PatchFrames:
    """One channel of many patches, each a TIFF that is opened when it is asked for."""

    files: tuple[Path, ...]
    frame_shape: tuple[int, int]
    channel: int
    channels: ChannelOption | None
    path: Path
    depth: Depth = Depth(FULL_SCALE)  # noqa: RUF009 - immutable

    def load(self, index: int) -> Counts:
        """The patch's channel; see :class:`~srh_clinic.integration.frames.FrameSource`."""
        return patch_counts(self.files[index], self.frame_shape, self.channels)[self.channel]

    def stored(self, index: int) -> NDArray[Any]:
        """The same: the counts are what the file holds."""
        return self.load(index)


def patch_counts(file: Path, shape: tuple[int, int] | None = None, channels: ChannelOption | None = None) -> Counts:
    """Counts ``(2, h, w)`` of a patch.

    Raises
    ------
    InputError
        When it is missing, damaged, or of another shape than ``shape``.
    """
    slide = read_tiff(file, UM_PER_PX, FULL_SCALE, channels)
    if shape is not None and slide.shape != shape:
        found = f"a patch of {slide.shape[1]} x {slide.shape[0]} pixels"
        raise InputError(found, f"one of {shape[1]} x {shape[0]}, as the others are", file)
    return slide.read(0, 0, *slide.shape)


def read_opensrh(
    place: Path, um_per_px: float | None = None, full_scale: int | None = None, channels: ChannelOption | None = None
) -> FramedSlide:
    """A slide, or all slides of a patient, of an OpenSRH tree: its patches side by side, in the order of the metadata.

    Parameters
    ----------
    place
        A folder in the tree, below which patches of one patient lie, or the tree itself where it holds one patient alone.
    um_per_px
        Pixel edge in micrometres (default: the imager's, 0.47, which the files do not state).
    full_scale
        Only 65,536: the patches are as the imager scanned them.
    channels
        As in :func:`~srh_clinic.integration.reader.read_slide`, of every patch.

    Raises
    ------
    InputError
        When there are patches of several patients or none, or one is missing or of another size.
    """
    root = tree_of(place)
    if root is None:
        raise InputError("a folder that lies in no OpenSRH tree", NEEDED, place)
    if full_scale not in (None, FULL_SCALE):
        raise InputError(f"--full-scale {full_scale} for patches of OpenSRH", "65536, which they have", place)
    tree = read_tree(root)
    patches = tree.below(place)
    if not patches:
        raise InputError("a folder without a patch that meta/opensrh.json lists", NEEDED, place)
    patients = sorted({patch.patient for patch in patches})
    if len(patients) > 1:
        first = patches[0].file.parent.relative_to(tree.root)
        found = f"patches of {len(patients)} patients of OpenSRH"
        raise InputError(found, f"those of one, such as {first} in it; validate and train take all", place)
    for patch in patches:
        if not patch.file.is_file():
            raise InputError("no such patch, which meta/opensrh.json lists", "all patches of the slide", patch.file)
    shape = read_tiff(patches[0].file, UM_PER_PX, FULL_SCALE, channels).shape
    return _side_by_side(place, patches, shape, um_per_px, channels, _beside(tree, patches))


def _beside(tree: OpenSRH, patches: list[Patch]) -> list[str]:
    """What is not shown of the slides that patches are of: patches that lie elsewhere, and files that nobody lists."""
    slides, listed = {(patch.patient, patch.slide) for patch in patches}, {patch.file for patch in tree.patches}
    elsewhere = sum((patch.patient, patch.slide) in slides for patch in tree.patches) - len(patches)
    folders = {patch.file.parent for patch in patches}
    unlisted = sum(file not in listed for folder in folders for file in tiffs_in(folder))
    notes = [f"{elsewhere} patches of the same slides lie elsewhere and are not shown"] if elsewhere else []
    return notes + ([f"{unlisted} TIFFs beside them that its metadata do not list are not shown"] if unlisted else [])


def _side_by_side(
    place: Path,
    patches: list[Patch],
    shape: tuple[int, int],
    um_per_px: float | None,
    channels: ChannelOption | None,
    beside: list[str],
) -> FramedSlide:
    across = math.ceil(math.sqrt(len(patches)))
    down = math.ceil(len(patches) / across)
    number = np.arange(len(patches), dtype=np.int64)
    files = tuple(patch.file for patch in patches)
    corners = number // across * shape[0], number % across * shape[1]
    sources = [PatchFrames(files, shape, channel, channels, place) for channel in (0, 1)]
    opened = tuple((file, Snapshot.of(file)) for file in files)
    slides = sorted({patch.slide for patch in patches})
    order = ChannelOrder((0, 1), "as OpenSRH keeps them")
    if channels is not None:
        order = decide_channels([ChannelStatement((name,)) for name in CHANNELS], channels, place)
    size = UM_PER_PX if um_per_px is None else um_per_px
    notes = [
        f"{len(patches)} patches of OpenSRH side by side, in the order of its metadata, not where they lay on the slide",
        *beside,
    ]
    if um_per_px is None:
        notes.append(f"pixel size {size:g} um as of the imager; the patches state none")
    return FramedSlide(
        shape=(down * shape[0], across * shape[1]),
        um_per_px=size,
        identity=Identity(
            patient_id=patches[0].patient,
            specimen_id=",".join(slides),
            source=str(place),
            channel_order=str(order),
            content=content_of(opened),
        ),
        stated=(*notes, *order.notes),
        planes=((Frames(sources[0], number, *corners),), (Frames(sources[1], number, *corners),)),
        opened=opened,
    )
