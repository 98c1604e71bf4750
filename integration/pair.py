"""A slide of two files, one a channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import (
    ChannelOption,
    ChannelOrder,
    ChannelStatement,
    channel_in_words,
    decide_channels,
    without_channel,
)
from srh_clinic.integration.dicom_reader import read_dicom_files
from srh_clinic.integration.frames import FramedSlide, chosen_plane
from srh_clinic.integration.halves import joined
from srh_clinic.integration.places import TIFF_SUFFIXES, files_in, kind_of, tiffs_in
from srh_clinic.integration.tiff import read_tiff_half

NEEDED = "two files of one channel each, CH2's first"


def read_pair(
    files: Sequence[Path],
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    plane: int | None = None,
    source: Path | None = None,
) -> FramedSlide:
    """Open two files of one channel each as one slide.

    Parameters
    ----------
    files, um_per_px, full_scale, channels, source
        As in :func:`read_pair_planes`.
    plane
        Which focal plane of both, from 1, where they hold several.

    Raises
    ------
    InputError
        As :func:`read_pair_planes`, and when the plane is none of theirs, or not said.
    """
    planes = read_pair_planes(files, um_per_px, full_scale, channels, source)
    return chosen_plane(planes, plane, source or Path(files[0]))


def read_pair_planes(
    files: Sequence[Path],
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    source: Path | None = None,
) -> list[tuple[float | None, FramedSlide]]:
    """Open two files of one channel each as slides, one a focal plane, with its depth in micrometres or ``None``.

    Parameters
    ----------
    files
        Two TIFFs, each of one image or one z-stack, or two DICOM whole slide images of one optical path. What is said within
        them or by their names decides which is CH2; without any word, the first is.
    um_per_px, full_scale, channels
        As in :func:`~srh_clinic.integration.reader.read_slide`; ``channels`` says what each file is.
    source
        What the slide is said to come from (default: the first file).

    Raises
    ------
    InputError
        When they are not two halves of one slide: another number, size, pixel size, format, or other focal planes.
    """
    files = list(files)
    if len(files) != 2 or files[0] == files[1]:
        raise InputError(f"{len(files)} files" if len(files) != 2 else "one file twice", NEEDED, files[0] if files else None)
    kinds = [kind_of(file, NEEDED) for file in files]
    if files[0].samefile(files[1]):
        raise InputError(f"one file twice ({files[0].name} and {files[1].name})", NEEDED, files[0])
    for file, kind in zip(files, kinds, strict=True):
        if kind not in ("tiff", "dicom"):
            raise InputError("a folder" if kind == "folder" else kind, NEEDED, file)
    if kinds[0] != kinds[1]:
        raise InputError("a DICOM file and a TIFF", "two files of one format", files[1])
    if kinds[0] == "dicom":
        return list(read_dicom_files(files, um_per_px, full_scale, channels))
    halves = [read_tiff_half(file, um_per_px, full_scale) for file in files]
    order = _order(files, [half.statement for half in halves], channels)
    return list(joined(halves, order, full_scale, source or files[0]))


def channel_files_in(folder: Path) -> list[Path] | None:
    """The two TIFFs of a folder that holds no more images and whose names differ in the channel alone, CH2's first."""
    tiffs = tiffs_in(folder)
    if len(tiffs) != 2 or any(file.suffix.lower() in ("", ".dcm") for file in files_in(folder)):
        return None
    named = [channel_in_words(file.stem) for file in tiffs]
    if len({_without_channel(file) for file in tiffs}) > 1:  # CH2 of one field, or patient, and CH3 of another
        return None
    return tiffs[:: 1 if named == [0, 1] else -1] if sorted(map(str, named)) == ["0", "1"] else None


def cases_in(files: Sequence[Path]) -> list[Path | tuple[Path, Path]]:
    """Files and folders as cases, in order: each is one, or two TIFFs that differ in the name of their channel alone."""
    halves: dict[str, dict[int, Path]] = {}
    for file in files:
        channel = channel_in_words(file.stem) if file.suffix.lower() in TIFF_SUFFIXES else None
        if channel is not None:
            halves.setdefault(_without_channel(file), {}).setdefault(channel, file)
    pairs = {ch2: (ch2, of[1]) for of in halves.values() if len(of) == 2 and (ch2 := of[0])}
    others = {ch3 for _, ch3 in pairs.values()}
    cases: list[Path | tuple[Path, Path]] = []
    for file in files:
        if file in pairs or file in others:
            pair = pairs.get(file) or next(pair for pair in pairs.values() if file in pair)
            if pair not in cases:
                cases.append(pair)
        else:
            cases.append(file)
    return cases


def _without_channel(file: Path) -> str:
    return f"{file.parent}/{without_channel(file.name.removesuffix(file.suffix).removesuffix('.ome'))}"


def _order(files: Sequence[Path], inside: list[ChannelStatement], channels: ChannelOption | None) -> ChannelOrder:
    """By what the files say of themselves, then by their names, then by the order in which the caller gives them."""
    by_name = [ChannelStatement((file.stem,)) for file in files]
    both = [ChannelStatement((*one.words, *two.words), one.wavelength_nm) for one, two in zip(inside, by_name, strict=True)]
    if channels is not None:
        return decide_channels(both, channels, files[0])
    if any(channel_in_words(word) is not None for said in both for word in said.words):
        return decide_channels(both, None, files[0])
    if any(statement.wavelength_nm is not None or statement.words for statement in inside):
        return decide_channels(inside, None, files[0])
    return ChannelOrder((0, 1), "in the order in which the files were given")
