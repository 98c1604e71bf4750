"""How our objects look in a notebook: a small picture, the numbers beside it, and what they may not be used for.

What is shown needs no network and no file, and stays below :data:`LARGEST`, however large the slide. Words from files and
names are shown as text (:func:`srh_clinic.escaping.fragment_text`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from srh_clinic.display import RGB, ColourWindow, srh_colours
from srh_clinic.escaping import fragment_text
from srh_clinic.intensity import Counts

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 200_000
"""Characters that an object takes in a notebook at most: each stays in the notebook's file."""

PICTURES = 150_000
"""Characters that all its pictures take at most."""

EDGES = (420, 320, 240, 160)
"""Longer edges in pixels of a picture, the first that fits."""

QUALITIES = (88, 75, 60)
"""Of JPEG, the first that fits."""

SEEN_WHOLE = 2048
"""Of a slide with a longer edge only its middle is read, of this edge: a notebook does not wait for a whole slide."""

LONGEST_LIST = 8
"""Lines of a list that are shown; how many more there are is said."""

RESEARCH = "Research software, not a medical device."

RESTORED = f"Weights of phantom-demo: demonstration weights, research use only. {RESEARCH}"
"""Said of what networks made where nobody says whose they are."""


@dataclass(frozen=True)
class Shown:
    """A picture, uint8 ``(H, W, 3)``, and what it shows."""

    picture: RGB
    caption: str


@dataclass(frozen=True)
class _Placed:
    uri: str
    caption: str


def card(
    title: str,
    *,
    pictures: Sequence[Shown] = (),
    heads: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    doubtful: str = "",
    doubts: Sequence[str] = (),
    lines: Sequence[str] = (),
    notice: str = RESEARCH,
) -> str:
    """What a notebook shows of an object, as HTML.

    Parameters
    ----------
    heads, rows
        A table; the first cell of a row says what the others are.
    doubtful, doubts
        What stands above everything else, and why.
    """
    return fragment_text(
        [Path(__file__).parent],
        "notebook.html",
        title=_cut(title),
        pictures=_placed(pictures),
        heads=list(heads),
        rows=[[_cut(cell) for cell in row] for row in rows],
        doubtful=doubtful,
        doubts=_first(doubts),
        lines=_first(lines),
        notice=notice,
    )


class _Seen(Protocol):
    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def um_per_px(self) -> float: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def read(self, y: int, x: int, height: int, width: int) -> Counts: ...


def middle(slide: _Seen) -> tuple[tuple[int, int, int, int], str]:
    """The part of a slide that a notebook shows, ``(y, x, height, width)``, and what it is called."""
    height, width = (min(edge, SEEN_WHOLE) for edge in slide.shape)
    y, x = ((whole - part) // 2 for whole, part in zip(slide.shape, (height, width), strict=True))
    whole = (height, width) == tuple(slide.shape)
    return (y, x, height, width), "the whole slide" if whole else f"the middle {height} x {width} pixels"


class ShownSlide:
    """A slide that a notebook shows. It says where the pixels come from and what they are, and nobody's name."""

    def _repr_html_(self: _Seen) -> str:
        region, called = middle(self)
        picture = Shown(srh_colours(self.read(*region)), f"{called}, SRH colours")
        height, width = self.shape
        size = f"{height * self.um_per_px / 1000:.2f} x {width * self.um_per_px / 1000:.2f} mm"
        rows = [
            ("Height x width", f"{height:,} x {width:,} pixels, {size}"),
            ("Pixel size", f"{self.um_per_px:.4g} um"),
            ("Channels", "CH2 (2845 cm-1), CH3 (2930 cm-1), uint16 counts"),
        ]
        return card(type(self).__name__, pictures=[picture], rows=rows, lines=self.notes)


def coloured(counts: Counts, window: ColourWindow | None, caption: str) -> Shown:
    """Counts ``(2, H, W)`` in the SRH colours."""
    return Shown(srh_colours(counts, window), caption)


def _placed(pictures: Sequence[Shown]) -> list[_Placed]:
    """Pictures within the page, as large and as good as all of them fit."""
    from PIL import Image

    for edge in EDGES:
        small = []
        for shown in pictures:
            one = Image.fromarray(shown.picture)
            one.thumbnail((edge, edge), Image.Resampling.LANCZOS)
            small.append(one)
        for quality in QUALITIES:
            uris = [_uri(one, quality) for one in small]
            if sum(map(len, uris)) <= PICTURES:
                return [_Placed(uri, _cut(shown.caption)) for uri, shown in zip(uris, pictures, strict=True)]
    return []


def _uri(picture: Image, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LONGEST_LIST
    return [_cut(line) for line in lines[:LONGEST_LIST]] + ([f"and {more} more"] if more > 0 else [])


def _cut(words: str, most: int = 500) -> str:
    """Words from a file may be of any length."""
    return words if len(words) <= most else f"{words[:most]}..."
