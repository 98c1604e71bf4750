"""A slide as a pyramidal OME-TIFF, which QuPath, Bio-Formats, napari and OMERO open."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from srh_clinic.concurrency import begin
from srh_clinic.files import check_place, whole_file
from srh_clinic.integration.dicom_header import derived_uuid
from srh_clinic.integration.dicom_pixel_size import edges_um
from srh_clinic.integration.dicom_writer import pyramid_levels
from srh_clinic.integration.levels import CHANNEL_WORDS, spooled_levels
from srh_clinic.integration.targets import require_new
from srh_clinic.intensity import Counts
from srh_clinic.slide import ArraySlide, Slide, pixels_sha256

TILE_PX = 512
"""Edge of a tile in pixels."""

PACKED_AT_ONCE = 16
"""Tiles that are packed beside each other before the first of them is written."""

_CLASSIC_BYTES = 2**32 - 2**25  # a larger file has 64-bit offsets


def write_ome_tiff(slide: Slide, out: str | Path) -> Path:
    """Write a slide as OME-TIFF: both channels, the levels of a pyramid as SubIFDs, deflate with a predictor.

    Counts are kept exactly, and so is the size of a pixel. Nothing but pixels, their size and the channels is told: a TIFF
    has no place for a patient. The same slide gives the same bytes.

    Parameters
    ----------
    out
        A name ending in ``.ome.tif`` or ``.ome.tiff`` that is not taken.

    Raises
    ------
    InputError
        When the name is another one or is taken, or the slide cannot be read.
    """
    import tifffile

    out = Path(out)
    require_new(out, (".ome.tif", ".ome.tiff"), "an OME-TIFF")
    check_place(out, folder=False)
    down, across = edges_um(slide)
    factors = pyramid_levels(slide.shape)
    with spooled_levels(slide, factors, out) as levels, whole_file(out) as draft:
        size = down if down == across else (down, across)
        metadata = {
            "axes": "CYX",
            "PhysicalSizeX": across,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": down,
            "PhysicalSizeYUnit": "µm",
            "Channel": {"Name": list(CHANNEL_WORDS)},
            # tifffile's own is made of the time and the network card
            "UUID": f"urn:uuid:{derived_uuid('ome-tiff', pixels_sha256(ArraySlide(levels[0], down)), repr(size))}",
        }
        big = sum(level.nbytes for level in levels) > _CLASSIC_BYTES
        with tifffile.TiffWriter(draft, bigtiff=big, ome=True) as file:
            for number, level in enumerate(levels):
                file.write(
                    _packed(level),
                    shape=level.shape,
                    dtype=level.dtype,
                    tile=(TILE_PX, TILE_PX),
                    compression="zlib",
                    predictor=True,
                    photometric="minisblack",
                    software="srh-clinic",
                    resolution=tuple(1e4 / um / (1, *factors)[number] for um in (across, down)),
                    resolutionunit="CENTIMETER",
                    **({"subifds": len(factors), "metadata": metadata} if number == 0 else {"subfiletype": 1}),
                )
    return out


def _packed(level: Counts) -> Iterator[bytes]:
    """The tiles of a level as they stand in the file, one channel after the other."""
    tiles = _tiles(level)
    while some := list(islice(tiles, PACKED_AT_ONCE)):
        yield from begin(_pack, some, threads=os.cpu_count() or 1)()


def _tiles(level: Counts) -> Iterator[Counts]:
    for channel in level:
        for y in range(0, channel.shape[0], TILE_PX):
            for x in range(0, channel.shape[1], TILE_PX):
                yield channel[y : y + TILE_PX, x : x + TILE_PX]


def _pack(tile: Counts) -> bytes:
    """A tile, filled with 0 at the slide's end, by the horizontal predictor of TIFF and deflate.

    In what differs from pixel to pixel of tissue little repeats but runs of one byte: to look for nothing else takes a third
    of the time and no more room.
    """
    whole = np.zeros((TILE_PX, TILE_PX), dtype="<u2")
    whole[: tile.shape[0], : tile.shape[1]] = tile
    differences = whole.copy()
    differences[:, 1:] -= whole[:, :-1]
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    return deflate.compress(differences.data) + deflate.flush()
