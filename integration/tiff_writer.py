"""A slide as a two-channel OME-TIFF that says what its channels are and how large its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, whole_file
from srh_clinic.integration.places import TIFF_SUFFIXES
from srh_clinic.intensity import CHANNELS, RAMAN_SHIFTS
from srh_clinic.slide import Slide


def write_tiff(slide: Slide, out: Path) -> Path:
    """Write counts ``(2, H, W)`` as OME-TIFF of axes CYX, uint16.

    Raises
    ------
    InputError
        When the name is another kind of file's or taken, or the place cannot be written.
    """
    if out.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(f"the name {out.name}", "one that ends in .tif", out)
    if out.exists():
        raise InputError("an existing file", "a name that is not taken", out)
    check_place(out, folder=False)
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": slide.um_per_px,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": slide.um_per_px,
        "PhysicalSizeYUnit": "µm",
        "SignificantBits": 16,
        "Channel": {"Name": [f"{name} ({shift} cm-1)" for name, shift in zip(CHANNELS, RAMAN_SHIFTS, strict=True)]},
    }
    counts = np.ascontiguousarray(slide.read(0, 0, *slide.shape))
    with whole_file(out) as draft:
        tifffile.imwrite(draft, counts, ome=True, photometric="minisblack", metadata=metadata)
    return out
