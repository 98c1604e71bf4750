"""Steps: too few and too many of them (the paper's Figure 3), and how many the calibrator asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from srh_clinic.intensity import Counts, counts_to_unit
from srh_clinic.metrics import (
    mean_with_interval,
    nuclei_changes,
    psnr,
)
from srh_clinic.rscd.settings import RSCDSettings
from srh_clinic.validation.bench.bench import chunks
from srh_clinic.validation.bench.cells import Row
from srh_clinic.validation.bench.methods import WHOLE, Method
from srh_clinic.validation.benchmarks.tables import Cells, Tables, truth_panels
from srh_clinic.validation.reporting.figures import Panel, histogram, image_grid
from srh_clinic.validation.reporting.report import Column, Figure, Report, Table

SWEEP = ("0", "t/2", "t", "2t", "190")
"""Steps run where the calibrator asks for t."""


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
        [*(Panel(made[name][i], f"{name}: {steps[name][i]} steps") for name in SWEEP), *truth_panels(tables.images.image(i))]
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


def predicted_steps(tables: Tables, cells: Cells) -> Figure:
    """Histogram of the steps first asked for, which says whether the denoiser's T' of 200 is enough."""
    values: dict[str, list[float]] = defaultdict(list)
    for index, cell in cells[WHOLE].items():
        values[tables.images.image(index).group or "images"].append(float(cell["predicted"]))
    above = sum(one > 200 for group in values.values() for one in group)
    caption = f"{above} of {len(cells[WHOLE])} images ask for more than the denoiser was trained for."
    drawn = histogram(values, 200, "steps asked for by the first calibration", "T' = 200")
    return Figure("predicted_steps", "Steps that the calibrator asks for", caption, drawn)
