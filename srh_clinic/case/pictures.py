"""The pictures of a case that a neuropathologist looks at, drawn from thumbnails of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srh_clinic.concurrency import begin
from srh_clinic.diagnosis import CLASS_WORDS
from srh_clinic.display import (
    CLASS_COLOURS,
    RGB,
    ColourWindow,
    class_colours,
    colour_window,
    greyscale,
    overlay,
    srh_colours,
    virtual_he,
)
from srh_clinic.intensity import Counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS_SHOWN = 200
"""Upper end of the step map's scale: the largest number of steps that RSCD is trained for."""

STRENGTH_SHOWN = 2.0
"""Upper end of the trust map's scale in thresholds, so that its middle is where flags begin."""

BOXES_SHOWN = 40
"""Flagged regions that the trust map numbers; more would hide the tissue."""

PAINTERS = 2
"""Views that are worked out at once: each takes some hundred megabytes for a moment."""

UNFRAMED = ("before", "after", "before_he", "after_he")
"""Pictures that are written as they are, without a key."""

PNG_LEVEL = 1
"""Of compression: higher ones take twice as long for a twentieth less."""

SHEET_EDGE = 700
"""Longer edge in pixels of a picture on the summary sheet."""


@dataclass(frozen=True, eq=False)
class SquareMap:
    """Values ``(N, ...)`` of squares of ``edge`` slide pixels whose top left corners are ``positions``, int ``(N, 2)``."""

    positions: NDArray[np.int64]
    edge: int
    values: NDArray[Any]

    def painted(self, shape: tuple[int, int], factor: int) -> NDArray[np.float32]:
        """The values on a picture ``shape`` whose pixels are ``factor`` slide pixels; NaN where no square lies.

        Where squares overlap, their values are averaged.
        """
        cells = self.cells(shape, factor)
        return cells.spread(cells.values)

    def cells(self, shape: tuple[int, int], factor: int) -> Cells:
        """The same in as few pixels as there are between the squares' edges: colours are worked out on these."""
        edge = max(self.edge // factor, 1)
        corners = np.minimum(self.positions // factor, shape)
        rows, columns = (
            np.unique(np.concatenate([[0, size], corners[:, axis], np.minimum(corners[:, axis] + edge, size)]))
            for axis, size in enumerate(shape)
        )
        total = np.zeros((len(rows) - 1, len(columns) - 1, *self.values.shape[1:]), dtype=np.float32)
        count = np.zeros(total.shape[:2], dtype=np.float32)
        places = (np.searchsorted(edges, corners[:, axis]) for axis, edges in enumerate((rows, columns)))
        ends = (np.searchsorted(edges, corners[:, axis] + edge) for axis, edges in enumerate((rows, columns)))
        for top, left, bottom, right, value in zip(*places, *ends, self.values, strict=True):
            total[top:bottom, left:right] += value
            count[top:bottom, left:right] += 1
        with np.errstate(invalid="ignore"):
            values = np.asarray(total / count.reshape(count.shape + (1,) * (total.ndim - 2)), dtype=np.float32)
        return Cells(values, np.diff(rows), np.diff(columns))


@dataclass(frozen=True, eq=False)
class Cells:
    """Values ``(R, C, ...)`` of a grid with rows of ``heights`` and columns of ``widths`` pixels; NaN where no square lies."""

    values: NDArray[np.float32]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values ``(R, C, ...)`` of each cell on its pixels, ``(H, W, ...)``."""
        return np.repeat(np.repeat(values, self.heights, axis=0), self.widths, axis=1)


NO_SQUARES = SquareMap(np.empty((0, 2), dtype=np.int64), 1, np.empty(0))


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """What the pictures of a case are drawn from.

    Attributes
    ----------
    before, after
        Thumbnails, uint16 counts ``(2, h, w)``; a pixel of theirs is ``factor`` slide pixels.
    factor
        Slide pixels per thumbnail pixel.
    um_per_px
        Edge of a slide pixel.
    steps
        Reverse steps that the calibrator predicted for each tile that it saw.
    trust
        How strongly the guards speak against each tile that they examined, in thresholds: 1 is just flagged.
    deviation
        Standard deviation over restorations under several seeds, unit intensity; None when there was one alone.
    classes_before, classes_after
        Class probabilities ``(N, 3)`` of each patch with tissue.
    """

    before: Counts
    after: Counts
    factor: int
    um_per_px: float
    steps: SquareMap
    trust: SquareMap
    classes_before: SquareMap
    classes_after: SquareMap
    deviation: SquareMap | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the thumbnails."""
        return int(self.before.shape[1]), int(self.before.shape[2])


@dataclass(frozen=True)
class Box:
    """A region to point at, in slide pixels of the maps, with its number."""

    number: int
    y: int
    x: int
    height: int
    width: int


def draw_case(
    maps: CaseMaps, rescan: Sequence[Box], flagged: Sequence[Box], headline: Sequence[str], folder: Path
) -> tuple[str, ...]:
    """Write all pictures of a case into ``folder`` and return their file names.

    ``before.png``, ``after.png`` in the SRH colours and ``before_he.png``, ``after_he.png`` as virtual H&E share one window;
    ``step_map.png``, ``trust_map.png`` and ``class_map.png`` lie over the tissue; ``summary.png`` has them all, and the
    classes as scanned, under the lines of ``headline``. Boxes of ``rescan`` are drawn on the step map, the first
    :data:`BOXES_SHOWN` of ``flagged`` on the trust map.
    """
    window = colour_window(maps.before, maps.after)
    painters: dict[str, Callable[[], RGB]] = {
        "before": lambda: srh_colours(maps.before, window),
        "after": lambda: srh_colours(maps.after, window),
        "before_he": lambda: virtual_he(maps.before, window),
        "after_he": lambda: virtual_he(maps.after, window),
        "step_map": lambda: step_overlay(maps, window),
        "trust_map": lambda: trust_overlay(maps, window),
        "class_map": lambda: class_overlay(maps, window),
        "class_before": lambda: class_overlay(maps, window, before=True),
    }
    painted = begin(lambda paint: paint(), painters.values(), threads=PAINTERS)()
    views = dict(zip(painters, painted, strict=True))
    # The one packs while the other draws.
    with ThreadPoolExecutor(1) as packing:
        packed = [packing.submit(_pack, views[name], folder / f"{name}.png") for name in UNFRAMED]
        boxes = {"step_map": rescan, "trust_map": flagged[:BOXES_SHOWN]}
        for name in ("step_map", "trust_map", "class_map"):
            sheet = _drawn(_map_sheet(name, views[name], maps, boxes.get(name, ())))
            packed.append(packing.submit(_pack, sheet, folder / f"{name}.png"))
        packed.append(packing.submit(_pack, _drawn(_summary_sheet(views, maps, boxes, headline)), folder / "summary.png"))
        for one in packed:
            one.result()
    return tuple(f"{name}.png" for name in (*views, "summary") if name != "class_before")


def _pack(picture: RGB, file: Path) -> None:
    # In tissue little repeats but runs of one colour: to look for nothing else takes two thirds of the time, and no more room.
    runs: dict[str, Any] = {"compress_type": zlib.Z_RLE} if file.stem in UNFRAMED else {}
    Image.fromarray(picture).save(file, compress_level=PNG_LEVEL, **runs)


def _drawn(figure: Figure) -> RGB:
    """A figure as pixels, drawn once; its own way to a file draws it twice."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def step_overlay(maps: CaseMaps, window: ColourWindow) -> RGB:
    """The predicted steps over the tissue in grey, dark blue (clean) to yellow (:data:`STEPS_SHOWN` steps)."""
    from matplotlib import colormaps

    steps = maps.steps.cells(maps.shape, maps.factor)
    colours = (colormaps["plasma"](np.nan_to_num(steps.values) / STEPS_SHOWN)[..., :3] * 255).astype(np.uint8)
    return _laid_over(maps.before, window, steps, colours)


def trust_overlay(maps: CaseMaps, window: ColourWindow) -> RGB:
    """How strongly the guards speak over the restored tissue in grey: violet (they are silent) to orange (flagged)."""
    from matplotlib import colormaps

    strength = maps.trust.cells(maps.shape, maps.factor)
    colours = (colormaps["PuOr_r"](np.nan_to_num(strength.values) / STRENGTH_SHOWN)[..., :3] * 255).astype(np.uint8)
    return _laid_over(maps.after, window, strength, colours)


def class_overlay(maps: CaseMaps, window: ColourWindow, *, before: bool = False) -> RGB:
    """Class probabilities after restoration, or ``before`` it, over the tissue in grey."""
    classes, ground = (maps.classes_before, maps.before) if before else (maps.classes_after, maps.after)
    probabilities = classes.cells(maps.shape, maps.factor)
    return _laid_over(ground, window, probabilities, class_colours(np.nan_to_num(probabilities.values)))


def _laid_over(ground: Counts, window: ColourWindow, cells: Cells, colours: RGB) -> RGB:
    """Colours of cells over the tissue in grey, which alone is seen where there are none."""
    empty = np.isnan(cells.values).reshape(*cells.values.shape[:2], -1).any(axis=-1)
    opacity = cells.spread(np.where(empty, np.float32(0.0), np.float32(0.5)))
    return overlay(greyscale(ground, window), cells.spread(colours), opacity)


def _map_sheet(name: str, view: RGB, maps: CaseMaps, boxes: Sequence[Box]) -> Figure:
    """One map with its key, at about a screen's size."""
    height, width = maps.shape
    scale = 8.5 / max(height, width)
    figure = _figure(max(width * scale, 3.0) + 1.8, max(height * scale, 2.0) + 0.9)
    axes = figure.add_subplot()
    _show(axes, _smaller(view, 1400), maps, name, boxes)
    return figure


def _summary_sheet(
    views: dict[str, RGB], maps: CaseMaps, boxes: Mapping[str, Sequence[Box]], headline: Sequence[str]
) -> Figure:
    """All views on one sheet."""
    height, width = maps.shape
    aspect = min(max(height / width, 0.4), 2.0)
    figure = _figure(20.0, 2 * 4.6 * aspect + 2.0)
    figure.suptitle("\n".join(headline), fontsize=13, x=0.01, ha="left")
    axes = figure.subplots(2, 4)
    order = ("before", "after", "step_map", "class_before", "before_he", "after_he", "trust_map", "class_map")
    for place, name in zip(axes.flat, order, strict=True):
        _show(place, _smaller(views[name], SHEET_EDGE), maps, name, boxes.get(name, ()))
    return figure


TITLES = {
    "before": "As scanned, SRH colours",
    "after": "Restored, SRH colours",
    "before_he": "As scanned, virtual H&E",
    "after_he": "Restored, virtual H&E",
    "step_map": "Image quality: steps of restoration",
    "trust_map": "Trust: where the input does not support it",
    "class_before": "Classes as scanned",
    "class_map": "Classes after restoration",
}


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) of 100 dots an inch that never touches a screen or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _show(axes: Axes, view: RGB, maps: CaseMaps, name: str, boxes: Sequence[Box]) -> None:
    """A view in micrometre coordinates, with scale bar, key and numbered boxes."""
    from matplotlib.patches import Patch, Rectangle

    height, width = (edge * maps.factor * maps.um_per_px for edge in maps.shape)
    axes.imshow(view, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_title(TITLES[name], fontsize=11)
    axes.set_axis_off()
    bar = _round_length(width / 4)
    top, left = height * 0.955, width * 0.03
    axes.add_patch(Rectangle((left, top), bar, height * 0.012, facecolor="white", edgecolor="black", linewidth=0.6))
    axes.text(left, top - height * 0.01, f"{bar:g} µm", color="white", fontsize=9, va="bottom", path_effects=_outline())
    for box in boxes:
        y, x, h, w = (value * maps.um_per_px for value in (box.y, box.x, box.height, box.width))
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="white", linewidth=1.6, clip_on=False))
        axes.text(x + w * 0.03, y + h * 0.03, str(box.number), color="white", fontsize=12, va="top", path_effects=_outline())
    if name == "step_map":
        _key(axes, STEPS_SHOWN, "plasma", "steps (0 clean; boxes: worth rescanning)" if boxes else "steps (0 clean)")
    if name == "trust_map":
        said = "what the guards say (flagged from 1)" if len(maps.trust.values) else "nothing was examined"
        _key(axes, STRENGTH_SHOWN, "PuOr_r", said)
    if name in ("class_map", "class_before"):
        handles = [
            Patch(color=colour / 255, label=text) for colour, text in zip(CLASS_COLOURS, CLASS_WORDS.values(), strict=True)
        ]
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=9, frameon=False)


def _key(axes: Axes, highest: float, colours: str, label: str) -> None:
    """The colours from 0 to ``highest`` beside a map."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes.figure.colorbar(ScalarMappable(Normalize(0, highest), colours), ax=axes, shrink=0.8, pad=0.02).set_label(label)


def _outline() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.0, foreground="black")]


def _smaller(view: RGB, longest: int) -> RGB:
    """The view with its longer edge at most ``longest`` pixels."""
    picture = Image.fromarray(view)
    # Twice as many pixels as are wanted, averaged, are what the filter sees: it looks the same and takes a third of the time.
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(picture)


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above ``length``."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length))
