"""The paper's figures, drawn from what the tables' run restored."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.display import ColourWindow, colour_window, srh_colours
from srh_clinic.intensity import Counts
from srh_clinic.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

DOTS_PER_INCH = 110

OUTCOME_COLOURS = {"correct": "#009e73", "missed": "#b8bec9", "wrong": "#d55e00"}
"""Green, grey, vermilion: told apart by every kind of colour vision (Okabe and Ito 2008)."""


SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its file's stem, what it shows, and the PNG."""

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True, eq=False)
class Panel:
    """An image in a figure: uint16 counts ``(2, H, W)`` and what stands above it."""

    counts: Counts
    title: str


def image_grid(rows: Sequence[Sequence[Panel]], *, edge: float = 2.0) -> bytes:
    """Images in the usual SRH colours as PNG; each row has one colour window, that of its last image."""
    return _image_grid(rows, [colour_window(row[-1].counts) for row in rows], edge)


def wrapped_grid(panels: Sequence[Panel], columns: int, window: ColourWindow, *, edge: float = 2.0) -> bytes:
    """Images in rows of ``columns`` under one colour window, as PNG."""
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return _image_grid(rows, [window] * len(rows), edge)


def outcome_bars(shares: Sequence[Mapping[str, Any]]) -> bytes:
    """Correct, missed and wrong shares of each method as stacked bars, PNG; rows hold ``method`` and the shares' intervals."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(8.5, 0.28 * len(shares) + 1.2), dpi=DOTS_PER_INCH, layout="constrained")
    axes = drawing.subplots()
    names = [row["method"] for row in shares]
    left = np.zeros(len(shares))
    for outcome, colour in OUTCOME_COLOURS.items():
        width = np.array([row[outcome].value for row in shares])
        axes.barh(names, width, left=left, color=colour, label=outcome)
        for place, (start, share) in enumerate(zip(left, width, strict=True)):
            if share > 0.04:
                axes.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=7)
        left += width
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return _png(drawing)


def curves(
    x: Sequence[float], lines: Mapping[str, Mapping[str, Sequence[Interval]]], x_label: str, *, log_x: bool = False
) -> bytes:
    """One panel for each quantity with a line for each series and its intervals as a band, PNG.

    Parameters
    ----------
    lines
        Quantity, then series, to an interval for each ``x``.
    """
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(3.4 * len(lines), 3.0), dpi=DOTS_PER_INCH, layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, len(lines)))
    colours = ["#7f8794", "#0072b2", "#d55e00", "#009e73"]
    for axes, (quantity, series) in zip(panels, lines.items(), strict=True):
        for colour, (name, values) in zip(colours, series.items(), strict=False):
            axes.plot(x, [one.value for one in values], "o-", color=colour, markersize=3, label=name)
            axes.fill_between(
                x, [one.low for one in values], [one.high for one in values], color=colour, alpha=0.2, linewidth=0
            )
        axes.set(xlabel=x_label, ylabel=quantity, xscale="symlog" if log_x else "linear")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return _png(drawing)


def histogram(values: Mapping[str, Sequence[float]], limit: float, x_label: str, limit_label: str) -> bytes:
    """Stacked histogram of each series and a line at ``limit``, PNG."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.5, 3.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = drawing.subplots()
    highest = max((max(one) for one in values.values() if len(one)), default=limit)
    bins = np.linspace(0, max(limit * 1.1, highest), 45).tolist()
    axes.hist(
        list(values.values()),
        bins=bins,
        stacked=True,
        label=list(values),
        color=["#56b4e9", "#0072b2", "#12355b"][: len(values)],
    )
    axes.axvline(limit, color="#d55e00", linestyle="--", label=limit_label)
    axes.set(xlabel=x_label, ylabel="images")
    axes.legend(fontsize=8)
    return _png(drawing)


def roc_curves(panels: Mapping[str, Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]) -> bytes:
    """One panel for each kind of case with a ROC curve for each series, PNG.

    Parameters
    ----------
    panels
        Kind, then series, to the scores of negative and of positive cases.
    """
    from matplotlib.figure import Figure as Drawing
    from sklearn.metrics import roc_curve

    drawing = Drawing(figsize=(3.3 * len(panels) + 1.2, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    places = np.atleast_1d(drawing.subplots(1, len(panels), sharey=True))
    for axes, (kind, series) in zip(places, panels.items(), strict=True):
        for number, (name, (negative, positive)) in enumerate(series.items()):
            truth = np.repeat([0, 1], [len(negative), len(positive)])
            false_positive, true_positive, _ = roc_curve(truth, np.concatenate([negative, positive]), drop_intermediate=False)
            style = {"color": "black", "linewidth": 2.2} if number == 0 else {"color": SERIES_COLOURS[number - 1]}
            axes.plot(false_positive, true_positive, label=name, **style)
        axes.plot([0, 1], [0, 1], color="#b8bec9", linewidth=0.8, linestyle=":")
        axes.set(title=kind, xlabel="faithful tiles flagged", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    places[0].set_ylabel("wrong tiles flagged")
    drawing.legend(*places[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return _png(drawing)


def _image_grid(rows: Sequence[Sequence[Panel]], windows: Sequence[ColourWindow], edge: float) -> bytes:
    from matplotlib.figure import Figure as Drawing

    columns = max(len(row) for row in rows)
    drawing = Drawing(figsize=(edge * columns, (edge + 0.22) * len(rows)), dpi=DOTS_PER_INCH, layout="constrained")
    grid = drawing.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (row, window) in enumerate(zip(rows, windows, strict=True)):
        for axes, panel in zip(grid[place], row, strict=False):
            axes.imshow(srh_colours(panel.counts, window), interpolation="nearest")
            axes.set_title(textwrap.fill(panel.title, 24), fontsize=7, pad=2)
    return _png(drawing)


def _png(drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
