"""The plots of an accuracy-shift report as SVG that stands inside its page; same numbers, same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.metrics import Interval
from srh_clinic.validation.reporting.figures import SERIES_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"correct": "#009e73", "nondiagnostic": "#b8bec9", "wrong": "#d55e00"}
"""Green, grey, vermilion: told apart by every kind of colour vision (Okabe and Ito 2008)."""

BEFORE, AFTER = SERIES_COLOURS[0], SERIES_COLOURS[1]
STYLE = {
    "svg.fonttype": "none",  # letters as text: small, and a reader can search them
    "text.parse_math": False,  # a site's name may hold a dollar
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot: what it shows, and the ``<svg>`` element."""

    name: str
    title: str
    caption: str
    svg: str


def _drawn(name: str, title: str, caption: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> Plot:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The salt makes the ids of clip paths a function of the plot, and unlike those of another plot on the page.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids that are the same in every plot would clash on one page.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", svg)
    return Plot(name, title, caption, svg)


def outcome_bars(name: str, rows: Sequence[Mapping[str, Any]], caption: str) -> Plot:
    """Shares of outcomes as stacked bars; rows hold ``label`` and the share of each of ``OUTCOMES`` (None where unknown)."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            left = 0.0
            for outcome in ("correct", "nondiagnostic", "wrong"):
                share = row[outcome]
                axes.barh(place, share, left=left, color=COLOURS[outcome], label=outcome if place == 0 else None)
                if share > 0.045:
                    axes.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8)
                left += share
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.legend(ncols=len(OUTCOMES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

    return _drawn(name, "Outcomes before and after", caption, (7.5, 0.42 * len(rows) + 0.9), draw)


def flow_diagram(rows: str, left_out: Sequence[str], kept: str, truths: Sequence[str]) -> Plot:
    """From the rows of a manifest to the cases that are analysed, what is left out on the way, and their truths."""
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#eef2f7", "edgecolor": "#667"}

    def draw(axes: Axes) -> None:
        axes.axis("off")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        for height, words in ((0.88, rows), (0.46, kept)):
            axes.text(0.3, height, words, ha="center", va="center", bbox=box)
        axes.annotate("", (0.3, 0.55), (0.3, 0.79), arrowprops={"arrowstyle": "->", "color": "#667"})
        if left_out:
            shown = [*left_out[:4], *([f"and {len(left_out) - 4} reasons more"] if len(left_out) > 4 else [])]
            axes.text(0.62, 0.67, "\n".join(one[:60] for one in shown), va="center", fontsize=8, bbox=box)
            axes.annotate("", (0.6, 0.67), (0.3, 0.67), arrowprops={"arrowstyle": "->", "color": "#667"})
        for place, words in enumerate(truths):
            at = 0.08 + 0.22 * place
            axes.text(at, 0.08, words, ha="center", va="center", bbox=box)
            axes.annotate("", (at, 0.17), (0.3, 0.38), arrowprops={"arrowstyle": "->", "color": "#667"})

    return _drawn("flow", "Flow of cases", "Every exclusion is listed above with its reason.", (7.5, 2.6), draw)


def transition_map(name: str, title: str, counts: ArrayLike, labels: Sequence[str], caption: str) -> Plot:
    """A square table of counts, rows as scanned and columns restored, as a heat map."""
    table = np.asarray(counts)

    def draw(axes: Axes) -> None:
        axes.imshow(table, cmap="Blues", vmin=0, vmax=max(1.6 * table.max(), 1))
        for (row, column), count in np.ndenumerate(table):
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=10)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("restored")
        axes.set_ylabel("as scanned")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return _drawn(name, title, caption, (4.4, 3.2), draw)


def forest(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Interval]],
    caption: str,
    *,
    pooled: str | None = None,
    x_label: str = "change in accuracy",
    marked: frozenset[str] = frozenset(),
) -> Plot:
    """Estimates with their intervals, one a row; the row named ``pooled`` is a diamond, those ``marked`` stand out."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color="#888", linewidth=0.8)
        for place, (label, found) in enumerate(rows):
            colour = COLOURS["wrong"] if label in marked else BEFORE
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.4)
            axes.plot(
                found.value, place, "D" if label == pooled else "o", color=colour, markersize=6 if label == pooled else 5
            )
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_formatter("{x:+.0%}")

    return _drawn(name, title, caption, (7.5, 0.27 * len(rows) + 0.9), draw)


def lines(
    name: str,
    title: str,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    caption: str,
    *,
    labels: tuple[str, str],
    diagonal: bool = False,
    points: Mapping[str, tuple[float, float]] | None = None,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] | None = (0.0, 1.0),
    steps: bool = False,
) -> Plot:
    """Curves by name in one plot, and points to look at; ``labels`` are of x and y."""

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color="#999", linewidth=0.8, linestyle=":")
        for (label, (x, y)), colour in zip(curves.items(), SERIES_COLOURS, strict=False):
            marker = "o" if len(np.asarray(x)) <= 12 else ""
            axes.plot(x, y, label=label, color=colour, linewidth=1.5, marker=marker, drawstyle="steps-post" if steps else None)
        for label, (x, y) in (points or {}).items():
            axes.plot(x, y, "k*", markersize=9)
            axes.annotate(label, (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8)
        axes.set_xlim(*x_range)
        if y_range is not None:
            axes.set_ylim(*y_range)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False, fontsize=8)

    return _drawn(name, title, caption, (4.6, 3.6), draw)
