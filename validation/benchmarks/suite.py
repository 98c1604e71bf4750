"""Every part of the benchmarks by one call: the reports that the protocol fixes, and the paper's tables and figures."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.estimates import Interval, Undefined
from srh_clinic.files import write_whole
from srh_clinic.metrics import EXTRACTORS
from srh_clinic.metrics.extractors import ExtractorName
from srh_clinic.progress import Progress, silent
from srh_clinic.slide import Reading
from srh_clinic.validation.bench.bench import Bench
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.bench.images import FolderImages, ImageSet, PhantomImages, spread
from srh_clinic.validation.bench.methods import WHOLE, chosen_methods
from srh_clinic.validation.bench.protocol import Protocol, load_protocol
from srh_clinic.validation.benchmarks.depth import Stack
from srh_clinic.validation.benchmarks.tables import Fewer, Tables
from srh_clinic.validation.reporting.page import write_reports
from srh_clinic.validation.reporting.report import Report, write_report

Benchmark = Literal["protocol", "tables"]

PARTS: dict[Benchmark, tuple[str, ...]] = {
    "protocol": ("restoration", "calibrator", "classifier", "seams", "real"),
    "tables": ("unpaired", "near-registered", "downstream", "sweep", "zstack"),
}
"""What :func:`run_benchmark` can make: the protocol's reports, and the paper's tables and figures."""

OF_RSCD_ALONE = {"sweep", "zstack"}
"""Parts that compare RSCD with the input and with nothing else."""

PATCHES = "nio_srh_rgb"
BRAIN_FIELD = "srs_brain_zstack/z025.tif"
"""Where a folder of real data holds the patches and the field."""

LPIPS_VARIABLE = "SRH_LPIPS_WEIGHTS"


def real_data_folder() -> Path:
    """Folder of real images: ``$SRH_REAL_DATA``, or ``../shared/data``; it need not exist."""
    return Path(os.environ.get("SRH_REAL_DATA", "../shared/data"))


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


@dataclass(frozen=True)
class BenchmarkOptions:
    """What a benchmark may be told; the first four say how the protocol's reports are made, the rest how the tables are.

    Parameters
    ----------
    limit
        Use only the first so many test phantoms.
    limit_slow
        Restore only the first so many by the samplers that evaluate the network at every step (ancestral and mean).
    strides
        Further strides of the DDIM sampler to compare.
    real_data
        Folder of real images (:func:`real_data_folder` by default). Where it lacks what a part needs, ``real`` is left out and
        ``seams`` says so, unless the part was asked for by name.
    preset
        ``quick`` or ``full``.
    methods
        Names among :data:`~srh_clinic.validation.bench.methods.METHODS`; all of the tables when None. The input and RSCD
        always take part.
    own
        A user's images; phantoms when None.
    stack
        A z-stack to show beside the simulated ones.
    reading
        What the files of ``own`` and ``stack`` do not say of themselves.
    weights
        Folder of the bundles that only comparisons use.
    extractor, extractor_weights
        See :func:`~srh_clinic.metrics.create_extractor`.
    lpips_weights
        See :func:`~srh_clinic.metrics.lpips`; ``$SRH_LPIPS_WEIGHTS`` when None, and without either LPIPS is left out.
    """

    limit: int | None = None
    limit_slow: int | None = None
    strides: Sequence[int] = ()
    real_data: str | Path | None = None
    preset: str = "quick"
    methods: Sequence[str] | None = None
    own: OwnImages | None = None
    stack: str | Path | None = None
    reading: Reading = field(default_factory=Reading)
    weights: str | Path = "weights"
    extractor: str = "efficientnet_lite0"
    extractor_weights: str | Path | None = None
    lpips_weights: str | Path | None = None

    def check(self) -> None:
        """Refuse what no benchmark can be made with.

        Raises
        ------
        InputError
            When a limit or a stride is not positive, or the preset is unknown.
        """
        strides = (("stride", stride) for stride in self.strides)
        for name, value in (("limit", self.limit), ("limit_slow", self.limit_slow), *strides):
            if value is not None and value < 1:
                raise InputError(f"a {name} of {value}", "a positive number")
        if self.preset not in PRESETS:
            raise InputError(f"the preset {self.preset!r}", " or ".join(PRESETS))


def run_benchmark(
    benchmark: Benchmark,
    out: str | Path,
    *,
    only: Collection[str] | None = None,
    options: BenchmarkOptions | None = None,
    bundle: str | Path = "phantom-demo",
    device: str = "auto",
    protocol: str | Path | None = None,
    report: Progress = silent,
) -> list[Report]:
    """Make the reports of a benchmark and write each into ``out`` as Markdown and JSON.

    A run that was cut goes on where it stopped; cells of other weights or of another protocol are left aside. The tables also
    have CSV and figures, PNGs in ``figures``, and a page: ``tables.html`` with all of them, whose rows are in ``tables.json``,
    or ``<part>.html`` of a part that is made alone.

    Parameters
    ----------
    only
        Parts among those of :data:`PARTS`; all when None.
    options
        What else it may be told.
    bundle
        Name or folder of the weights of RSCD and of the classifier.
    protocol
        Another protocol than the packaged one.
    report
        Called with the name of the stage, how much of it is done, and how much there is.

    Raises
    ------
    InputError
        When a name is unknown, a limit is not positive, weights or images are not there, or ``out`` cannot be written.
    """
    parts, options = PARTS[benchmark], options or BenchmarkOptions()
    asked = parts if only is None else only
    unknown = [part for part in asked if part not in parts]
    if unknown or not asked:
        raise InputError(f"the parts {', '.join(unknown) or 'none'}", "one or more of " + ", ".join(parts))
    options.check()
    fixed = load_protocol(protocol)
    bench = Bench(fixed, load_bundle(bundle), Path(out), device, options.limit, report, Path(options.weights))
    return (_protocol_reports if benchmark == "protocol" else _table_reports)(bench, asked, options)


def _protocol_reports(bench: Bench, only: Collection[str], options: BenchmarkOptions) -> list[Report]:
    parts = PARTS["protocol"]
    folder = real_data_folder() if options.real_data is None else Path(options.real_data)
    made = []
    for part in (part for part in parts if part in only):
        if part == "real" and set(only) == set(parts) and not (folder / PATCHES).is_dir():
            continue
        one = _run(part, bench, folder, options.limit_slow, tuple(options.strides))
        write_report(one, bench.out)
        made.append(one)
    return made


def _run(part: str, bench: Bench, real: Path, limit_slow: int | None, strides: tuple[int, ...]) -> Report:
    """One part; what it needs is imported when it runs."""
    if part == "restoration":
        from srh_clinic.validation.benchmarks.restoration import restoration

        return restoration(bench, limit_slow=limit_slow, strides=strides)
    if part == "calibrator":
        from srh_clinic.validation.benchmarks.calibrator import calibration

        return calibration(bench)
    if part == "classifier":
        from srh_clinic.validation.benchmarks.downstream import classification

        return classification(bench)
    if part == "seams":
        from srh_clinic.validation.benchmarks.seams import phantom_fields, real_field, seams

        field = real / BRAIN_FIELD
        if field.is_file():
            return seams(bench, [*phantom_fields(bench), real_field(field)])
        return seams(bench, phantom_fields(bench), skipped=f"The real brain field is left out: there is no {field}.")
    from srh_clinic.validation.benchmarks.real import real_restoration

    return real_restoration(bench, real / PATCHES, strides=strides)


def _table_reports(bench: Bench, only: Collection[str], options: BenchmarkOptions) -> list[Report]:
    size, own = PRESETS[options.preset], options.own
    images = _images(bench.protocol, size, own, options.reading)
    shown = None if options.stack is None else _stack(bench.protocol, Path(options.stack), options.reading)
    named = None if options.methods is None else tuple(dict.fromkeys(("input", WHOLE, *options.methods)))
    if set(only) <= OF_RSCD_ALONE:
        named = ("input", WHOLE)
    tables = Tables(
        bench,
        images,
        chosen_methods(named),
        _fewer(bench.protocol, size, images),
        _extractor(options.extractor),
        None if options.extractor_weights is None else Path(options.extractor_weights),
        _lpips(options.lpips_weights),
    )
    for method in tables.methods:
        # What is missing is told now, not after the hours that the methods before it take.
        for part in method.parts:
            bench.bundle_of(method).config(part)
    reports = _parts_of_tables(tables, only, size, shown, own)
    demonstration = str(bench.bundle.metadata.get("demonstration", ""))
    whole = len(reports) > 1
    name = "tables" if whole else reports[0].name
    write_reports(reports, bench.out, name, "Restoration of stimulated Raman histology", demonstration)
    if whole:
        write_whole(bench.out / "tables.json", json.dumps(_as_json(reports), indent=2, allow_nan=False) + "\n")
    return reports


def _parts_of_tables(
    tables: Tables, only: Collection[str], size: Preset, stack: Stack | None, own: OwnImages | None
) -> list[Report]:
    """The parts in their order; what each needs is imported when it runs."""
    from srh_clinic.validation.benchmarks.depth import z_stack
    from srh_clinic.validation.benchmarks.downstream import downstream
    from srh_clinic.validation.benchmarks.image_quality import near_registered, unpaired
    from srh_clinic.validation.benchmarks.steps import sweep

    made = []
    if set(only) - {"zstack"}:
        cells = tables.cells()
        if "unpaired" in only:
            made.append(unpaired(tables, cells))
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
    found = read_z_stack(source, reading.um_per_px, reading.full_scale, channels=reading.channels)
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


def _extractor(name: str) -> ExtractorName:
    for known in EXTRACTORS:
        if known == name:
            return known
    raise InputError(f"the extractor {name!r}", f"one of {', '.join(EXTRACTORS)}")


def _lpips(weights: str | Path | None) -> Path | None:
    named = weights or os.environ.get(LPIPS_VARIABLE)
    return None if named is None else Path(named)


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
    if isinstance(value, Undefined):
        return {"value": value.value, "low": None, "high": None}
    return {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Interval) else value


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
    # What a run keeps on disk is not wanted of a single cell.
    with TemporaryDirectory() as nowhere:
        bench = Bench(fixed, load_bundle(bundle), Path(nowhere), device, weights=Path(weights))
        tables = Tables(bench, PhantomImages(fixed), (chosen,), lpips_weights=_lpips(lpips_weights))
        return tables.cell(chosen, index)
