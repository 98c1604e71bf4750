"""The paper's Figure 8: quality by depth, on simulated blocks of tissue and on a user's own z-stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import (
    Finding,
    bootstrap_interval,
    kid,
    mean_with_interval,
    paired_difference,
    spectrum_distance,
)
from srh_clinic.simulation import simulate_z_stack
from srh_clinic.validation.bench.bench import PhantomRestorer, steps_asked
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.bench.images import Image, cut, tiles_sha256, told_orders
from srh_clinic.validation.bench.methods import METHODS, WHOLE
from srh_clinic.validation.bench.protocol import Protocol
from srh_clinic.validation.benchmarks.tables import NO_REFERENCE_NEEDED, Fewer, Tables, truth_panels, without_reference
from srh_clinic.validation.reporting.figures import Panel, curves, image_grid
from srh_clinic.validation.reporting.report import Column, Figure, Report, Table

if TYPE_CHECKING:
    from srh_clinic.integration import FocalPlane

DEPTHS_UM = (0.0, 25.0, 50.0, 75.0, 100.0, 125.0, 150.0, 175.0, 200.0, 250.0)
"""Depths of a simulated stack: the paper's figure has ten as well."""


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
    def channel_orders(self) -> None:
        """They come from no file."""
        return None

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
    quantities: dict[str, dict[str, list[Finding]]] = defaultdict(lambda: defaultdict(list))
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
        [
            Panel(images.image(i).counts, images.image(i).name),
            Panel(seen[i].counts, "restored"),
            *truth_panels(images.image(i)),
        ]
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
    return Report("zstack", "Figure 8: depth", summary, tuple(drawn), _made(tables, real), figures)


def _made(tables: Tables, stack: Stack | None) -> dict[str, Any]:
    """How the report was made; of a user's stack with its channels."""
    return tables.provenance() | ({} if stack is None else {"stack_channel_orders": stack.channel_orders})


def _real_stack(tables: Tables, stack: Stack) -> tuple[Table, Figure]:
    """A user's stack, of which nobody knows the truth: what the calibrator asks for before and after, and pictures."""
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


@dataclass(frozen=True)
class Stack:
    """A user's z-stack by its name: planes of :func:`~srh_clinic.integration.read_z_stack`, at the protocol's pixel size."""

    name: str
    planes: tuple[FocalPlane, ...]

    @property
    def channel_orders(self) -> str | None:
        """Which channels of its files are CH2 and CH3, and why."""
        return told_orders(plane.slide.identity.channel_order for plane in self.planes)
