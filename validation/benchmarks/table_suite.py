"""The paper's tables and figures in one call, on phantoms or on a user's images."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import write_whole
from srh_clinic.metrics import EXTRACTORS, Interval
from srh_clinic.metrics.extractors import ExtractorName
from srh_clinic.progress import Progress, silent
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.images import FolderImages, ImageSet, PhantomImages, Reading, spread
from srh_clinic.validation.bench.methods import WHOLE, chosen_methods
from srh_clinic.validation.bench.protocol import Protocol, load_protocol
from srh_clinic.validation.benchmarks.tables import Fewer, Row, Stack, Tables
from srh_clinic.validation.reporting.page import write_reports
from srh_clinic.validation.reporting.report import Report

TABLE_PARTS = ("unpaired", "near-registered", "downstream", "sweep", "zstack")
"""What :func:`run_tables` can make."""

OF_RSCD_ALONE = {"sweep", "zstack"}
"""Parts that compare RSCD with the input and with nothing else."""

LPIPS_VARIABLE = "SRH_LPIPS_WEIGHTS"


@dataclass(frozen=True)
class Preset:
    """How much a run does: phantoms of the tables, those of the slow methods, of the sweep, and blocks of tissue."""

    images: int | None
    slow: int | None
    sweep: int
    stacks: int


PRESETS = {"quick": Preset(images=24, slow=3, sweep=6, stacks=8), "full": Preset(images=None, slow=None, sweep=64, stacks=16)}
"""``quick`` fills every row on two cores within half an hour; ``full`` is what the protocol says."""


@dataclass(frozen=True)
class OwnImages:
    """A user's images in place of phantoms; see :class:`~srh_clinic.validation.bench.images.FolderImages`."""

    folder: Path
    reference: Path | None = None
    severity: float | None = None


def run_tables(
    out: str | Path,
    *,
    only: Collection[str] = TABLE_PARTS,
    preset: str = "quick",
    methods: Sequence[str] | None = None,
    own: OwnImages | None = None,
    stack: str | Path | None = None,
    reading: Reading | None = None,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    extractor: str = "efficientnet_lite0",
    extractor_weights: str | Path | None = None,
    lpips_weights: str | Path | None = None,
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> list[Report]:
    """Make the paper's tables and figures, and write them into ``out``.

    ``tables.html`` holds all of them, ``tables.json`` their rows; a part that is made alone has the page ``<part>.html``. Each
    also has its Markdown, JSON and CSV, and figures are PNGs in ``figures``. A run that was cut goes on where it stopped.

    Parameters
    ----------
    only
        Parts among :data:`TABLE_PARTS`.
    preset
        ``quick`` or ``full``.
    methods
        Names among :data:`~srh_clinic.validation.bench.methods.METHODS`; all when None. The input and RSCD always take part.
    own
        A user's images; phantoms when None.
    stack
        A z-stack to show beside the simulated ones.
    reading
        What the files of ``own`` and ``stack`` do not say of themselves.
    bundle
        Name or folder of the weights of RSCD and of the classifier.
    weights
        Folder of the bundles that only comparisons use.
    extractor, extractor_weights
        See :func:`~srh_clinic.metrics.create_extractor`.
    lpips_weights
        See :func:`~srh_clinic.metrics.lpips`; ``$SRH_LPIPS_WEIGHTS`` when None, and without either LPIPS is left out.

    Raises
    ------
    InputError
        When a name is unknown, weights or images are not there, or ``out`` cannot be written.
    """
    unknown = [part for part in only if part not in TABLE_PARTS]
    if unknown or not only:
        raise InputError(f"the parts {', '.join(unknown) or 'none'}", "one or more of " + ", ".join(TABLE_PARTS))
    if preset not in PRESETS:
        raise InputError(f"the preset {preset!r}", " or ".join(PRESETS))
    size = PRESETS[preset]
    fixed = load_protocol(protocol)
    bench = Bench(fixed, load_bundle(bundle), Path(out), device, None, report, Path(weights))
    reading = reading or Reading()
    images = _images(fixed, size, own, reading)
    shown = None if stack is None else _stack(fixed, Path(stack), reading)
    named = None if methods is None else tuple(dict.fromkeys(("input", WHOLE, *methods)))
    if set(only) <= OF_RSCD_ALONE:
        named = ("input", WHOLE)
    lpips = lpips_weights or os.environ.get(LPIPS_VARIABLE)
    tables = Tables(
        bench,
        images,
        chosen_methods(named),
        _fewer(fixed, size, images),
        _extractor(extractor),
        None if extractor_weights is None else Path(extractor_weights),
        None if lpips is None else Path(lpips),
    )
    for method in tables.methods:
        # What is missing is told now, not after the hours that the methods before it take.
        for part in method.parts:
            bench.bundle_of(method).config(part)
    reports = _reports(tables, only, size, shown, own)
    demonstration = str(bench.bundle.metadata.get("demonstration", ""))
    whole = len(reports) > 1
    name = "tables" if whole else reports[0].name
    write_reports(reports, bench.out, name, "Restoration of stimulated Raman histology", demonstration)
    if whole:
        write_whole(bench.out / "tables.json", (json.dumps(_as_json(reports), indent=2, allow_nan=False) + "\n").encode())
    return reports


def run_cell(
    method: str,
    index: int,
    *,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    lpips_weights: str | Path | None = None,
    protocol: str | Path | None = None,
) -> Row:
    """Compute one cell of the phantoms' tables anew: a method on the phantom ``index``.

    Raises
    ------
    InputError
        When there is no such method or phantom.
    """
    fixed = load_protocol(protocol)
    (chosen,) = chosen_methods((method,))
    if not 0 <= index < fixed.tables.count:
        raise InputError(f"phantom {index}", f"one from 0 to {fixed.tables.count - 1}")
    lpips = lpips_weights or os.environ.get(LPIPS_VARIABLE)
    # What a run keeps on disk is not wanted of a single cell.
    with TemporaryDirectory() as nowhere:
        bench = Bench(fixed, load_bundle(bundle), Path(nowhere), device, weights=Path(weights))
        tables = Tables(bench, PhantomImages(fixed), (chosen,), lpips_weights=None if lpips is None else Path(lpips))
        return tables.cell(chosen, index)


def _extractor(name: str) -> ExtractorName:
    for known in EXTRACTORS:
        if known == name:
            return known
    raise InputError(f"the extractor {name!r}", f"one of {', '.join(EXTRACTORS)}")


def _images(protocol: Protocol, size: Preset, own: OwnImages | None, reading: Reading) -> ImageSet:
    if own is None:
        return PhantomImages(protocol, size.images)
    return FolderImages(
        own.folder,
        protocol.phantoms.size,
        protocol.phantoms.um_per_px,
        own.reference,
        own.severity,
        reading,
        size.images,
    )


def _stack(protocol: Protocol, source: Path, reading: Reading) -> Stack:
    """A user's z-stack, whose planes hold a tile at least: told now, not after the simulated ones."""
    from srh_clinic.case.restoring import at_pixel_size
    from srh_clinic.integration import read_z_stack

    tile, um_per_px = protocol.phantoms.size, protocol.phantoms.um_per_px
    found = read_z_stack(source, reading.um_per_px, reading.full_scale)
    planes = tuple(plane._replace(slide=at_pixel_size(plane.slide, um_per_px)[0]) for plane in found)
    smallest = min(min(plane.slide.shape) for plane in planes)
    if smallest < tile:
        raise InputError(f"planes of {smallest} px at {um_per_px} um/px", f"planes of at least {tile} px", source)
    return Stack(source.name, planes)


def _fewer(protocol: Protocol, size: Preset, images: ImageSet) -> Fewer:
    if size.slow is None and isinstance(images, PhantomImages):
        return Fewer(protocol.tables.slow, protocol.slow_indices)
    places = spread(size.slow or protocol.tables.slow_count, len(images.indices))
    return Fewer(protocol.tables.slow, tuple(images.indices[place] for place in places))


def _reports(tables: Tables, only: Collection[str], size: Preset, stack: Stack | None, own: OwnImages | None) -> list[Report]:
    """The parts in their order; what each needs is imported when it runs."""
    from srh_clinic.validation.benchmarks.images_section import near_registered, unpaired
    from srh_clinic.validation.benchmarks.other_sections import downstream, gallery, predicted_steps, sweep, z_stack

    made = []
    if set(only) - {"zstack"}:
        cells = tables.cells()
        if "unpaired" in only:
            report = unpaired(tables, cells)
            made.append(replace(report, figures=[gallery(tables), *report.figures, predicted_steps(tables, cells)]))
        if "near-registered" in only and (own is None or (own.folder / "high").is_dir()):
            made.append(near_registered(tables, cells))
        if "downstream" in only:
            made.append(downstream(tables, cells))
        if "sweep" in only:
            made.append(sweep(tables, cells, size.sweep))
    if "zstack" in only:
        made.append(z_stack(tables, size.stacks, stack))
    if not made:
        folder = None if own is None else own.folder
        raise InputError("no second acquisitions", "two folders low and high with images of the same names", folder)
    return made


def _as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """The rows of each part's main table, intervals as value, low and high."""
    named = {"unpaired": "All methods", "near_registered": "All methods"}
    found = {}
    for report in reports:
        tables = {table.title: table for table in report.tables}
        main = tables.get(named.get(report.name, ""), report.tables[0])
        found[report.name] = {
            "title": report.title,
            "provenance": dict(report.provenance),
            "rows": [{key: _plain(value) for key, value in row.items()} for row in main.rows],
        }
    return found


def _plain(value: Any) -> Any:
    return {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Interval) else value
