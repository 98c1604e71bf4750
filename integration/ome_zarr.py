"""A slide as OME-Zarr (NGFF 0.5), which napari, Vitessce and image servers open piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srh_clinic.errors import InputError
from srh_clinic.files import check_place, whole_folder
from srh_clinic.integration.dicom_pixel_size import edges_um
from srh_clinic.integration.dicom_writer import pyramid_levels
from srh_clinic.integration.levels import CHANNEL_WORDS, spooled_levels
from srh_clinic.integration.targets import require_new
from srh_clinic.intensity import FULL_SCALE, Counts
from srh_clinic.slide import Slide

CHUNK_PX = 512
"""Edge of a chunk in pixels; each holds one channel."""

COLOURS = ("00FF00", "0000FF")
"""CH2 green, where the lipids are, and CH3 blue: as an SRH image is usually shown."""


def write_ome_zarr(slide: Slide, out: str | Path) -> Path:
    """Write a slide as an OME-Zarr image: axes c, y, x, the levels of a pyramid, Zarr format 3.

    A level's translation is the centre of its first pixel, so that all levels show the same place. Nothing but pixels, their
    size and the channels is told.

    Parameters
    ----------
    out
        A folder's name ending in ``.ome.zarr`` that is not taken.

    Raises
    ------
    InputError
        When the name is another one or is taken, the slide cannot be read, or zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise InputError("no zarr", "it (pip install 'srh-clinic[ome-zarr]')") from error
    out = Path(out)
    require_new(out, (".ome.zarr",), "an OME-Zarr image")
    check_place(out, folder=True)
    factors = pyramid_levels(slide.shape)
    with spooled_levels(slide, factors, out) as levels, whole_folder(out) as draft:
        attributes = {"ome": _metadata(edges_um(slide), (1, *factors), levels)}
        group = zarr.create_group(draft, zarr_format=3, attributes=attributes)
        for number, level in enumerate(levels):
            array = group.create_array(
                str(number),
                shape=level.shape,
                dtype=level.dtype,
                chunks=(1, min(CHUNK_PX, level.shape[1]), min(CHUNK_PX, level.shape[2])),
                dimension_names=("c", "y", "x"),
            )
            for y in range(0, level.shape[1], CHUNK_PX):
                array[:, y : y + CHUNK_PX] = np.asarray(level[:, y : y + CHUNK_PX])
    return out


def _metadata(edges: tuple[float, float], factors: Sequence[int], levels: Sequence[Counts]) -> dict[str, Any]:
    """What the group's attribute ``ome`` says (NGFF 0.5)."""
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, *(factor * um for um in edges)]},
                {"type": "translation", "translation": [0.0, *((factor - 1) / 2 * um for um in edges)]},
            ],
        }
        for number, factor in enumerate(factors)
    ]
    space = {"type": "space", "unit": "micrometer"}
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    return {
        "version": "0.5",
        "multiscales": [{"name": "SRH", "axes": axes, "datasets": datasets, "type": "mean"}],
        "omero": {
            "channels": [
                {"label": words, "color": colour, "active": True, "window": _window(channel)}
                for words, colour, channel in zip(CHANNEL_WORDS, COLOURS, levels[-1], strict=True)
            ]
        },
    }


def _window(channel: Counts) -> dict[str, float]:
    """From which to which count a channel is shown at first: all but the darkest and brightest hundredth of a small level."""
    low, high = np.percentile(channel, [1, 99])
    return {"start": float(low), "end": float(max(high, low + 1)), "min": 0.0, "max": float(FULL_SCALE - 1)}
