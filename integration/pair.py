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
from srh_clinic.integration.frames import FramedSlide, check_extent
from srh_clinic.integration.places import TIFF_SUFFIXES, files_in, kind_of, tiffs_in
from srh_clinic.integration.snapshot import content_of
from srh_clinic.integration.tiff import read_tiff_channel, require_stated_bits
from srh_clinic.integration.units import agree
from srh_clinic.slide import Identity

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
    files
        Two TIFFs, or two DICOM whole slide images of one optical path. What is said within them or by their names decides
        which is CH2; without any word, the first is.
    um_per_px, full_scale, channels, plane
        As in :func:`~srh_clinic.integration.reader.read_slide`; ``channels`` says what each file is, ``plane`` which focal
        plane of both, where they are DICOM.
    source
        What the slide is said to come from (default: the first file).

    Raises
    ------
    InputError
        When they are not two halves of one slide: another number, size, pixel size or format.
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
        return read_dicom_files(files, um_per_px, full_scale, channels, plane)
    if plane is not None:
        raise InputError(f"--plane {plane} of two TIFFs of one focal plane each", "no --plane", files[0])
    halves = [read_tiff_channel(file, um_per_px, full_scale) for file in files]
    order = _order(files, [half.statement for half in halves], channels)
    ch2, ch3 = (halves[place] for place in order.places)
    if ch2.shape != ch3.shape:
        found = f"channels of {ch2.shape[1]} x {ch2.shape[0]} and {ch3.shape[1]} x {ch3.shape[0]} pixels"
        raise InputError(found, "two of one size", files[1])
    sizes = [half.um_per_px for half in (ch2, ch3) if half.um_per_px is not None]
    if not sizes:
        raise InputError("TIFFs that do not state their pixel size", "--um-per-px", files[0])
    if not agree(sizes[0], sizes[-1]):
        raise InputError(
            f"channels of {sizes[0]:g} and {sizes[-1]:g} um per pixel", "one pixel size, or --um-per-px", files[1]
        )
    check_extent(ch2.shape, sizes[0], files[0])
    scales = [half.frames.source.depth.full_scale for half in (ch2, ch3)]
    if scales[0] != scales[1] and (ch2.bits is None) != (ch3.bits is None):
        stated = max(filter(None, (ch2.bits, ch3.bits)))
        found = f"a channel of {stated} bits and one that does not state its bits"
        raise InputError(found, f"--full-scale {2**stated} or 65536", files[1])
    if scales[0] != scales[1]:
        raise InputError(f"channels of full scales {scales[0]} and {scales[1]}", "two of one depth", files[1])
    bits = ch2.bits if ch2.bits is not None else ch3.bits
    if full_scale is None and bits is None:
        require_stated_bits([ch2.frames, ch3.frames], files[0])
    opened = tuple((files[place], halves[place].snapshot) for place in order.places)
    return FramedSlide(
        shape=ch2.shape,
        um_per_px=sizes[0],
        identity=Identity(source=str(source or files[0]), channel_order=str(order), content=content_of(opened)),
        stated=tuple(dict.fromkeys((*ch2.notes, *ch3.notes, *order.notes))),
        compare_bits=full_scale is None and bits is not None,
        planes=((ch2.frames,), (ch3.frames,)),
        opened=opened,
    )


def channel_files_in(folder: Path) -> list[Path] | None:
    """The two TIFFs of a folder that holds no more images and whose names say which channel each is, CH2's first."""
    tiffs = tiffs_in(folder)
    if len(tiffs) != 2 or any(file.suffix.lower() in ("", ".dcm") for file in files_in(folder)):
        return None
    named = [channel_in_words(file.stem) for file in tiffs]
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
    return str(file.with_name(without_channel(file.name.removesuffix(file.suffix).removesuffix(".ome"))))


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
