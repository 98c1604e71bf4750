"""What an optical path says of its Raman shift, and how an optical path of ours is written.

DICOM has no attribute for a Raman shift. Its identifier, description and channel code say it in words, its illumination
wavelength as the Stokes wavelength, here for the 790 nm pump of the NIO imagers.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from srh_clinic.integration.channels import ChannelStatement, stokes_nm
from srh_clinic.integration.dicom_file import value_of
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS

PUMP_NM = 790.0
"""Assumed pump wavelength in nm."""

SCHEME = "99SRHCLINIC"
"""Coding scheme of concepts that no public dictionary holds."""

RESTORED = ("SRH-RESTORED", SCHEME, "Restored stimulated Raman histology")
"""Code of how a restored slide was derived: value, scheme and meaning."""


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def statement_of(path_item: Dataset, *more: str) -> ChannelStatement:
    """What an item of the Optical Path Sequence says of its Raman shift, in words and by its wavelength.

    ``more`` are words about the only optical path of a file that stand elsewhere in it.
    """
    words = [value_of(path_item, "OpticalPathIdentifier"), value_of(path_item, "OpticalPathDescription")]
    for code in value_of(path_item, "ChannelDescriptionCodeSequence") or []:
        words += [value_of(code, keyword) for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning")]
    wavelength = value_of(path_item, "IlluminationWaveLength")
    said = tuple(str(word) for word in (*words, *more) if word)
    return ChannelStatement(said, None if wavelength is None or wavelength == "" else float(wavelength))


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
    item.IlluminationWaveLength = round(stokes_nm(shift, PUMP_NM), 2)
    item.ChannelDescriptionCodeSequence = [coded(f"SRS{shift}", SCHEME, f"Raman shift {shift} cm-1")]
    return item
