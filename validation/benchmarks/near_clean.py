"""Restoration of nearly clean real fields under simulated noise, and what holds where no clean reference is to be had.

A field that brings noise of its own charges whatever takes that noise away as well. These bring little: the report says how
much, and what PSNR that leaves possible to the very truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.bundles import load_bundle
from srh_clinic.errors import InputError
from srh_clinic.files import fingerprint
from srh_clinic.intensity import CHANNELS, Counts, counts_to_unit
from srh_clinic.metrics import incoherent_noise, micro_ssim, period_2_amplitudes, psnr, residual_sharing, ssim
from srh_clinic.metrics.sharing import SHARING_BANDS
from srh_clinic.progress import Progress, silent
from srh_clinic.resampling import block_mean
from srh_clinic.simulation import Sources, degrade
from srh_clinic.slide import Reading
from srh_clinic.validation.bench.bench import Bench, PhantomRestorer
from srh_clinic.validation.bench.cells import CellStore, Row
from srh_clinic.validation.bench.images import read_patches, slides_in, tiles_sha256, told_orders
from srh_clinic.validation.bench.methods import METHODS, WHOLE, Method, chosen_methods
from srh_clinic.validation.bench.protocol import load_protocol
from srh_clinic.validation.benchmarks.seams import REAL_UM_PER_PX
from srh_clinic.validation.benchmarks.suite import PATCHES, real_data_folder
from srh_clinic.validation.reporting.report import CRITERIA, Column, Report, Table, write_report

STRENGTHS = (0.15, 0.45, 0.80)
"""Of the simulator's instrument noise: mild, moderate, severe."""

NOISE_SEED = 1

BRIGHTEST, BRIGHTEST_PERCENTILE = 36_000, 99.9
"""Counts that the percentile of a field is scaled to."""

EQUAL_DB, EQUAL_SSIM = 0.05, 0.001
"""Methods this near to the first share its place."""

HIGH_FREQUENCY = 0.4
"""Cycles a pixel above which a field's own noise is read."""

MEASURES = (
    Column("psnr", "PSNR (dB)", ".2f"),
    Column("psnr_difference", "PSNR of CH3 - CH2 (dB)", ".2f"),
    Column("ssim", "SSIM", ".4f"),
    Column("ssim_difference", "SSIM of CH3 - CH2", ".4f"),
    Column("micro_ssim", "Micro-SSIM", ".4f"),
    Column("gain", "Smallest gain of any field (dB)", "+.2f"),
    Column("checkerboard", "Checkerboard", ".5f"),
    Column("rows", "Rows", ".5f"),
    Column("columns", "Columns", ".5f"),
    Column("evaluations", "Evaluations a tile", ".1f"),
)


@dataclass(frozen=True, eq=False)
class FieldSet:
    """Nearly clean fields by name, uint16 counts ``(2, S, S)``, that are averaged in one table."""

    title: str
    fields: Mapping[str, Counts]
    channel_orders: Sequence[str] = ()
    """Of each field, which channels of its file are CH2 and CH3, and why."""


def default_methods() -> tuple[str, ...]:
    """Every method of the paper's tables that does not evaluate a network at every step, without the ablations."""
    return tuple(
        name
        for name, method in METHODS.items()
        if not method.slow and name != "deep_image_prior" and (name == WHOLE or not name.startswith("rscd_"))
    )


def read_fields(folder: Path, size: int, *, reading: Reading, halved: bool = False, every: int = 1) -> FieldSet:
    """The centre of each image in a folder, brightened so that its brightest thousandth has :data:`BRIGHTEST` counts.

    Parameters
    ----------
    size
        Edge of a field in px.
    reading
        What the files do not say of themselves.
    halved
        Average over 2 x 2 px first, which halves a field's own noise.
    every
        Take every so manyth file: neighbouring planes of a stack show the same tissue.

    Raises
    ------
    InputError
        When there is no image, or one cannot be read, is too small, or shows nothing in a channel.
    """
    if not folder.is_dir():
        raise InputError("no such folder", "a folder of nearly clean fields", folder)
    fields, orders = {}, []
    for name, slide in slides_in(folder, reading, every):
        edge = size * (2 if halved else 1)
        height, width = slide.shape
        if min(height, width) < edge:
            raise InputError(f"a field of {height} x {width} px", f"at least {edge} px a side", folder / name)
        counts = slide.read((height - edge) // 2, (width - edge) // 2, edge, edge)
        field = block_mean(counts, 2) if halved else counts
        for channel, seen in zip(CHANNELS, field, strict=True):
            if np.ptp(seen) == 0:
                raise InputError(f"a field whose {channel} is {seen.flat[0]:g} everywhere", "tissue in both", folder / name)
        brightest = max(float(np.percentile(field, BRIGHTEST_PERCENTILE)), 1.0)
        orders.append(slide.identity.channel_order)
        fields[name] = np.rint(field / brightest * BRIGHTEST).clip(0, 65_535).astype(np.uint16)
    if not fields:
        raise InputError("no files", "a folder of nearly clean fields", folder)
    return FieldSet(folder.name + (", halved" if halved else ""), fields, orders)


GASTRIC, BRAIN = "srs_gastric", "srs_brain_zstack"
"""Where a folder of real data holds nearly clean fields."""

GASTRIC_READING = Reading(um_per_px=0.345, full_scale=4096)


def run_near_clean(
    out: str | Path,
    *,
    images: str | Path | None = None,
    halved: bool = False,
    reading: Reading | None = None,
    methods: Sequence[str] | None = None,
    real_data: str | Path | None = None,
    bundle: str | Path = "phantom-demo",
    weights: str | Path = "weights",
    device: str = "auto",
    report: Progress = silent,
) -> Report:
    """Make the report of :func:`near_clean` and write it into ``out``; a run that was cut goes on where it stopped.

    Parameters
    ----------
    images
        A folder of nearly clean fields; None takes the gastric fields, the brain planes, and the four patches of ``real_data``
        (:func:`~srh_clinic.validation.benchmarks.suite.real_data_folder` by default).
    halved, reading
        Of ``images``; see :func:`read_fields`.
    methods
        Names among :data:`~srh_clinic.validation.bench.methods.METHODS`, :func:`default_methods` when None. The input and RSCD
        always take part.
    weights
        Folder of the bundles that only comparisons use.

    Raises
    ------
    InputError
        When a name is unknown, weights or images are not there, or ``out`` cannot be written.
    """
    protocol = load_protocol(None)
    bench = Bench(protocol, load_bundle(bundle), Path(out), device, report=report, weights=Path(weights))
    size = protocol.phantoms.size
    patches: dict[str, Counts] = {}
    if images is not None:
        sets = [read_fields(Path(images), size, reading=reading or Reading(), halved=halved)]
    else:
        folder = real_data_folder() if real_data is None else Path(real_data)
        sets = [
            read_fields(folder / GASTRIC, size, reading=GASTRIC_READING),
            read_fields(folder / BRAIN, size, reading=Reading(REAL_UM_PER_PX), halved=True, every=3),
        ]
        patches = read_patches(folder / PATCHES)
    chosen = chosen_methods(tuple(dict.fromkeys(("input", WHOLE, *(default_methods() if methods is None else methods)))))
    made = near_clean(bench, sets, chosen, patches)
    write_report(made, out)
    return made


def near_clean(bench: Bench, sets: Sequence[FieldSet], methods: Sequence[Method], patches: Mapping[str, Counts]) -> Report:
    """Every method on nearly clean fields under instrument noise of each of :data:`STRENGTHS`, and on patches as scanned.

    Parameters
    ----------
    methods
        The input and RSCD's default among them.
    patches
        Real patches, uint16 counts ``(2, H, W)`` by name, too noisy to be a reference; may be empty.
    """
    cells = CellStore(bench.work / "near_clean.jsonl", ("set", "strength", "field", "method"))
    rows: dict[tuple[str, float], dict[str, list[Row]]] = {}
    for place, (one, strength) in enumerate((one, strength) for one in sets for strength in STRENGTHS):
        rows[one.title, strength] = _judged(bench, cells, one, strength, methods)
        bench.report("nearly clean fields", place + 1, len(sets) * len(STRENGTHS))
    named = {one.title: one for one in sets}
    noisy = {where: _too_noisy(named[where[0]], by_method["input"]) for where, by_method in rows.items()}
    clean = "taken for nearly free, which not all of them are," if any(noisy.values()) else "nearly free"
    tables = [
        Table("What was asked", CRITERIA, [asked for one in sets for asked in _criteria(one, rows)]),
        _own_noise(sets),
        *(
            Table(
                f"{title}, instrument noise of strength {strength}",
                (Column("method", "Method"), *MEASURES),
                [{"method": name, **_mean(fields)} for name, fields in by_method.items()],
                noisy[title, strength],
            )
            for (title, strength), by_method in rows.items()
        ),
    ]
    if patches:
        tables.append(_sharing(bench, methods, patches))
    return Report(
        name="near_clean",
        title="Nearly clean real fields under simulated noise",
        summary=(
            f"{sum(len(one.fields) for one in sets)} real fields of two channels that are {clean} of noise, degraded by "
            "the simulator's instrument noise, and restored by every method; means over the fields of a set. Checkerboard, "
            "rows and columns are the amplitudes of the three patterns of period 2 as shares of the image's standard "
            "deviation, which tissue hardly has."
        ),
        tables=tuple(tables),
        provenance=bench.provenance(
            NOISE_SEED, channel_orders=told_orders(order for one in sets for order in one.channel_orders)
        ),
    )


def _judged(bench: Bench, cells: CellStore, one: FieldSet, strength: float, methods: Sequence[Method]) -> dict[str, list[Row]]:
    """By method, a row for each field; those not on disk yet are computed and put there."""
    degraded = {
        i: degrade(np.random.default_rng([NOISE_SEED, i]), clean.astype(np.float32), Sources(instrument=strength)).counts
        for i, clean in enumerate(one.fields.values())
    }
    images = tiles_sha256(degraded.values(), strength)
    rows: dict[str, list[Row]] = {}
    for method in methods:
        restorer = PhantomRestorer(bench, method, images=images)
        key = fingerprint(restored=restorer.fingerprint, measures=[column.key for column in MEASURES])
        missing = [i for i, name in enumerate(one.fields) if cells.get(key, one.title, strength, name, method.name) is None]
        for i, restored in restorer({i: degraded[i] for i in missing}).items():
            name, clean = list(one.fields.items())[i]
            numbers = measures(restored.counts, clean, degraded[i]) | {"evaluations": restored.evaluations}
            cells.put(key, set=one.title, strength=strength, field=name, method=method.name, **numbers)
        kept = (cells.get(key, one.title, strength, name, method.name) for name in one.fields)
        rows[method.name] = [row for row in kept if row is not None]
    return rows


def measures(restored: Counts, clean: Counts, degraded: Counts) -> dict[str, float]:
    """The numbers of one field, all three uint16 counts ``(2, H, W)``."""
    image, reference, scanned = (counts_to_unit(one) for one in (restored, clean, degraded))
    difference, of_reference = _difference(image), _difference(reference)
    return {
        "psnr": psnr(image, reference),
        "psnr_difference": psnr(difference, of_reference),
        "ssim": ssim(image, reference),
        "ssim_difference": ssim(difference, of_reference),
        "micro_ssim": micro_ssim(image, reference),
        "gain": psnr(image, reference) - psnr(scanned, reference),
        **period_2_amplitudes(image)._asdict(),
    }


def _difference(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """CH3 - CH2 as both channels of an image, so that it is measured as an image is."""
    return np.repeat(unit[1:] - unit[:1], 2, axis=0)


def _mean(rows: Sequence[Row]) -> dict[str, float]:
    """Of the fields of a set; of gains the smallest."""
    means: dict[str, Callable[[list[float]], Any]] = {column.key: np.mean for column in MEASURES} | {"gain": min}
    return {key: float(mean([row[key] for row in rows])) for key, mean in means.items()}


def _criteria(one: FieldSet, rows: Mapping[tuple[str, float], Mapping[str, list[Row]]]) -> list[dict[str, Any]]:
    """Whether ours is first, never below the input, and without a pattern, at each strength."""
    clean = np.mean([period_2_amplitudes(counts_to_unit(field)) for field in one.fields.values()], axis=0)
    found = []
    for strength in STRENGTHS:
        means = {name: _mean(fields) for name, fields in rows[one.title, strength].items()}
        ours, where = means[WHOLE], f"{one.title}, {strength}"
        lead = {
            key: ours[key] - max(mean[key] for name, mean in means.items() if name != WHOLE)
            for key in ("psnr", "psnr_difference", "ssim", "ssim_difference")
        }
        met = all(margin > -(EQUAL_DB if key.startswith("psnr") else EQUAL_SSIM) for key, margin in lead.items())
        said = ", ".join(f"{column.title} {lead[column.key]:+.3f}" for column in MEASURES if column.key in lead)
        found.append({"asked": f"{where}: first of all methods", "measured": f"ahead of the next by {said}", "met": met})
        gain = f"smallest gain {ours['gain']:+.2f} dB"
        found.append({"asked": f"{where}: no field below its input", "measured": gain, "met": ours["gain"] >= 0})
        times = max(ours[key] / max(float(share), 1e-6) for key, share in zip(PATTERNS, clean, strict=True))
        found.append(
            {
                "asked": f"{where}: patterns of period 2 at most twice those of the clean fields",
                "measured": f"at most {times:.2f} times",
                "met": times <= 2,
            }
        )
    return found


PATTERNS = ("checkerboard", "rows", "columns")


def _possible(reference: Counts) -> tuple[float, float, float]:
    """A reference's own noise in CH2 and CH3, and the PSNR in dB that the noise-free truth would have against it."""
    ch2, ch3 = incoherent_noise(counts_to_unit(reference), HIGH_FREQUENCY)
    return ch2, ch3, float(-10 * np.log10(max((ch2**2 + ch3**2) / 2, 1e-12)))


def _too_noisy(one: FieldSet, degraded: Sequence[Row]) -> str:
    """Which references have more noise than was added, so that to be near to them is no merit; "" when none has."""
    worse = [
        f"{name} ({possible:.1f} dB against {row['psnr']:.1f})"
        for (name, counts), row in zip(one.fields.items(), degraded, strict=True)
        if (possible := _possible(counts)[2]) < row["psnr"]
    ]
    if not worse:
        return ""
    return (
        f"Not nearly clean, for this strength: {', '.join(worse)}. There the noise-free truth itself would be farther from "
        "the reference than the input is, because the reference's own noise exceeds what was added: whoever takes it away is "
        "charged for it, and these numbers do not tell who restores best."
    )


def _own_noise(sets: Sequence[FieldSet]) -> Table:
    """How noisy each reference is, and what PSNR that leaves possible."""
    rows = []
    for one in sets:
        for name, counts in one.fields.items():
            unit = counts_to_unit(counts)
            ch2, ch3, possible = _possible(counts)
            rows.append(
                {
                    "set": one.title,
                    "field": name,
                    "ch2": ch2,
                    "ch3": ch3,
                    "psnr": possible,
                    "difference": -10 * np.log10(max(ch2**2 + ch3**2, 1e-12)),
                    **period_2_amplitudes(unit)._asdict(),
                }
            )
    return Table(
        "The references' own noise",
        (
            Column("set", "Set"),
            Column("field", "Field"),
            Column("ch2", "Noise of CH2", ".4f"),
            Column("ch3", "Noise of CH3", ".4f"),
            Column("psnr", "PSNR of the truth (dB)", ".1f"),
            Column("difference", "PSNR of its CH3 - CH2 (dB)", ".1f"),
            Column("checkerboard", "Checkerboard", ".5f"),
            Column("rows", "Rows", ".5f"),
            Column("columns", "Columns", ".5f"),
        ),
        rows,
        f"Noise in unit intensity: the power above {HIGH_FREQUENCY} cycles a pixel that the other channel does not share, so "
        "structure of one channel alone counts as noise. Against a reference with this noise, the noise-free truth itself "
        "would have the PSNR that is given; whoever comes near it has to guess the reference's noise.",
    )


def _sharing(bench: Bench, methods: Sequence[Method], patches: Mapping[str, Counts]) -> Table:
    """What the channels share of the residual of patches as they were scanned, by method and band."""
    scanned = dict(enumerate(patches.values()))
    rows = []
    for method in methods:
        restored = PhantomRestorer(bench, method, images=tiles_sha256(scanned.values()))(scanned)
        images = np.stack([counts_to_unit(one.counts) for one in restored.values()])
        shares = residual_sharing(np.stack([counts_to_unit(one) for one in scanned.values()]), images)
        amplitudes = np.mean([period_2_amplitudes(image) for image in images], axis=0)
        rows.append(
            {
                "method": method.name,
                **{f"band {band}": share for band, share in enumerate(shares)},
                **dict(zip(PATTERNS, amplitudes.tolist(), strict=True)),
            }
        )
        bench.report("patches as scanned", len(rows), len(methods))
    return Table(
        f"Tissue taken or likeness made in {len(patches)} patches as scanned",
        (
            Column("method", "Method"),
            *(Column(f"band {i}", f"{low} to {high} cycles a px", "+.3f") for i, (low, high) in enumerate(SHARING_BANDS)),
            *(Column(key, key.capitalize(), ".5f") for key in PATTERNS),
        ),
        rows,
        "What the two channels share of the residual, over what they share of the input, with 95 % intervals over blocks of "
        "64 px. Noise of two channels is independent, so what they share in what was taken away was tissue (above 0); below "
        "0 the restoration has made the channels alike, as the best estimate does, too, where it has to draw one channel's "
        "structure from both. No reference is needed: these patches' own noise makes a PSNR "
        "against them meaningless.",
    )
