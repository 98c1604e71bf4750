"""The paper's Figure 6: what raters prefer, and what they call hallucinated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from srh_clinic.estimates import Interval
from srh_clinic.validation.reporting.figures import DOTS_PER_INCH, png_of
from srh_clinic.validation.reporting.report import Figure
from srh_clinic.validation.study.analysis.views import Row

PREFERENCE_COLOURS = {"test": "#0072b2", "tie": "#b8bec9", "against": "#e69f00"}
"""Blue, grey, orange: told apart by every kind of colour vision (Okabe and Ito 2008)."""

CALL_COLOURS = {"definite": "#d55e00", "definite or possible": "#56b4e9"}


def figure_6(
    test: str, preference: Mapping[str, Sequence[Row]], hallucination: Sequence[Row], *, interim: bool = False
) -> Figure:
    """Both panels of Figure 6.

    Parameters
    ----------
    preference
        For each aspect the rows of :func:`.preference.preference_rows`.
    hallucination
        The rows of :func:`.hallucinations.hallucination_rows`.
    """
    from matplotlib.figure import Figure as Drawing

    bars = [(f"{row['baseline']}, {aspect}", row) for aspect, rows in preference.items() for row in rows if row["ratings"]]
    bars.sort(key=lambda bar: [row["baseline"] for row in next(iter(preference.values()))].index(bar[1]["baseline"]))
    panels = (1 if bars else 0) + 1
    height = max(0.34 * max(len(bars), 1.3 * len(hallucination)) + 1.3, 2.6)
    drawing = Drawing(figsize=(6.2 * panels, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = list(drawing.subplots(1, panels, squeeze=False)[0])
    if bars:
        _preferences(axes[0], test, bars)
    _calls(axes[-1], hallucination)
    if interim:
        drawing.suptitle("INTERIM", color="#d55e00", fontweight="bold")
    caption = "Share of ratings that an image of each method was called hallucinated, with two-way 95 % intervals."
    if bars:
        caption = (
            f"Left: share of ratings that preferred {test}, were ties, or preferred the baseline; the mark is the preference "
            f"rate (a tie counts half) with its two-way 95 % interval. Right: {caption[0].lower()}{caption[1:]} As Figure 6 "
            "of the paper."
        )
    title = "Preference and hallucinations" if bars else "Hallucinations"
    return Figure("study_figure_6", f"INTERIM: {title}" if interim else title, caption, png_of(drawing))


def _preferences(axes: Any, test: str, bars: Sequence[tuple[str, Row]]) -> None:
    places = range(len(bars))
    left = [0.0] * len(bars)
    labels = {"test": f"{test} preferred", "tie": "tie", "against": "baseline preferred"}
    for name, colour in PREFERENCE_COLOURS.items():
        widths = [row[name] / row["ratings"] for _, row in bars]
        axes.barh(places, widths, left=left, color=colour, label=labels[name], height=0.75)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (_, row) in enumerate(bars):
        _whisker(axes, row["rate"], place, "black")
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    _ticks(axes, [name for name, _ in bars])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of ratings")
    _legend(axes, 3)


def _calls(axes: Any, rows: Sequence[Row]) -> None:
    highest = 0.02
    for shift, (name, colour) in zip((-0.2, 0.2), CALL_COLOURS.items(), strict=True):
        found = [row[name] for row in rows]
        widths = [one.value if isinstance(one, Interval) else 0.0 for one in found]
        axes.barh([place + shift for place in range(len(rows))], widths, height=0.36, color=colour, label=name)
        for place, one in enumerate(found):
            _whisker(axes, one, place + shift, "black")
            highest = max(highest, one.high if isinstance(one, Interval) else 0.0)
    _ticks(axes, [row["method"] for row in rows])
    axes.set_xlim(0, min(1.02, highest * 1.08))
    axes.set_xlabel("images called hallucinated, as the average rater calls them")
    _legend(axes, 2)


def _whisker(axes: Any, found: Any, place: float, colour: str) -> None:
    if isinstance(found, Interval):
        error = [[found.value - found.low], [found.high - found.value]]
        axes.errorbar([found.value], [place], xerr=error, fmt="o", color=colour, markersize=3.5, capsize=2.5, linewidth=1.2)


def _ticks(axes: Any, names: Sequence[str]) -> None:
    # A dollar sign in a name is no mathematics.
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:.0%}")


def _legend(axes: Any, columns: int) -> None:
    legend = axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
