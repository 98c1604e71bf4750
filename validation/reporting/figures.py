"""Figures of reports: PNG for files of their own, SVG that stands inside its page; same numbers, same bytes."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srh_clinic.diagnosis import OUTCOMES
from srh_clinic.display import ColourWindow, colour_window, srh_colours
from srh_clinic.estimates import Finding, Interval
from srh_clinic.intensity import Counts
from srh_clinic.validation.reporting.report import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

DOTS_PER_INCH = 110

GREEN, GREY, VERMILION = "#009e73", "#b8bec9", "#d55e00"
"""Told apart by every kind of colour vision (Okabe and Ito 2008)."""

OUTCOME_COLOURS = {"correct": GREEN, "missed": GREY, "nondiagnostic": GREY, "wrong": VERMILION}

SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

SVG_STYLE = {
    "svg.fonttype": "none",  # letters as text: small, and a reader can search them
    "text.parse_math": False,  # a site's name may hold a dollar
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, eq=False)
class Panel:
    """An image in a figure: uint16 counts ``(2, H, W)`` and what stands above it."""

    counts: Counts
    title: str


def png_of(drawing: Drawing) -> bytes:
    """A drawing as PNG without the name of the software, so that the same drawing is the same bytes."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg_figure(name: str, title: str, caption: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> Figure:
    """A figure of one plot, ``size`` in inches, whose SVG depends on nothing but its name and what ``draw`` draws."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing

    # The salt makes the ids of clip paths a function of the plot, and unlike those of another plot on the page.
    with mpl.rc_context({**SVG_STYLE, "svg.hashsalt": name}):
        drawing = Drawing(figsize=size, layout="constrained")
        draw(drawing.subplots())
        buffer = io.StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids that are the same in every plot would clash on one page.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", svg)
    return Figure(name, title, caption, svg=_without_styles(svg))


STYLE_ELEMENT = re.compile(r"<style\b[^>]*>(.*?)</style>\s*", re.DOTALL)
FONT = re.compile(r"(?:(?P<style>italic|oblique) )?(?:(?P<weight>bold|\d+) )?(?P<size>[\d.]+px) (?P<family>.+)")
"""The shorthand of a font, which is no attribute of SVG."""


def _without_styles(svg: str) -> str:
    """The same drawing with attributes in place of CSS, which a page that lets only its own styles work would not show."""

    def attributes(found: re.Match[str]) -> str:
        stated = dict(one.split(":", 1) for one in found[1].split(";") if one.strip())
        named = {name.strip(): value.strip() for name, value in stated.items()}
        if (font := FONT.fullmatch(named.pop("font", ""))) is not None:
            named |= {f"font-{name}": value for name, value in font.groupdict().items() if value}
        return " ".join(f'{name}="{value}"' for name, value in named.items())

    # Matplotlib's one rule is of all elements; lines inherit the same from the drawing.
    svg = STYLE_ELEMENT.sub("", svg).replace("<defs>\n </defs>\n", "", 1)
    svg = svg.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return re.sub(r'style="([^"]*)"', attributes, svg)


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
    for outcome in ("correct", "missed", "wrong"):
        width = np.array([row[outcome].value for row in shares])
        axes.barh(names, width, left=left, color=OUTCOME_COLOURS[outcome], label=outcome)
        for place, (start, share) in enumerate(zip(left, width, strict=True)):
            if share > 0.04:
                axes.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=7)
        left += width
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return png_of(drawing)


def curves(
    x: Sequence[float], lines: Mapping[str, Mapping[str, Sequence[Finding]]], x_label: str, *, log_x: bool = False
) -> bytes:
    """One panel for each quantity with a line for each series and its intervals as a band, PNG.

    Parameters
    ----------
    lines
        Quantity, then series, to an interval for each ``x``; where it is not determined the band has a gap.
    """
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(3.4 * len(lines), 3.0), dpi=DOTS_PER_INCH, layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, len(lines)))
    colours = ["#7f8794", "#0072b2", "#d55e00", "#009e73"]
    for axes, (quantity, series) in zip(panels, lines.items(), strict=True):
        for colour, (name, values) in zip(colours, series.items(), strict=False):
            known = [np.nan if one.value is None else one.value for one in values]
            axes.plot(x, known, "o-", color=colour, markersize=3, label=name)
            low, high = (
                [getattr(one, end) if isinstance(one, Interval) else np.nan for one in values] for end in ("low", "high")
            )
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel=x_label, ylabel=quantity, xscale="symlog" if log_x else "linear")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return png_of(drawing)


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
    return png_of(drawing)


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
    return png_of(drawing)


def before_and_after(name: str, rows: Sequence[Mapping[str, Any]], caption: str) -> Figure:
    """Shares of outcomes as stacked bars; rows hold ``label`` and the share of each of ``OUTCOMES`` (None where unknown)."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            left = 0.0
            for outcome in ("correct", "nondiagnostic", "wrong"):
                share = row[outcome]
                axes.barh(place, share, left=left, color=OUTCOME_COLOURS[outcome], label=outcome if place == 0 else None)
                if share > 0.045:
                    axes.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8)
                left += share
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.legend(ncols=len(OUTCOMES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)

    return svg_figure(name, "Outcomes before and after", caption, (7.5, 0.42 * len(rows) + 0.9), draw)


def flow_diagram(rows: str, left_out: Sequence[str], kept: str, truths: Sequence[str]) -> Figure:
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

    return svg_figure("flow", "Flow of cases", "Every exclusion is listed above with its reason.", (7.5, 2.6), draw)


def transition_map(name: str, title: str, counts: ArrayLike, labels: Sequence[str], caption: str) -> Figure:
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

    return svg_figure(name, title, caption, (4.4, 3.2), draw)


def forest(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Interval]],
    caption: str,
    *,
    pooled: str | None = None,
    x_label: str = "change in accuracy",
    marked: frozenset[str] = frozenset(),
) -> Figure:
    """Estimates with their intervals, one a row; the row named ``pooled`` is a diamond, those ``marked`` stand out."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color="#888", linewidth=0.8)
        for place, (label, found) in enumerate(rows):
            colour = VERMILION if label in marked else SERIES_COLOURS[0]
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.4)
            axes.plot(
                found.value, place, "D" if label == pooled else "o", color=colour, markersize=6 if label == pooled else 5
            )
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_formatter("{x:+.0%}")

    return svg_figure(name, title, caption, (7.5, 0.27 * len(rows) + 0.9), draw)


def line_plot(
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
) -> Figure:
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

    return svg_figure(name, title, caption, (4.6, 3.6), draw)


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
    return png_of(drawing)
