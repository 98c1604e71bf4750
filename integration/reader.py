"""Any file, pair of files or folder of a case to a slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srh_clinic.errors import InputError
from srh_clinic.integration.channels import ChannelOption
from srh_clinic.integration.dicom_reader import read_dicom
from srh_clinic.integration.frames import chosen_plane
from srh_clinic.integration.nio_layout import strip_files
from srh_clinic.integration.nio_reader import read_nio, require_no_flat_field
from srh_clinic.integration.opensrh import read_opensrh, tree_of
from srh_clinic.integration.pair import channel_files_in, read_pair
from srh_clinic.integration.places import files_in, kind_of
from srh_clinic.integration.tiff import is_z_stack, read_tiff, read_tiff_planes
from srh_clinic.slide import Slide

NEEDED = "a DICOM whole slide image, a two-channel TIFF, or a TIFF of each channel"

CaseFiles = str | Path | Sequence[str | Path]
"""A case: a file, a folder, or the two files of its channels."""


def read_slide(
    path: CaseFiles,
    um_per_px: float | None = None,
    full_scale: int | None = None,
    channels: ChannelOption | None = None,
    plane: int | None = None,
    flat_field: str | None = None,
) -> Slide:
    """Open a case as a lazy slide.

    Parameters
    ----------
    path
        A DICOM whole slide image, one file of a DICOM series, a folder with one case, a folder of strips of an NIO imager, a
        two-channel TIFF, or two files of one channel each, CH2's first.
    um_per_px
        Pixel edge in micrometres, 0.01..20, where the file does not state it or states it wrongly.
    full_scale
        Stored value at unit intensity 1, where the file does not state it: 4,096 for 12-bit data.
    channels
        Which channel is which, where the file does not say it or says it wrongly: for each in the file's order CH2, CH3 or
        ``-`` (``"CH3,CH2"``), or the positions (``"2,1"``) or names of CH2 and CH3, see
        :func:`~srh_clinic.integration.channels.decide_channels`.
    plane
        Number of the focal plane, from 1, of a case that holds several.
    flat_field
        What is taken off strips of an NIO imager: ``"none"`` (default), ``"columns"`` or ``"gaussian"``, see
        :data:`~srh_clinic.integration.flat_field.FlatField`.

    Raises
    ------
    InputError
        When it is not one whole SRH slide.
    """
    if not path:
        raise InputError("an empty name", NEEDED)
    if not isinstance(path, str | Path):
        files = [Path(file) for file in path]
        if len(files) != 1:
            require_no_flat_field(flat_field, files)
            return read_pair(files, um_per_px, full_scale, channels, plane)
        path = files[0]
    path = Path(path)
    kind = kind_of(path, NEEDED)
    if kind == "folder" and (strips := strip_files(path)):
        require_one_plane(plane, path)
        return read_nio(path, strips, um_per_px, full_scale, channels, flat_field or "none")
    require_no_flat_field(flat_field, path)
    if kind == "folder" and tree_of(path) and not any(file.suffix.lower() == ".dcm" for file in files_in(path)):
        require_one_plane(plane, path)
        return read_opensrh(path, um_per_px, full_scale, channels)
    if kind == "folder" and (pair := channel_files_in(path)):
        return read_pair(pair, um_per_px, full_scale, channels, plane, path)
    if kind in ("folder", "dicom"):
        return read_dicom(path, um_per_px, full_scale, channels, plane)
    if kind != "tiff":
        raise InputError(kind, NEEDED, path)
    if plane is None:
        return read_tiff(path, um_per_px, full_scale, channels)
    if plane == 1 and not is_z_stack(path):
        return read_tiff(path, um_per_px, full_scale, channels)
    return chosen_plane(read_tiff_planes(path, um_per_px, full_scale, channels), plane, path)


def require_one_plane(plane: int | None, path: Path) -> None:
    """Refuse another focal plane than the first of a case that has one."""
    if plane not in (None, 1):
        raise InputError(f"--plane {plane} of a case of one focal plane", "no --plane", path)
