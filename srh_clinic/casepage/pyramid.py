"""Images of a slide in small tiles and several sizes, as compressed as they have to be."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from srh_clinic.display import RGB

TILE = 512
"""Edge of a tile of the page, in pixels."""

QUALITIES = (85, 75, 65, 55, 45, 35)
"""WebP qualities, the best first."""

LOOK_ALIKE = 8
"""Tiles of each layer from which the size of all is estimated."""


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A picture in levels, each half as large as the next.

    ``tiles`` holds WebP files in base64 by ``"level/x_y"``, level 0 the smallest and ``levels - 1`` the picture itself; that
    is ``height x width`` pixels.
    """

    height: int
    width: int
    levels: int
    tiles: Mapping[str, str]


def make_pyramids(pictures: Mapping[str, RGB], budget: int) -> tuple[dict[str, Pyramid], int] | None:
    """Pyramids of pictures that together take at most ``budget`` bytes, and the WebP quality they are stored at.

    All have one quality, the best that fits; None when not even the lowest does.
    """
    for quality in QUALITIES:
        if _estimated(pictures, quality) > budget:
            continue
        made = {name: _pyramid(picture, quality) for name, picture in pictures.items()}
        if sum(len(tile) for pyramid in made.values() for tile in pyramid.tiles.values()) <= budget:
            return made, quality
    return None


def data_uri(picture: Image.Image, form: str = "PNG") -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format=form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def halved(picture: RGB) -> RGB:
    """A picture of half the size, each pixel the mean of four; an odd edge is repeated."""
    rows, columns = picture.shape[0] % 2, picture.shape[1] % 2
    even = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge").astype(np.uint16)
    total = even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _levels(picture: RGB) -> list[RGB]:
    """The picture and its halves, the smallest first; that fits in a tile."""
    levels = [picture]
    while max(levels[0].shape[:2]) > TILE:
        levels.insert(0, halved(levels[0]))
    return levels


def _tiles(picture: RGB) -> Iterator[tuple[int, int, RGB]]:
    for y in range(0, picture.shape[0], TILE):
        for x in range(0, picture.shape[1], TILE):
            yield x // TILE, y // TILE, picture[y : y + TILE, x : x + TILE]


def _pyramid(picture: RGB, quality: int) -> Pyramid:
    levels = _levels(picture)
    tiles = {
        f"{level}/{x}_{y}": base64.b64encode(_webp(tile, quality)).decode()
        for level, image in enumerate(levels)
        for x, y, tile in _tiles(image)
    }
    return Pyramid(picture.shape[0], picture.shape[1], len(levels), tiles)


def _estimated(pictures: Mapping[str, RGB], quality: int) -> float:
    """Bytes in base64 of all levels, from some tiles of the largest; the smaller ones add a third."""
    total = 0.0
    for picture in pictures.values():
        tiles = [tile for _, _, tile in _tiles(picture)]
        some = tiles[:: max(len(tiles) // LOOK_ALIKE, 1)]
        size = sum(len(_webp(tile, quality)) for tile in some) / sum(tile.size for tile in some)
        total += size * picture.size * 4 / 3 * 4 / 3
    return total


def _webp(tile: RGB, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()
