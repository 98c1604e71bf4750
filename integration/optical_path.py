"""Which Raman shift an optical path shows, and how an optical path of ours is written.

DICOM has no attribute for a Raman shift. Its identifier, description and channel code say it in words, its illumination
wavelength as the Stokes wavelength, here for the 790 nm pump of the NIO imagers.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.dataset import Dataset

from srh_clinic.errors import InputError
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS

PUMP_NM = 790.0
"""Assumed pump wavelength in nm."""

SCHEME = "99SRHCLINIC"
"""Coding scheme of concepts that no public dictionary holds."""

SHIFT = re.compile(r"(?<!\d)2[89]\d\d(?:\.\d+)?(?!\d)")
"""A Raman shift of the CH stretches within a text."""

_SHIFT_TOLERANCE = 25.0  # cm-1: microscopes tune CH2 to 2840..2855 and CH3 to 2920..2950
_STOKES_TOLERANCE = 3.0  # nm: a third of the distance between both Stokes wavelengths
_CHANNEL_NAME = re.compile(r"(?<![a-z0-9])ch([23])(?![a-z0-9])", re.IGNORECASE)


def stokes_nm(raman_shift: int, pump_nm: float = PUMP_NM) -> float:
    """Stokes wavelength in nm that excites ``raman_shift`` (cm-1) with a pump of ``pump_nm``."""
    return 1e7 / (1e7 / pump_nm - raman_shift)


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def channel_in_words(text: str) -> int | None:
    """The channel (0 CH2, 1 CH3) that a text names by Raman shift or by name; ``None`` when it names none or both."""
    named = {int(match) - 2 for match in _CHANNEL_NAME.findall(text)}
    for number in SHIFT.findall(text):
        named |= {c for c, shift in enumerate(RAMAN_SHIFTS) if abs(float(number) - shift) <= _SHIFT_TOLERANCE}
    return named.pop() if len(named) == 1 else None


def channel_of(path_item: Dataset, file: Path | None = None) -> int | None:
    """The channel of an item of the Optical Path Sequence, never by its place there.

    Returns ``None`` for a path that shows neither Raman shift.

    Raises
    ------
    InputError
        When identifier, description, code and wavelength disagree.
    """
    words = [path_item.get("OpticalPathIdentifier"), path_item.get("OpticalPathDescription")]
    for code in path_item.get("ChannelDescriptionCodeSequence") or []:
        words += [code.get("CodeValue"), code.get("CodeMeaning")]
    signs = {channel_in_words(str(word)) for word in words if word}
    wavelength = path_item.get("IlluminationWaveLength")
    if wavelength is not None:
        nearby = [c for c, shift in enumerate(RAMAN_SHIFTS) if abs(float(wavelength) - stokes_nm(shift)) <= _STOKES_TOLERANCE]
        signs.update(nearby)
    signs.discard(None)
    if len(signs) > 1:
        identifier = path_item.get("OpticalPathIdentifier")
        raise InputError(f"an optical path {identifier!r} that names both CH2 and CH3", "one Raman shift for each path", file)
    return signs.pop() if signs else None


def optical_path(channel: int) -> Dataset:
    """An item of the Optical Path Sequence (PS3.3 C.8.12.5) for channel 0 or 1."""
    shift = RAMAN_SHIFTS[channel]
    item = Dataset()
    item.OpticalPathIdentifier = f"SRS{shift}"
    item.OpticalPathDescription = (
        f"Stimulated Raman scattering, {CHANNELS[channel]}, Raman shift {shift} cm-1; "
        f"Stokes wavelength for a {PUMP_NM:.0f} nm pump"
    )
    item.IlluminationTypeCodeSequence = [coded("SRS-ILL", SCHEME, "Stimulated Raman scattering illumination")]
    item.IlluminationWaveLength = round(stokes_nm(shift), 2)
    item.ChannelDescriptionCodeSequence = [coded(f"SRS{shift}", SCHEME, f"Raman shift {shift} cm-1")]
    return item
