"""The paper's other findings on the same images: diagnoses (Figure 7), steps (Figure 3) and depth (Figure 8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import (
    Interval,
    bootstrap_interval,
    kid,
    mean_with_interval,
    nuclei_changes,
    paired_difference,
    proportion,
    psnr,
    spectrum_distance,
)
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.simulation import simulate_z_stack
from srh_clinic.validation.bench.bench import PhantomRestorer, chunks, steps_asked
from srh_clinic.validation.bench.images import Image, tiles_sha256
from srh_clinic.validation.bench.methods import METHODS, WHOLE, Method
from srh_clinic.validation.bench.protocol import Protocol
from srh_clinic.validation.benchmarks.downstream_section import OUTCOMES, outcome
from srh_clinic.validation.benchmarks.tables import NO_REFERENCE_NEEDED, Fewer, Row, Stack, Tables, without_reference
from srh_clinic.validation.reporting.figures import Panel, curves, histogram, image_grid, outcome_bars
from srh_clinic.validation.reporting.report import Column, Figure, Report, Table

Cells = Mapping[str, Mapping[int, Row]]

SWEEP = ("0", "t/2", "t", "2t", "190")
"""Steps run where the calibrator asks for t."""

DEPTHS_UM = (0.0, 25.0, 50.0, 75.0, 100.0, 125.0, 150.0, 175.0, 200.0, 250.0)
"""Depths of a simulated stack: the paper's figure has ten as well."""

PAPER_SHARES = "Paper: more than 50 % non-diagnostic and 26 % wrong as scanned; after RSCD more than 75 % correct, 6 % wrong."


def downstream(tables: Tables, cells: Cells) -> Report:
    """Figure 7: what the classifier says of the images as scanned and restored by each method."""
    truths = {i: tables.images.image(i).truth for i in tables.images.indices}
    rows = []
    for name, made in cells.items():
        results = [outcome(truths[i], cell["said"]) for i, cell in made.items() if truths[i]]
        if results:
            row: Row = {"method": name, "n": len(results)}
            row |= {one: proportion(results.count(one), len(results)) for one in OUTCOMES}
            row["nondiagnostic"] = proportion(sum(c["said"] == "nondiagnostic" for c in made.values()), len(made))
            rows.append(row)
    columns = (
        Column("method", "Method"),
        Column("n", "n", "d"),
        *(Column(one, one.capitalize(), ".3f") for one in OUTCOMES),
        Column("nondiagnostic", "Called non-diagnostic", ".3f"),
    )
    said = [{"method": name, "n": len(made), **_said(made)} for name, made in cells.items()]
    drawn = [Table("Outcome by method", columns, rows, PAPER_SHARES)] if rows else []
    drawn.append(
        Table(
            "What was said",
            (
                Column("method", "Method"),
                Column("n", "n", "d"),
                *(Column(c, c, "d") for c in ("tumor", "normal", "nondiagnostic")),
            ),
            said,
        )
    )
    figures = [Figure("outcomes", "Diagnosis by method", "As Figure 7 of the paper.", outcome_bars(rows))] if rows else []
    summary = (
        f"{tables.images.title}. Wrong is a confident class that is not the truth, blood called tumor among them; missed is "
        "readable tissue called non-diagnostic. Intervals are exact (Clopper-Pearson, 95 %)."
    )
    title = "Figure 7: diagnosis before and after"
    return Report("downstream", title, summary, tuple(drawn), tables.provenance(), figures)


def _said(made: Mapping[int, Row]) -> dict[str, int]:
    return {one: sum(cell["said"] == one for cell in made.values()) for one in ("tumor", "normal", "nondiagnostic")}


def sweep(tables: Tables, cells: Cells, count: int) -> Report:
    """Figure 3: fewer and more steps than the calibrator asks for."""
    every = [i for i in tables.images.indices if cells[WHOLE][i]["predicted"]]
    chosen = [every[place * len(every) // min(count, len(every))] for place in range(min(count, len(every)))]
    asked = {i: min(cells[WHOLE][i]["predicted"], RSCDSettings().cap + 1) for i in chosen}
    steps = {
        "0": dict.fromkeys(chosen, 0),
        "t/2": {i: max(t // 2, 1) for i, t in asked.items()},
        "t": asked,
        "2t": {i: min(2 * t, RSCDSettings().cap) for i, t in asked.items()},
        "190": dict.fromkeys(chosen, 190),
    }
    made = {name: dict(_at_steps(tables, wanted)) for name, wanted in steps.items()}
    rows = [{"steps": name, "n": len(chosen), **_against_truth(tables, made[name])} for name in SWEEP]
    columns = (
        Column("steps", "Steps"),
        Column("n", "n", "d"),
        Column("psnr", "PSNR (dB)", ".2f"),
        Column("nuclei_added", "Nuclei added per mm2", ".1f"),
        Column("nuclei_removed", "Nuclei removed per mm2", ".1f"),
    )
    shown = [i for i in chosen if tables.images.image(i).truth == "tumor"][:: max(1, len(chosen) // 8)][:3] or chosen[:3]
    grid = [
        [*(Panel(made[name][i], f"{name}: {steps[name][i]} steps") for name in SWEEP), *_truth(tables.images.image(i))]
        for i in shown
    ]
    figures = [Figure("sweep", "Too few steps, enough, too many", "As Figure 3 of the paper.", image_grid(grid))]
    drawn = [Table("By steps run", columns, rows)] if "psnr" in rows[0] else []
    summary = (
        f"{len(chosen)} images in one round of DDIM with fewer and more steps than the t that the calibrator asks for. Too "
        "few leave noise, too many wear structure away and invent."
    )
    return Report("sweep", "Figure 3: steps", summary, tuple(drawn), tables.provenance(), figures)


def _at_steps(tables: Tables, wanted: Mapping[int, int]) -> Iterator[tuple[int, Counts]]:
    """Images after so many steps each."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, steps in wanted.items():
        groups[steps].append(index)
    for steps, members in sorted(groups.items()):
        if steps == 0:
            yield from ((i, tables.images.image(i).counts) for i in members)
            continue
        method = Method(f"rscd_fixed_{steps}", "rscd", {"sampler": "ddim", "fixed_steps": steps})
        with tables.restorer(method) as restorer:
            for part in chunks(members):
                made = restorer({i: tables.images.image(i).counts for i in part})
                yield from ((i, one.counts) for i, one in made.items())
        tables.bench.report(f"steps: {steps}", 1, 1)


def _against_truth(tables: Tables, made: Mapping[int, Counts]) -> Row:
    found: dict[str, list[float]] = defaultdict(list)
    for index, counts in made.items():
        image = tables.images.image(index)
        if image.clean is not None:
            shown, clean = counts_to_unit(counts), counts_to_unit(image.clean)
            changes = nuclei_changes(shown, clean, tables.images.um_per_px, truth=image.nuclei)
            found["psnr"].append(psnr(shown, clean))
            found["nuclei_added"].append(changes.added_per_mm2)
            found["nuclei_removed"].append(changes.removed_per_mm2)
    return {name: mean_with_interval(values, **tables.intervals) for name, values in found.items()}


def _truth(image: Image) -> list[Panel]:
    return [] if image.clean is None else [Panel(image.clean, "truth")]


def gallery(tables: Tables) -> Figure:
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
        rows.append([Panel(image.counts, title), Panel(made[index].counts, "restored"), *_truth(image)])
    caption = "As scanned and restored, by the source of degradation that leads. As Figure 1 of the paper."
    return Figure("gallery", "Sources of degradation", caption, image_grid(rows))


def predicted_steps(tables: Tables, cells: Cells) -> Figure:
    """Histogram of the steps first asked for, which says whether the denoiser's T' of 200 is enough."""
    values: dict[str, list[float]] = defaultdict(list)
    for index, cell in cells[WHOLE].items():
        values[tables.images.image(index).group or "images"].append(float(cell["predicted"]))
    above = sum(one > 200 for group in values.values() for one in group)
    caption = f"{above} of {len(cells[WHOLE])} images ask for more than the denoiser was trained for."
    drawn = histogram(values, 200, "steps asked for by the first calibration", "T' = 200")
    return Figure("predicted_steps", "Steps that the calibrator asks for", caption, drawn)


@dataclass(frozen=True)
class StackImages:
    """Slices of simulated z-stacks as a set of images: stack by stack, from the surface down."""

    protocol: Protocol
    stacks: int

    FIRST_SEED = 9_700_000

    @property
    def title(self) -> str:
        return f"{self.stacks} simulated blocks of tissue at {len(DEPTHS_UM)} depths"

    @property
    def sha256(self) -> str:
        return f"{self.protocol.phantoms_sha256} z-stacks {DEPTHS_UM}"

    @property
    def um_per_px(self) -> float:
        return self.protocol.phantoms.um_per_px

    @property
    def indices(self) -> Sequence[int]:
        return range(self.stacks * len(DEPTHS_UM))

    def image(self, index: int) -> Image:
        return self._simulated(index)

    @cached_property
    def _simulated(self) -> Callable[[int], Image]:
        return lru_cache(maxsize=None)(self._simulate)

    def _simulate(self, index: int) -> Image:
        stack, slice_ = divmod(index, len(DEPTHS_UM))
        readable = self.protocol.truth.tumor + self.protocol.truth.normal
        tissues = [kind for kind in self.protocol.phantoms.kinds if kind in readable]
        kind = tissues[stack % len(tissues)]
        block = simulate_z_stack(kind, [DEPTHS_UM[slice_]], self.FIRST_SEED + stack, self.protocol.phantoms.size)
        name = f"{kind.replace('_', ' ')} at {DEPTHS_UM[slice_]:g} um"
        return Image(name, block.counts[0], block.clean[0], block.nuclei[0], block.diagnosis, f"{DEPTHS_UM[slice_]:g}")

    def references(self) -> Iterator[Counts]:
        return (self.protocol.reference(index) for index in range(self._references))

    @property
    def references_sha256(self) -> str:
        return f"{self.sha256} {self.protocol.tables.reference.first_seed} {self._references}"

    @property
    def _references(self) -> int:
        return min(self.stacks * len(DEPTHS_UM), self.protocol.tables.reference.count)

    def second_acquisition(self, index: int) -> Counts | None:
        return None


def z_stack(tables: Tables, stacks: int, real: Stack | None = None) -> Report:
    """Figure 8: quality by depth, as scanned and restored slice by slice.

    Parameters
    ----------
    stacks
        Simulated blocks of tissue.
    real
        A user's stack, shown beside them.
    """
    images = StackImages(tables.bench.protocol, stacks)
    of_stacks = replace(tables, images=images, methods=(METHODS["input"], METHODS[WHOLE]), fewer=Fewer())
    cells = of_stacks.cells()
    reference = of_stacks.reference_features()
    features = {name: of_stacks.features(METHODS[name]) for name in cells}
    rows: list[Row] = []
    quantities: dict[str, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))
    for place, depth in enumerate(DEPTHS_UM):
        members = [i for i in images.indices if i % len(DEPTHS_UM) == place]
        row: Row = {"depth": depth, "n": len(members)}
        row["predicted"] = float(np.mean([cells[WHOLE][i]["predicted"] for i in members]))
        for name, made in cells.items():
            vectors, spectra = features[name].vectors[members], features[name].spectra[members]
            found = {
                "PSNR (dB)": mean_with_interval([made[i]["psnr"] for i in members], **tables.intervals),
                "Spectral distance (dB)": bootstrap_interval(
                    spectrum_distance, spectra, reference.spectra, **tables.intervals
                ),
                f"KID[{tables.extractor}]": bootstrap_interval(kid, vectors, reference.vectors, **tables.intervals),
            }
            for quantity, interval in found.items():
                quantities[quantity][name].append(interval)
                row[f"{quantity}, {name}"] = interval
        pairs = [(cells[WHOLE][i]["psnr"], cells["input"][i]["psnr"]) for i in members]
        row["gain"] = paired_difference([a for a, _ in pairs], [b for _, b in pairs], **tables.intervals)
        rows.append(row)
    digits = {"PSNR (dB)": ".2f", "Spectral distance (dB)": ".2f"}
    columns = (
        Column("depth", "Depth (um)", ".0f"),
        Column("n", "n", "d"),
        Column("predicted", "Steps asked for", ".1f"),
        *(Column(f"{q}, {name}", f"{q}, {name}", digits.get(q, ".4f")) for q in quantities for name in cells),
        Column("gain", "PSNR gained (dB)", "+.2f"),
    )
    shown = [i for i in images.indices if i // len(DEPTHS_UM) == 0][::3]
    seen = dict(of_stacks.restored(METHODS[WHOLE], shown))
    grid = [
        [Panel(images.image(i).counts, images.image(i).name), Panel(seen[i].counts, "restored"), *_truth(images.image(i))]
        for i in shown
    ]
    figures = [
        Figure(
            "depth",
            "Quality by depth",
            "As Figure 8 of the paper; bands are intervals over blocks.",
            curves(DEPTHS_UM, quantities, "depth (um)"),
        ),
        Figure("depth_images", "One block by depth", "As scanned, restored, truth.", image_grid(grid)),
    ]
    drawn = [Table("By depth", columns, rows)]
    if real is not None:
        table, figure = _real_stack(tables, real)
        drawn.append(table)
        figures.append(figure)
    summary = f"{images.title}, restored slice by slice by {WHOLE}."
    return Report("zstack", "Figure 8: depth", summary, tuple(drawn), tables.provenance(), figures)


def _real_stack(tables: Tables, stack: Stack) -> tuple[Table, Figure]:
    """A user's stack, of which nobody knows the truth: what the calibrator asks for before and after, and pictures."""
    from srh_clinic.validation.bench.images import cut

    rows, grid = [], []
    tile = tables.bench.protocol.phantoms.size
    method = METHODS[WHOLE]
    for place, plane in enumerate(stack.planes):
        tiles = list(cut(plane.slide.read(0, 0, *plane.slide.shape), tile).values())
        with PhantomRestorer(tables.bench, method, keep=True, images=tiles_sha256(tiles)) as restorer:
            made = restorer(dict(enumerate(tiles)))
        again = steps_asked(tables.bench, [one.counts for one in made.values()])
        rows.append(
            {
                "plane": place,
                "depth": plane.depth_um,
                "n": len(tiles),
                "steps_before": float(np.mean([asked for one in made.values() if (asked := one.steps_predicted) is not None])),
                "steps_after": float(np.mean(again)),
                **_mean_without_reference(tiles, "before"),
                **_mean_without_reference([one.counts for one in made.values()], "after"),
            }
        )
        middle = len(tiles) // 2
        grid.append([Panel(tiles[middle], f"plane {place}"), Panel(made[middle].counts, "restored")])
    columns = (
        Column("plane", "Plane", "d"),
        Column("depth", "Depth (um)", ".0f"),
        Column("n", "Tiles", "d"),
        Column("steps_before", "Steps asked for as scanned", ".1f"),
        Column("steps_after", "Steps asked for once restored", ".1f"),
        Column("noise_before", "Incoherent noise as scanned (counts)", ".0f"),
        Column("noise_after", "Incoherent noise restored (counts)", ".0f"),
        Column("coherence_before", "Coherence of the channels as scanned", ".2f"),
        Column("coherence_after", "Coherence of the channels restored", ".2f"),
    )
    figure = Figure("real_depth", f"{stack.name} by depth", "A tile of each plane, as scanned and restored.", image_grid(grid))
    return Table(f"{stack.name}, plane by plane", columns, rows, f"No reference exists. {NO_REFERENCE_NEEDED}"), figure


def _mean_without_reference(tiles: Sequence[Counts], when: str) -> Row:
    found = [without_reference(counts_to_unit(tile)) for tile in tiles]
    return {f"{name}_{when}": float(np.mean([one[name] for one in found])) for name in ("noise", "coherence")}
