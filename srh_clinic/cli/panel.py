"""A case's result in the terminal, as a neuropathologist reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from srh_clinic.cli.output import FRAMED, listed, words
from srh_clinic.diagnosis import CLASS_WORDS

if TYPE_CHECKING:
    from srh_clinic.case.record import CaseRecord

REGIONS_SHOWN = 5
"""Flagged regions that the panel lists; all are in ``result.json``."""

SIDE_BY_SIDE = 72
"""Characters of a terminal in which the classes stand side by side with every number whole."""

CLASS_STYLES = {"tumor": "dark_orange3", "normal": "green", "nondiagnostic": "grey62"}

Row = tuple[str, str]
"""What a line is about, in the first line about it, and what it says, in rich's markup."""


def result_panel(
    name: str, result: CaseRecord, out: Path | None, width: int = 100, dicom_out: Path | None = None
) -> RenderableType:
    """The diagnosis before and after, where not to trust it, and where the pictures are.

    Parameters
    ----------
    name
        Of the case.
    result
        What came of it.
    out
        Folder that the result was saved to, if it was.
    width
        Characters of the terminal. Where there is no room for a frame, everything stands below each other.
    dicom_out
        The file or folder of the DICOM objects, if they were written.
    """
    rows = [
        *_doubts(result),
        *_decision(result),
        *_quality(result),
        *_trust(result, out),
        *_flags(result),
        *_making(result, out, dicom_out),
    ]
    warning = f"[bold yellow]{words(result.provenance.notice)}[/]"
    if width < FRAMED:
        return Group(f"[bold]{words(name)}[/]", warning, "", *_classes_below_each_other(result), "", listed(rows))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    for row in rows:
        facts.add_row(*row)
    classes = _classes(result) if width >= SIDE_BY_SIDE else _narrow_classes(result)
    side = 2 if width >= SIDE_BY_SIDE else 1
    return Panel(Group(warning, "", classes, "", facts), title=words(name), title_align="left", padding=(1, side))


def _word(diagnosis: str) -> str:
    return f"[bold {CLASS_STYLES[diagnosis]}]{CLASS_WORDS[diagnosis]}[/]"


def _last_word(result: CaseRecord) -> str:
    """The diagnosis after restoration, called doubtful where something speaks against it."""
    return _word(result.diagnosis) + (" [yellow](doubtful)[/]" if result.doubts else "")


def _classes_below_each_other(result: CaseRecord) -> Iterator[str]:
    """The same as :func:`_narrow_classes`, a line or two a class."""
    yield f"as scanned: {_word(result.before.diagnosis)}"
    yield f"after restoration: {_last_word(result)}"
    for one, style in CLASS_STYLES.items():
        before, after = (f"{getattr(said.probabilities, one):.1%}" for said in (result.before, result))
        yield f"[{style}]{CLASS_WORDS[one]}: {before}, then {after}[/]"


def _narrow_classes(result: CaseRecord) -> Group:
    """The same as :func:`_classes` but for the policy, which has a line of its own, a class a row."""
    classes = Table(box=None, pad_edge=False, show_edge=False)
    classes.add_column("", no_wrap=True)
    classes.add_column("Scanned", justify="right", no_wrap=True)
    classes.add_column("Restored", justify="right", no_wrap=True)
    for one, style in CLASS_STYLES.items():
        shares = (f"{getattr(said.probabilities, one):.1%}" for said in (result.before, result))
        classes.add_row(CLASS_WORDS[one], *shares, style=style)
    return Group(f"as scanned: {_word(result.before.diagnosis)}", f"after restoration: {_last_word(result)}", "", classes)


def _classes(result: CaseRecord) -> Table:
    """Diagnosis and probabilities before and after, and what a policy makes of them."""
    classes = Table(box=None, pad_edge=False, show_edge=False)
    classes.add_column("")
    classes.add_column("Diagnosis", min_width=14)
    for diagnosis, style in CLASS_STYLES.items():
        classes.add_column(CLASS_WORDS[diagnosis], justify="right", style=style)
    for when, word, probabilities in (
        ("as scanned", _word(result.before.diagnosis), result.before.probabilities),
        ("after restoration", _last_word(result), result.probabilities),
    ):
        classes.add_row(when, word, *(f"{getattr(probabilities, one):.1%}" for one in CLASS_STYLES))
    if result.decision is not None:
        classes.add_row("by the policy", _word(result.decision.diagnosis), *("" for _ in CLASS_STYLES))
    return classes


def _decision(result: CaseRecord) -> Iterator[Row]:
    if (decided := result.decision) is not None:
        stands = {
            "restored": "the diagnosis of the restored image stands",
            "original": "the diagnosis of the original stands",
            "nondiagnostic": "the diagnosis of neither image stands",
        }[decided.use]
        yield "Policy", words(f"{stands}: {decided.why}")
        yield "", words(f"by {decided.policy}")


def _quality(result: CaseRecord) -> Iterator[Row]:
    tiles, steps = result.tiles, result.steps
    if _unrestored(result):
        yield "Tiles", f"{tiles.total}, shown and classified as scanned: the restorer none changes nothing"
    else:
        yield "Tiles", f"{tiles.restored} of {tiles.total} restored, {tiles.skipped} left alone, {tiles.capped} capped"
    if set(steps.stop_reasons) - {"filtered"}:
        yield "Image quality", f"median {steps.median} steps of restoration, worst tenth {steps.p90} or more (0 is clean)"
    for number, region in enumerate(result.rescan, start=1):
        size = f"{region.height_um:.0f} x {region.width_um:.0f} um"
        place = _place(region.y_um, region.x_um)
        yield "Rescan" if number == 1 else "", f"{number}. {region.where}: {size} at {place}, {region.steps} steps"


def _trust(result: CaseRecord, out: Path | None) -> Iterator[Row]:
    """Where the restored image differs from what was measured, and what further seeds show otherwise."""
    from srh_clinic.case.scrutiny import WORDS

    trust = result.trust
    if _unrestored(result):
        yield "Trust", "nothing was restored, so nothing can have been invented"
    elif not trust.calibrated:
        yield "Trust", "[yellow]not examined: nobody looked for what restoration may have invented[/]"
    else:
        places = len(trust.regions)
        says = f"restored image differs from its input at {places} {'place' if places == 1 else 'places'}"
        see = f", see {words(str(out / 'trust_map.png'))}" if places and out is not None else ""
        yield "Trust", f"[yellow]{says}{see}[/]" if places else says
        for number, flagged in enumerate(trust.regions[:REGIONS_SHOWN], start=1):
            place = _place(flagged.y_um, flagged.x_um)
            says = f"{WORDS[flagged.kind]} at {place}, {flagged.strength:.1f} times the threshold"
            yield "", f"{number}. {flagged.where}: {says}"
        if places > REGIONS_SHOWN:
            yield "", f"and {places - REGIONS_SHOWN} more"
    if (sure := result.certainty) is not None:
        uncertain = f"{len(sure.nuclei)} {'nucleus' if len(sure.nuclei) == 1 else 'nuclei'}"
        yield "Certainty", f"{uncertain} shown by at most half of {sure.seeds + 1} restorations"


def _doubts(result: CaseRecord) -> Iterator[Row]:
    """What speaks against the diagnosis, first of all."""
    for number, doubt in enumerate(result.doubts):
        yield "[yellow]Doubtful[/]" if number == 0 else "", f"[yellow]{words(doubt)}[/]"


def _flags(result: CaseRecord) -> Iterator[Row]:
    for number, flag in enumerate(result.warnings):
        yield "Warnings" if number == 0 else "", f"[yellow]{words(flag)}[/]"
    for number, flag in enumerate(result.notes):
        yield "Notes" if number == 0 else "", words(flag)


def _unrestored(result: CaseRecord) -> bool:
    return bool(result.provenance.settings["restorer"] == "none")


def _making(result: CaseRecord, out: Path | None, dicom_out: Path | None) -> Iterator[Row]:
    """How long it took, what made it, and where it is."""
    timing, made_by = result.timing, result.provenance
    spent = f"{timing.total_s:.0f} s, {timing.tiles_per_s:.2f} tiles per second"
    if result.trust.calibrated and timing.total_s:
        spent += f"; {timing.examining_s:.1f} s ({timing.examining_s / timing.total_s:.0%}) in the guards"
    yield "Time", spent
    weights = f"{words(made_by.bundle)} {made_by.weights_sha256[:12]}"
    yield "Made by", f"srh-clinic {made_by.version}, {weights}, seed {made_by.seed}"
    if order := result.slide.channel_order:
        yield "Channels", words(order)
    if out is not None:
        yield "Pictures", words(str(out / "summary.png"))
        yield "", words(str(out))
    if dicom_out is not None:
        yield "DICOM", words(str(dicom_out))


def _place(y_um: float, x_um: float) -> str:
    return f"y {y_um:.0f}, x {x_um:.0f} um"
