"""Commands that measure: speed, the protocol, the guards, the paper's tables, and how often intervals hold."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srh_clinic.cli.options import (
    BundleOption,
    ChannelsOption,
    DataOption,
    DeviceOption,
    FullScaleOption,
    PlaneOption,
    RatersSeedOption,
    ReportsOption,
    UmPerPxOption,
    WeightsOption,
    guarded,
    shown_progress,
)
from srh_clinic.cli.output import Terminal, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srh_clinic.validation import Report

benchmark_app = typer.Typer(help="How good and how fast it is, measured on this machine.", no_args_is_help=True)

SizesOption = Annotated[list[int], typer.Option(help="Edge of a slide whose peak memory is measured; can be repeated.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Use only this many test phantoms, the first.")]
PresetOption = Annotated[
    str, typer.Option(help="Extent: quick (half an hour on two cores) or full (as in the protocol; hours).")
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option("--method", help="Only this method beside the input and RSCD; can be repeated. By default all."),
]
OwnImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of images instead of phantoms; with the folders low and high inside, pairs."),
]
FieldsOption = Annotated[Path | None, typer.Option("--reference", help="Folder of high-quality images of other fields.")]
SeverityOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Treat the images as clean and degrade them at this severity.")
]
StackOption = Annotated[Path | None, typer.Option("--stack", help="A z-stack to show beside the simulated ones.")]
ExtractorOption = Annotated[str, typer.Option(help="Feature extractor of KID, Frechet distance and MMD.")]
ExtractorWeightsOption = Annotated[Path | None, typer.Option(help="Weights of the extractor; efficientnet_lite0 has its own.")]
LpipsOption = Annotated[
    Path | None, typer.Option(help="Weights of AlexNet's feature layers for LPIPS; by default $SRH_LPIPS_WEIGHTS.")
]


@benchmark_app.command("speed")
@guarded
def benchmark_speed(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    device: DeviceOption = "auto",
    tiles: Annotated[int, typer.Option(min=1, help="Number of tiles to time.")] = 16,
    size: SizesOption = [2048, 8192],  # noqa: B006 - typer's
) -> None:
    """Tiles per second, seconds outside the networks, operations per tile, and peak memory by size of the slide."""
    from srh_clinic.validation import run_speed

    with shown_progress() as progress:
        report = run_speed(out, bundle=bundle, device=device, tiles=tiles, sizes=tuple(size), report=progress)
    _print_reports([report], out)


@benchmark_app.command("slide")
@guarded
def benchmark_slide(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    size: Annotated[list[int], typer.Option(help="Edge of a slide in pixels; can be repeated.")] = [2048, 4096, 6000, 12000],  # noqa: B006 - typer's
    before: Annotated[str, typer.Option(metavar="COMMIT", help="The build to compare with.")] = "f735bc6",
    repository: Annotated[Path, typer.Option(help="The git repository that has it.")] = Path(),
    float32_at: Annotated[int, typer.Option(help="Size at which float32 is measured too.")] = 6000,
    tiles: Annotated[int, typer.Option(min=1, help="Tiles that the naive loop restores, at most 32.")] = 32,
) -> None:
    """Whole slides from file to result, beside an earlier build and a naive loop; goes on when called again."""
    from srh_clinic.validation import run_slide

    with shown_progress() as progress:
        made = run_slide(
            out,
            bundle=bundle,
            sizes=tuple(size),
            before=before,
            repository=repository,
            float32_at=float32_at,
            tiles=tiles,
            report=progress,
        )
    for row in made["slides"]:
        whole = f", {row['float32']['speedup_vs_before']:.1f} times in float32" if "float32" in row else ""
        tell(
            f"{row['size']} px: {row['wall_s']:.1f} s, of them {row['outside_forward_s']:.1f} s outside forward passes; "
            f"{row['speedup_vs_before']:.1f} times as fast as {before}{whole}, {row['speedup_vs_naive']:.1f} times as the "
            f"naive loop restores alone, which by our restoring alone is {row['restoring_vs_naive']:.1f} times; "
            f"{row['evaluations_per_tile']:.2f} evaluations, {row['gflop_per_tile']:.1f} GFLOP a tile; "
            f"{row['peak_mb']:.0f} MB"
        )
    apart, training = made["bf16_against_float32"], made["training"]
    tell(
        f"bf16 beside float32: {apart['float32_over_bf16']:.2f} times as fast, the same steps in {apart['same_steps']:.1%} of "
        f"{apart['tiles']} tiles, counts {apart['rms_counts']:.1f} apart (rms)"
    )
    tell(
        f"A training step by the engine: {training['speedup']:.2f} times as fast, "
        f"{training['peak_mb_engine'] / training['peak_mb_float32']:.2f} of the memory"
    )
    tell(out / "slide.json")


@benchmark_app.command("writing")
@guarded
def benchmark_writing(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    size: Annotated[int, typer.Option(min=256, help="Edge of the slide in pixels.")] = 6000,
) -> None:
    """What DICOM objects, OME-TIFF, QuPath's files and FHIR of a slide cost beside its diagnosis, in one process."""
    from srh_clinic.validation import run_writing

    with shown_progress() as progress:
        made = run_writing(out, bundle=bundle, size=size, report=progress)
    for name, seconds in made["seconds"].items():
        tell(f"{name}: {seconds:.1f} s, {made['megabytes'][name]:.2f} MB")
    tell(
        f"{size} px: {made['share']:.1%} of the {made['wall_s']:.0f} s of the diagnosis, {made['more_mb']:.0f} MB more; "
        f"heat maps, segmentation, annotations and report {made['megabytes']['maps_and_report']:.2f} MB"
    )
    tell(out / "writing.json")


@benchmark_app.command("protocol")
@guarded
def benchmark_protocol(
    part: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...", help="Parts to make: restoration, calibrator, classifier, seams, real; by default all."
        ),
    ] = None,
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    device: DeviceOption = "auto",
    limit: LimitOption = None,
    limit_slow: Annotated[int | None, typer.Option(help="Use only this many for the samplers that take every step.")] = None,
    stride: Annotated[
        list[int] | None, typer.Option(help="A further stride of the ddim sampler to compare; can be repeated.")
    ] = None,
    real_data: Annotated[Path | None, typer.Option(help="Folder of real images; by default $SRH_REAL_DATA.")] = None,
) -> None:
    """Make the reports that docs/protocol.yaml defines; an interrupted run goes on when called again."""
    from srh_clinic.validation import BenchmarkOptions, run_benchmark

    options = BenchmarkOptions(limit=limit, limit_slow=limit_slow, strides=stride or (), real_data=real_data)
    with shown_progress() as progress:
        reports = run_benchmark(
            "protocol", out, only=part or None, options=options, bundle=bundle, device=device, report=progress
        )
    _print_reports(reports, out)


@benchmark_app.command("guards")
@guarded
def benchmark_guards(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    limit: LimitOption = None,
) -> None:
    """How much of what was invented the guards find, and whether their promise holds on other phantoms."""
    from srh_clinic.validation import run_guards

    with shown_progress() as progress:
        report = run_guards(out, limit=limit, bundle=bundle, weights=weights, device=device, report=progress)
    _print_reports([report], out)


@benchmark_app.command("judging")
@guarded
def benchmark_judging(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    method: MethodsOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Use this many test phantoms, the first.")] = 12,
) -> None:
    """How near the PSNR that judge estimates without a reference comes to the true one, on phantoms."""
    from srh_clinic.validation import run_judging

    with shown_progress() as progress:
        report = run_judging(out, limit=limit, methods=method, bundle=bundle, weights=weights, device=device, report=progress)
    _print_reports([report], out)


@benchmark_app.command("realism")
@guarded
def benchmark_realism(
    *,
    out: ReportsOption = Path("reports"),
    real: Annotated[Path, typer.Option(help="Folder of RGB patches (CH3 - CH2, CH2, CH3) as PNG.")],
) -> None:
    """Compare phantoms with real patches: spectra, histograms, nuclear sizes, and a figure that shows both."""
    from srh_clinic.validation import write_report
    from srh_clinic.validation.benchmarks.realism import realism

    report = realism(real, out)
    write_report(report, out)
    _print_reports([report], out)


@benchmark_app.command("real")
@guarded
def benchmark_real(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    plane: PlaneOption = None,
    method: MethodsOption = None,
    images: Annotated[Path | None, typer.Option(help="Folder of nearly clean fields of your own.")] = None,
    halved: Annotated[
        bool, typer.Option("--halved", help="Average the fields over 2 x 2 px, which halves their noise.")
    ] = False,
    real_data: Annotated[Path | None, typer.Option(help="Folder of real images; by default $SRH_REAL_DATA.")] = None,
) -> None:
    """Restore nearly clean real fields under simulated noise; an interrupted run goes on when called again."""
    from srh_clinic.slide import Reading
    from srh_clinic.validation import run_near_clean

    with shown_progress() as progress:
        report = run_near_clean(
            out,
            images=images,
            halved=halved,
            reading=Reading(um_per_px, full_scale, channels, plane),
            methods=method,
            real_data=real_data,
            bundle=bundle,
            weights=weights,
            device=device,
            report=progress,
        )
    _print_reports([report], out)


@benchmark_app.command("networks")
@guarded
def benchmark_networks(
    out: ReportsOption = Path("reports"),
    data: DataOption = "phantom",
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of the network in the package; the others get as many operations.")
    ] = 1000,
) -> None:
    """Compare compact denoisers at equal training operations; an interrupted run goes on when called again."""
    from srh_clinic.validation import write_report
    from srh_clinic.validation.benchmarks.networks import compare_networks

    with shown_progress() as progress:
        report = compare_networks(data, out / "networks", steps=steps, report=progress)
    write_report(report, out)
    _print_reports([report], out)


def _tables_command(name: str, parts: tuple[str, ...], says: str) -> None:
    """Register ``benchmark NAME``, which makes some parts of the paper's tables."""

    @benchmark_app.command(name, help=f"{says}; an interrupted run goes on when called again.")
    @guarded
    def run(
        out: ReportsOption = Path("reports"),
        bundle: BundleOption = "phantom-demo",
        weights: WeightsOption = Path("weights"),
        device: DeviceOption = "auto",
        um_per_px: UmPerPxOption = None,
        full_scale: FullScaleOption = None,
        channels: ChannelsOption = None,
        plane: PlaneOption = None,
        preset: PresetOption = "quick",
        method: MethodsOption = None,
        images: OwnImagesOption = None,
        reference: FieldsOption = None,
        severity: SeverityOption = None,
        stack: StackOption = None,
        extractor: ExtractorOption = "efficientnet_lite0",
        extractor_weights: ExtractorWeightsOption = None,
        lpips_weights: LpipsOption = None,
    ) -> None:
        from srh_clinic.slide import Reading
        from srh_clinic.validation import BenchmarkOptions, OwnImages, run_benchmark

        options = BenchmarkOptions(
            preset=preset,
            methods=method,
            own=None if images is None else OwnImages(images, reference, severity),
            stack=stack,
            reading=Reading(um_per_px, full_scale, channels, plane),
            weights=weights,
            extractor=extractor,
            extractor_weights=extractor_weights,
            lpips_weights=lpips_weights,
        )
        with shown_progress() as progress:
            reports = run_benchmark("tables", out, only=parts, options=options, bundle=bundle, device=device, report=progress)
        _print_reports(reports, out)
        tell(out / ("tables.html" if len(reports) > 1 else f"{reports[0].name}.html"))


TABLES = {
    "unpaired": "Table 1: restored images against high-quality ones of other fields, with Figures 1 and 4",
    "near-registered": "Table 2: restored images against a second acquisition, with Figure 5",
    "downstream": "Figure 7: classification before and after, by method",
    "sweep": "Figure 3: fewer and more steps than the calibrator asks for",
    "zstack": "Figure 8: quality over depth",
}
"""Parts of the paper's tables, each with a command of its name, and what they show."""

for _part, _says in TABLES.items():
    _tables_command(_part, (_part,), _says)
_tables_command("all", tuple(TABLES), "All tables and figures of the paper")


@benchmark_app.command("cell")
@guarded
def benchmark_cell(
    method: Annotated[str, typer.Argument(help="Name of a method in the tables.")],
    index: Annotated[int, typer.Argument(help="Number of a phantom in the tables.")],
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    lpips_weights: LpipsOption = None,
) -> None:
    """Compute one cell of the phantoms' tables anew from its seed, and print it as JSON."""
    from srh_clinic.validation import run_cell

    row = run_cell(method, index, bundle=bundle, weights=weights, device=device, lpips_weights=lpips_weights)
    typer.echo(json_text.dumps(row, indent=2))


@benchmark_app.command("shift")
@guarded
def benchmark_shift(
    out: ReportsOption = Path("reports"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated cohorts.")] = 0,
    cohorts: Annotated[int, typer.Option(min=2, help="Number of simulated cohorts for each truth.")] = 300,
) -> None:
    """How often the intervals of validate contain the truth, on simulated cohorts whose truth is known."""
    from srh_clinic.validation import run_shift_coverage

    with shown_progress() as progress:
        report = run_shift_coverage(out, cohorts=cohorts, seed=seed, report=progress)
    _print_reports([report], out)


@benchmark_app.command("raters")
@guarded
def benchmark_raters(
    out: ReportsOption = Path("reports"),
    seed: RatersSeedOption = 0,
    studies: Annotated[int, typer.Option(min=1, help="Number of simulated studies for each truth.")] = 200,
) -> None:
    """How often the interval of a rater study contains the truth, with simulated raters."""
    from srh_clinic.validation import run_study_coverage

    _print_reports([run_study_coverage(out, studies, seed)], out)


@benchmark_app.command("reading")
@guarded
def benchmark_reading(
    slide: Annotated[
        Path | None, typer.Option(help="A DICOM slide in one file; by default noise, written as JPEG-LS.")
    ] = None,
    edge: Annotated[int, typer.Option(min=512, help="Edge in pixels of the slide that is made.")] = 6000,
    regions: Annotated[int, typer.Option(min=1, help="Random regions of 256 px, of both channels.")] = 150,
) -> None:
    """Reading of regions, and opening, beside wsidicom where it is installed; seconds of the processor and their ratios."""
    from srh_clinic.validation.benchmarks.reading import run_reading

    found = run_reading(slide, edge, regions)
    for name, one in found.items():
        typer.echo(f"{name}: opening {one.open_s:.3f} s, {regions} regions {one.cold_s:.3f} s, again {one.warm_s:.3f} s")
    if "wsidicom" not in found:
        typer.echo("wsidicom is not installed (pip install wsidicom): nothing to compare with")
        return
    ours, theirs = found["srh-clinic"], found["wsidicom"]
    typer.echo(
        f"speed as a multiple of wsidicom's: {theirs.cold_s / ours.cold_s:.2f}, again {theirs.warm_s / ours.warm_s:.2f}"
    )


def _print_reports(reports: Sequence[Report], out: Path) -> None:
    from srh_clinic.validation import rich_tables

    console = Terminal()
    for report in reports:
        for table in rich_tables(report, console.width):
            console.print(table)
        console.print(f"{out / report.name}.md", soft_wrap=True)
