"""The paper's Table 1 and Table 2, from what :mod:`srh_clinic.validation.benchmarks.tables` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from srh_clinic.display import colour_window
from srh_clinic.estimates import FEWEST_UNITS
from srh_clinic.metrics import (
    Finding,
    Interval,
    bootstrap_interval,
    frechet_distance,
    kid,
    mean_with_interval,
    paired_bootstrap_interval,
    paired_difference,
    printed_name,
    rbf_mmd,
    spectrum_distance,
)
from srh_clinic.metrics.distribution import SMALLEST_SAMPLE
from srh_clinic.validation.bench.bench import TIMED
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.bench.images import spread
from srh_clinic.validation.bench.methods import ABLATIONS, LEARNED, METHODS, OURS, REDUCED, WHOLE, Method
from srh_clinic.validation.benchmarks.paper import PAPER
from srh_clinic.validation.benchmarks.steps import predicted_steps
from srh_clinic.validation.benchmarks.tables import NO_REFERENCE_NEEDED, Cells, Features, Tables, inner, truth_panels
from srh_clinic.validation.reporting.figures import Panel, image_grid, wrapped_grid
from srh_clinic.validation.reporting.report import CRITERIA, Column, Figure, Report, Table

NEAR_PSNR = 0.5
"""dB by which RSCD's PSNR may lie below the best method's."""

COMPARED = {"kid": ("KID", -1), "spectral": ("spectral distance", -1), "psnr": ("PSNR", 1), "changed": ("nuclei", -1)}
"""Measures that ablations are compared by: their names, and 1 where more of it is better, else -1."""


def unpaired(tables: Tables, cells: Cells) -> Report:
    """Table 1: how far the restored images as a set are from high-quality ones, and each from its truth where it is known."""
    return _section(
        tables,
        cells,
        name="unpaired",
        title="Table 1: unpaired images",
        near=False,
        figures=[_gallery(tables), _same_tile(tables, cells), predicted_steps(tables, cells)],
    )


def near_registered(tables: Tables, cells: Cells) -> Report:
    """Table 2: against a second, better acquisition of the same fields, registered as well as it goes."""
    return _section(
        tables,
        cells,
        name="near_registered",
        title="Table 2: near-registered images",
        near=True,
        figures=[_triptychs(tables)],
    )


def _section(tables: Tables, cells: Cells, *, name: str, title: str, near: bool, figures: list[Figure]) -> Report:
    comparison = MethodComparison(tables, cells, near)
    rows = [comparison.row(method, tables.indices(method)) for method in tables.methods]
    columns = _columns(tables, rows, near)
    drawn = [Table("All methods", columns, rows, f"{_note(tables, comparison.reference, near)} {_machines(tables, cells)}")]
    few = [method.name for method in tables.methods if method.name in tables.fewer.methods]
    if few:
        shared = tables.fewer.indices
        on_shared = [comparison.row(method, shared) for method in tables.methods]
        note = f"{', '.join(few)} restore these alone. " + " ".join(f"{one}: {REDUCED[one]}." for one in few if one in REDUCED)
        drawn.append(Table(f"The {len(shared)} images that every method restored", columns, on_shared, note))
    if asked := comparison.ranking():
        drawn.insert(0, Table("What was asked", CRITERIA, asked))
    if differences := comparison.differences:
        drawn.append(
            Table(
                f"{WHOLE} minus each method",
                (
                    Column("method", "Method"),
                    Column("n", "n", "d"),
                    Column("kid", "KID", "+.4f"),
                    Column("spectral", "Spectral distance (dB)", "+.2f"),
                    Column("psnr", "PSNR (dB)", "+.2f"),
                    Column("changed", "Nuclei added and removed per mm2", "+.1f"),
                ),
                differences,
                "Paired over the images that both restored; negative is better for KID, spectral distance and nuclei.",
            )
        )
    summary = (
        f"{tables.images.title}. KID, Frechet distance and MMD over the features of {tables.extractor}: no figure "
        "compares with the paper's, whose row stands beside ours. Intervals are "
        f"{tables.bench.protocol.tables.interval.level:.0%} bootstrap intervals over images."
    )
    return Report(name, title, summary, tuple(drawn), tables.provenance(), figures)


class MethodComparison:
    """What a table says of each method.

    Parameters
    ----------
    cells
        The numbers of each image by method (:meth:`Tables.cells`).
    near
        Against the second acquisitions, instead of the high-quality set and the clean images.
    """

    def __init__(self, tables: Tables, cells: Cells, near: bool) -> None:
        self.tables, self.cells, self.near = tables, cells, near
        self.methods = {method.name: method for method in tables.methods}
        self.reference = tables.second_features() if near else tables.reference_features()
        self.features = {method.name: tables.features(method, near=near) for method in tables.methods}
        self.prefix = "near_" if near else ""

    def row(self, method: Method, indices: Sequence[int]) -> Row:
        """Distances of a method's images as a set, means of what each scored, cost, and the paper's row."""
        indices = self.tables.paired(indices) if self.near else indices
        cells = [self.cells[method.name][i] for i in indices]
        row: Row = {"method": method.name, "n": len(cells)}
        if len(self.reference.vectors) and len(indices) >= FEWEST_UNITS:
            made, reference, how = self._sets(method.name, indices)
            row["kid"] = bootstrap_interval(kid, made.vectors, reference.vectors, **how)
            row["mmd"] = bootstrap_interval(rbf_mmd, made.vectors, reference.vectors, **how)
            row["spectral"] = bootstrap_interval(spectrum_distance, made.spectra, reference.spectra, **how)
            if min(len(made.vectors), len(reference.vectors)) >= SMALLEST_SAMPLE:
                row["fd"] = frechet_distance(made.vectors, reference.vectors)
        for measure in ("psnr", "ssim", "lpips"):
            row[measure] = self._mean([cell.get(self.prefix + measure) for cell in cells])
        for measure in ("nuclei_added", "nuclei_removed", "coherence", "noise"):
            row[measure] = self._mean([cell.get(measure) for cell in cells])
        for cost in ("evaluations", "steps"):
            row[cost] = float(np.mean([cell[cost] for cell in cells]))
        row["seconds"], _ = self.tables.seconds(method)
        if paper := PAPER.get(method.name):
            of_table = {key: value for key, value in asdict(paper).items() if key.startswith("near_") == self.near}
            row |= {f"paper_{key.removeprefix('near_')}": value for key, value in of_table.items()}
        return row

    def ranking(self) -> list[Row]:
        """What RSCD is asked to hold, and whether it does, on the images that all but the slow methods restored."""
        names = [name for name in self.methods if name not in self.tables.fewer.methods]
        known = WHOLE in names and len(self.reference.vectors) and any("psnr" in cell for cell in self.cells[WHOLE].values())
        own = [name for name in OURS if name in names]
        rivals = [name for name in names if name != "input" and name not in OURS and name not in ABLATIONS]
        if not known or not rivals:
            return []
        asked = []

        def lowest(title: str, score: Mapping[str, float], others: Sequence[str]) -> None:
            if others:
                best, rival = min(own, key=lambda n: score[n]), min(others, key=lambda n: score[n])
                measured = f"{best} {score[best]:.4g}, {rival} {score[rival]:.4g}"
                asked.append({"asked": title, "measured": measured, "met": score[best] < score[rival]})

        made, reference = self.features, self.reference
        spectral = {n: spectrum_distance(made[n].spectra, reference.spectra) for n in names}
        judged = {n: [cell for cell in self.cells[n].values() if self.prefix + "psnr" in cell] for n in names}
        changed = {n: float(np.mean([_changed(cell) for cell in judged[n]])) for n in names}
        units = self.tables.paired(self.tables.images.indices) if self.near else None
        distances = {n: kid(made[n].vectors, reference.vectors, units, units) for n in names}
        lowest("Lowest KID", distances, rivals)
        lowest("Lowest spectral distance (dB)", spectral, rivals)
        title = "Fewest nuclei added and removed per mm2 of all learned methods"
        lowest(title, changed, [n for n in rivals if n in LEARNED])
        psnr = {n: float(np.mean([cell[self.prefix + "psnr"] for cell in judged[n]])) for n in names}
        best, rival = max(own, key=lambda n: psnr[n]), max(rivals, key=lambda n: psnr[n])
        measured = f"{best} {psnr[best]:.2f} dB, {rival} {psnr[rival]:.2f} dB"
        met = psnr[best] >= psnr[rival] - NEAR_PSNR
        asked.append({"asked": f"PSNR within {NEAR_PSNR} dB of the best", "measured": measured, "met": met})
        if any(name in ABLATIONS for name in names):
            better = self._better_ablations()
            title = f"No ablation significantly better than {WHOLE}"
            asked.append({"asked": title, "measured": "; ".join(better) or "none is", "met": not better})
        return asked

    def _better_ablations(self) -> list[str]:
        """Each ablation that is significantly better than the whole in some measure, and where it is significantly worse."""
        told = []
        for row in self.differences:
            better, worse = (
                [
                    f"{name} ({interval.value:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}])"
                    for measure, (name, gain) in COMPARED.items()
                    if isinstance(interval := row.get(measure), Interval)
                    and min(side * gain * interval.low, side * gain * interval.high) > 0
                ]
                for side in (-1, 1)  # a gain of the ablation is a loss of the whole
            )
            if row["method"] in ABLATIONS and better:
                told.append(f"{row['method']} in {', '.join(better)}, worse in {', '.join(worse) or 'none'}")
        return told

    @cached_property
    def differences(self) -> list[Row]:
        """The whole less each method, on the images that both restored."""
        rows: list[Row] = []
        for name, method in self.methods.items():
            if WHOLE not in self.methods or name == WHOLE:
                continue
            shared = [i for i in self.tables.indices(method) if i in self.cells[WHOLE]]
            shared = self.tables.paired(shared) if self.near else shared
            if len(shared) < FEWEST_UNITS:
                continue
            row: Row = {"method": name, "n": len(shared)}
            if len(self.reference.vectors):
                ours, reference, how = self._sets(WHOLE, shared)
                theirs, _, _ = self._sets(name, shared)
                row["kid"] = paired_bootstrap_interval(kid, ours.vectors, theirs.vectors, reference.vectors, **how)
                row["spectral"] = paired_bootstrap_interval(
                    spectrum_distance, ours.spectra, theirs.spectra, reference.spectra, **how
                )
            pairs = [(self.cells[WHOLE][i], self.cells[name][i]) for i in shared]
            key = self.prefix + "psnr"
            if all(key in cell for pair in pairs for cell in pair):
                row["psnr"] = self._difference([(a[key], b[key]) for a, b in pairs])
            if all("nuclei_added" in cell for pair in pairs for cell in pair):
                row["changed"] = self._difference([(_changed(a), _changed(b)) for a, b in pairs])
            rows.append(row)
        return rows

    def _sets(self, name: str, indices: Sequence[int]) -> tuple[Features, Features, dict[str, Any]]:
        """A method's images, those they are compared with, and how to resample.

        Near-registered images and their second acquisitions show the same fields, which are drawn together.
        """
        how = dict(self.tables.intervals)
        if not self.near:
            return _only(self.features[name], self.tables.indices(self.methods[name]), indices), self.reference, how
        made = _only(self.features[name], self.tables.paired(self.tables.indices(self.methods[name])), indices)
        reference = _only(self.reference, self.tables.paired(self.tables.images.indices), indices)
        return made, reference, {**how, "units": list(indices), "reference_units": list(indices)}

    def _mean(self, values: Sequence[float | None]) -> Finding | None:
        known = [value for value in values if value is not None]
        return mean_with_interval(known, **self.tables.intervals) if known else None

    def _difference(self, pairs: Sequence[tuple[float, float]]) -> Finding:
        return paired_difference([a for a, _ in pairs], [b for _, b in pairs], **self.tables.intervals)


def _only(features: Features, indices: Sequence[int], chosen: Sequence[int]) -> Features:
    """The rows of the chosen images, in the order of ``indices``."""
    keep = np.isin(indices, chosen)
    return Features(features.vectors[keep], features.spectra[keep])


def _columns(tables: Tables, rows: Sequence[Row], near: bool) -> tuple[Column, ...]:
    paper = [key for key in ("fid", "cmmd", "psnr", "ssim", "lpips") if near or key in ("fid", "cmmd")]
    digits = {"fid": ".2f", "cmmd": ".3f", "psnr": ".2f", "ssim": ".3f", "lpips": ".3f"}
    columns = (
        Column("method", "Method"),
        Column("n", "n", "d"),
        Column("kid", printed_name(kid, tables.extractor), ".4f"),
        Column("fd", printed_name(frechet_distance, tables.extractor), ".3f"),
        Column("mmd", printed_name(rbf_mmd, tables.extractor), ".2f"),
        Column("spectral", "Spectral distance (dB)", ".2f"),
        Column("psnr", "PSNR (dB)", ".2f"),
        Column("ssim", "SSIM", ".3f"),
        Column("lpips", "LPIPS", ".3f"),
        Column("nuclei_added", "Nuclei added per mm2", ".1f"),
        Column("nuclei_removed", "Nuclei removed per mm2", ".1f"),
        Column("noise", "Incoherent noise (counts)", ".0f"),
        Column("coherence", "Coherence of the channels", ".2f"),
        Column("evaluations", "Network evaluations a tile", ".1f"),
        Column("seconds", "Seconds a tile", ".2f"),
        *(Column(f"paper_{key}", f"Paper's {key.upper()}", digits[key]) for key in paper),
    )
    return tuple(column for column in columns if any(row.get(column.key) is not None for row in rows))


def _note(tables: Tables, reference: Features, near: bool) -> str:
    notes = []
    if near:
        notes.append("PSNR, SSIM and LPIPS against the registered second acquisition, which shows a section a little deeper.")
        if tables.refused:
            first = tables.refused[min(tables.refused)]
            notes.append(f"{len(tables.refused)} pairs were refused, as in {first}.")
    elif len(reference.vectors):
        notes.append(f"Compared as a set with {len(reference.vectors)} high-quality images of other fields.")
    else:
        notes.append("No high-quality images were given, so nothing is compared as a set.")
    if tables.lpips_weights is None:
        notes.append("LPIPS is left out: no weights of AlexNet were given ($SRH_LPIPS_WEIGHTS).")
    notes.append(NO_REFERENCE_NEEDED)
    return " ".join(notes)


def _machines(tables: Tables, cells: Cells) -> str:
    """On what images were restored, and on what their time was taken."""
    restored: dict[str, list[str]] = {}
    for name, made in cells.items():
        for machine in sorted({cell["machine"] for cell in made.values()}):
            restored.setdefault(machine, []).append(name)
    timed = ", ".join(sorted({tables.seconds(method)[1] for method in tables.methods}))
    where = "; ".join(f"{machine}: {', '.join(names)}" for machine, names in restored.items())
    return (
        f"Seconds a tile are of {TIMED} images, one of a slow method, restored in a run of their own on {timed}. "
        f"Restored on {where if len(restored) > 1 else ', '.join(restored)}."
    )


def _changed(cell: Row) -> float:
    return float(cell["nuclei_added"] + cell["nuclei_removed"])


def _gallery(tables: Tables) -> Figure:
    """Figure 1: for each source of degradation an image that it leads in, as scanned and restored."""
    found: dict[str, int] = {}
    for index in tables.images.indices:
        image = tables.images.image(index)
        if image.source and image.group == "severe" and image.truth != "nondiagnostic":
            found.setdefault(image.source, index)
    chosen = list(found.values()) or list(tables.images.indices)[:4]
    made = dict(tables.restored(METHODS[WHOLE], chosen))
    rows = []
    for index in chosen:
        image = tables.images.image(index)
        title = image.source or image.name
        rows.append([Panel(image.counts, title), Panel(made[index].counts, "restored"), *truth_panels(image)])
    caption = "As scanned and restored, by the source of degradation that leads. As Figure 1 of the paper."
    return Figure("gallery", "Sources of degradation", caption, image_grid(rows))


def _same_tile(tables: Tables, cells: Cells) -> Figure:
    """Figure 4: one image under every method."""
    shared = list(tables.fewer.indices) or list(tables.images.indices)
    index = _telling(tables, shared)
    image = tables.images.image(index)
    panels = truth_panels(image)
    for method in tables.methods:
        (_, made), *_ = tables.restored(method, [index])
        psnr = cells[method.name].get(index, {}).get("psnr")
        panels.append(Panel(made.counts, method.name + (f", {psnr:.1f} dB" if psnr is not None else "")))
    png = wrapped_grid(panels, 6, colour_window(panels[0].counts))
    caption = f"{image.name}, {image.group}. As Figure 4 of the paper."
    return Figure("same_tile", "The same image under every method", caption, png)


def _telling(tables: Tables, indices: Sequence[int]) -> int:
    """The first severe tumor with nuclei among the images, or the first image."""
    for index in indices:
        image = tables.images.image(index)
        if image.group == "severe" and image.truth == "tumor":
            return index
    return indices[0]


def _triptychs(tables: Tables) -> Figure:
    """Figure 5: as scanned, restored, and the registered second acquisition."""
    whole = next((m for m in tables.methods if m.name == WHOLE), tables.methods[-1])
    paired = tables.paired(tables.indices(whole))
    chosen = [paired[place] for place in spread(4, len(paired))]
    rows = []
    for index, made in tables.restored(whole, chosen):
        second = tables.second(index)
        if second is not None:
            image = tables.images.image(index)
            shown = Panel(inner(image.counts), image.name), Panel(inner(made.counts), whole.name), Panel(second, "second")
            rows.append(shown)
    png = image_grid(rows)
    return Figure("pairs", "Near-registered pairs", "As scanned, restored, second acquisition. As Figure 5 of the paper.", png)
