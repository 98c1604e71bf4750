"""The command line: parse, compose, print.

Results go to stdout, progress and errors to stderr. What a user can mend ends in one sentence and exit code 2; a traceback
with exit code 1 is a defect of ours.
"""

from __future__ import annotations

import errno
import functools
import json as json_text
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar, cast

import typer
from rich.console import Console

from srh_clinic import __version__
from srh_clinic.errors import ExitCode, InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from srh_clinic.bundles import Bundle
    from srh_clinic.case.result import CaseResult
    from srh_clinic.progress import Progress
    from srh_clinic.validation import Report

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
"""What shells report for Ctrl-C."""

app = typer.Typer(
    name="srh-clinic",
    help="Restore stimulated Raman histology, then classify it as tumor, normal or non-diagnostic. "
    "Research software, not a medical device.",
    epilog="Exit codes: 0 done; 2 the call or its input is wrong; 3 done, but flagged (with --strict); 1 a defect of ours.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
bundle_app = typer.Typer(
    help="The networks: what there is, what it was trained for, whether it is whole.", no_args_is_help=True
)
app.add_typer(bundle_app, name="bundle")
benchmark_app = typer.Typer(help="How good and how fast it is, measured on this machine.", no_args_is_help=True)
app.add_typer(benchmark_app, name="benchmark")
study_app = typer.Typer(help="Blinded rater studies: export, rate, unblind, analyse.", no_args_is_help=True)
app.add_typer(study_app, name="study")
cohort_app = typer.Typer(help="Many cases at once.", no_args_is_help=True)
app.add_typer(cohort_app, name="cohort")

CaseArgument = Annotated[
    Path, typer.Argument(metavar="CASE", readable=False, help="DICOM file or folder, or a two-channel TIFF.")
]
UmPerPxOption = Annotated[float | None, typer.Option(help="Pixel size in um, where the file does not state it.")]
FullScaleOption = Annotated[
    int | None, typer.Option(help="Stored value at full scale, where the file does not state it: 4096 for 12 bits.")
]
BundleOption = Annotated[str, typer.Option(metavar="NAME|DIR", help="The networks.")]
WeightsOption = Annotated[Path, typer.Option("--weights", help="Folder of the bundles that only comparisons use.")]
RestorerOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="rscd, or to compare: none, median, gaussian, nlm, wavelet, deep_image_prior, ccdf, rrd, a baseline of a bundle.",
    ),
]
SamplerOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="How rscd steps: ancestral (the paper's), ddim or mean.")
]
ProfileOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="When rscd stops: paper-text, paper-algorithm1 or official.")
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, ...")]
ReportsOption = Annotated[Path, typer.Option(help="Folder for the reports, as Markdown and JSON.")]
BASELINES = "synthetic_noise, noise2noise, noise2void, cyclegan, conditional_diffusion"
PARTS_HELP = "restoration, calibrator, classifier, seams, real; all of them when none is named."
SeedOption = Annotated[int, typer.Option(min=0, help="Of the restorer's noise.")]


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can mend into one sentence on stderr and exit code 2, and Ctrl-C into 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            sentence = str(error)
        except OSError as error:
            sentence = _os_sentence(error)
        except KeyboardInterrupt as error:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            sentence = "found too little memory on the device; needed a device with more, or --device cpu."
        typer.echo(f"srh-clinic: {sentence}", err=True)
        raise typer.Exit(ExitCode.INPUT)

    return run


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}found no space left on the disk; needed room for the output and, for a while, the restored tiles."
    if isinstance(error, PermissionError):
        return f"{where}found no permission; needed a file or folder that this user may use."
    return f"{where}found {error.strerror or error}; needed a place that can be read and written."


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"srh-clinic {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
@guarded
def simulate(
    out: Annotated[Path, typer.Argument(help="A .dcm file, or a folder with one file per Raman shift.")],
    diagnosis: Annotated[str, typer.Option(help="tumor, normal, nondiagnostic or mixed.")] = "tumor",
    quality: Annotated[float, typer.Option(help="From 0, worst, to 1, clean.")] = 0.3,
    size: Annotated[int, typer.Option(help="Edge of the field in pixels of 0.47 um.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Of tissue and degradation.")] = 0,
) -> None:
    """Make a simulated case with a known diagnosis."""
    from srh_clinic.integration import write_wsi
    from srh_clinic.simulation import simulate_case
    from srh_clinic.slide import ArraySlide, Identity

    phantom = simulate_case(diagnosis, quality, size, seed)  # type: ignore[arg-type] # refused there if it is none of them
    identity = Identity(patient_id="PHANTOM", specimen_id=f"{diagnosis}-{seed}")
    for path in write_wsi(ArraySlide(phantom.counts, phantom.um_per_px, identity), out):
        typer.echo(path)


@cohort_app.command("simulate")
@guarded
def cohort_simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the images, one .dcm each, and manifest.csv.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients, each scanned at every depth.")] = 64,
    sites: Annotated[int, typer.Option(min=1, help="Sites that they are of; instruments differ.")] = 4,
    depth: Annotated[list[float], typer.Option(help="Depth in um; repeat.")] = [0, 75, 150],  # noqa: B006 - typer's
    size: Annotated[int, typer.Option(min=64, help="Edge of an image in pixels of 0.47 um.")] = 480,
    seed: Annotated[int, typer.Option(min=0, help="Of tissue and degradation.")] = 0,
    tissue: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Tissue of one patient after another; repeat. A usual mixture.")
    ] = None,
) -> None:
    """Make a simulated cohort with known diagnoses, and the manifest that validate takes."""
    from srh_clinic.files import check_place
    from srh_clinic.simulation.cohort import KINDS
    from srh_clinic.validation import write_cohort

    check_place(out, folder=True)
    with _progress() as progress:
        typer.echo(write_cohort(out, patients, sites, depth, size, seed, tissue or KINDS, report=progress))


@app.command()
@guarded
def convert(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", readable=False, help="A two-channel TIFF.")],
    out: Annotated[Path, typer.Argument(help="A .dcm file, or a folder with one file per Raman shift.")],
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
) -> None:
    """Make a DICOM slide of other files."""
    from srh_clinic.integration import convert as to_dicom

    for path in to_dicom(inputs, out, um_per_px=um_per_px, full_scale=full_scale):
        typer.echo(path)


@app.command()
@guarded
def restore(
    case: CaseArgument,
    out: Annotated[Path, typer.Argument(help="A .dcm file, or a folder with one file per Raman shift.")],
    bundle: BundleOption = "phantom-demo",
    restorer: RestorerOption = "rscd",
    sampler: SamplerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
) -> None:
    """Restore a case and write it as a derived DICOM slide."""
    from srh_clinic.bundles import load_bundle
    from srh_clinic.case.provenance import provenance
    from srh_clinic.case.restoring import at_pixel_size, look_over, restore_slide
    from srh_clinic.integration import read_slide, require_free_target, write_wsi
    from srh_clinic.restorers import create_restorer

    slide = read_slide(case, um_per_px, full_scale)
    require_free_target(out, slide)
    loaded = load_bundle(bundle)
    works = create_restorer(restorer, bundle=bundle, device=device, **_settings(sampler, profile))
    with _partial(out) as work, _progress() as progress:
        view, flags = at_pixel_size(slide, loaded.metadata["um_per_px"])
        restored = restore_slide(view, look_over(view), works, loaded, seed=seed, work=work, progress=progress)
        made_by = provenance(loaded, works, seed, tile=restored.grid.tile, overlap=restored.grid.overlap)
        written = write_wsi(restored.slide, out, derived_from=slide, provenance=made_by)
    for flag in flags:
        typer.echo(flag, err=True)
    for path in written:
        typer.echo(path)


@app.command()
@guarded
def diagnose(
    case: CaseArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for result.json and the pictures, replacing those there; CASE-diagnosis here, or none with --json."
        ),
    ] = None,
    bundle: BundleOption = "phantom-demo",
    restorer: RestorerOption = "rscd",
    sampler: SamplerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Also write case.html: the case to look at, offline.")] = False,
    dicom_out: Annotated[Path | None, typer.Option(help="Also write the restored slide as DICOM.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when the result carries flags.")] = False,
    conservative: Annotated[
        bool,
        typer.Option("--conservative", help="Show the original where a restored tile is flagged, and diagnose without it."),
    ] = False,
    certainty: Annotated[
        int, typer.Option(metavar="K", min=0, help="Restore under K further seeds, and say what they agree on: slow.")
    ] = 0,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Also say whether the restored diagnosis stands, the original's, or neither."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Warn when the case is unlike those of this validation."),
    ] = None,
) -> None:
    """Restore a case, classify it before and after, and show the result and where not to trust it."""
    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.files import check_place
    from srh_clinic.integration import read_slide, require_free_target, write_wsi
    from srh_clinic.trust import load_policy, load_reference

    selective = None if policy is None else load_policy(policy)
    compared = None if reference is None else load_reference(reference)
    slide = read_slide(case, um_per_px, full_scale)
    if out is None and (html or not json):
        out = Path(f"{case.resolve().stem}-diagnosis")
    if out is not None:
        check_place(out, folder=True)
    if dicom_out is not None:
        require_free_target(dicom_out, slide)
    settings = _settings(sampler, profile)
    pipeline = RestoreThenClassify.from_bundle(
        bundle, restorer, device, seed, conservative, certainty, selective_policy=selective, reference=compared, **settings
    )
    with _partial(out) as work, _progress() as progress:
        result = pipeline(slide, work=work, progress=progress)
        if out is not None:
            progress("drawing", 0, 1)
            result.save(out)
            progress("drawing", 1, 1)
        if html and out is not None:
            from srh_clinic.casepage import write_case_page

            progress("writing the page", 0, 1)
            write_case_page(result, out / "case.html", case.name)
            progress("writing the page", 1, 1)
        if dicom_out is not None:
            progress("writing DICOM", 0, 1)
            write_wsi(result.restored.slide, dicom_out, derived_from=slide, provenance=result.provenance)
            progress("writing DICOM", 1, 1)
    if json:
        typer.echo(json_text.dumps(result.to_dict()))
    else:
        Console(highlight=False).print(_panel(case.name, result, out))
    if strict and result.flags:
        raise typer.Exit(ExitCode.FLAGGED)


@app.command()
@guarded
def validate(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv",
            readable=False,
            help="Columns case, patient, truth; site, depth, subtype, severity if known.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, tables and the cases' results.")],
    bundle: BundleOption = "phantom-demo",
    restorer: RestorerOption = "rscd",
    sampler: SamplerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Try this policy of another cohort; without, one is chosen and tried."
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write report.pdf (pip install 'srh-clinic[pdf]').")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when restoration is found to harm.")] = False,
) -> None:
    """Report how restoration shifts diagnostic accuracy, for whom, and whom it harms.

    A case is a path, beside the manifest or absolute; with the columns before_tumor, before_normal, before_nondiagnostic and
    after_... it is only a name, and nothing is run. A run that was cut goes on when called again.
    """
    from srh_clinic.files import check_place
    from srh_clinic.trust.selective_policy import load_policy
    from srh_clinic.validation import Reading, validate_cohort

    check_place(out, folder=True)
    tried = None if policy is None else load_policy(policy)
    with _progress() as progress:
        report = validate_cohort(
            manifest,
            out,
            bundle=bundle,
            restorer=restorer,
            device=device,
            seed=seed,
            reading=Reading(um_per_px, full_scale),
            policy=tried,
            pdf=pdf,
            report=progress,
            **_settings(sampler, profile),
        )
    first = report.first
    for sentence in (*first.sentences, *first.warnings):
        typer.echo(sentence)
    for alarm in first.alarms:
        typer.echo(f"Restoration harms: {alarm}")
    if not first.alarms:
        typer.echo(first.calm)
    for missing in first.missing:
        typer.echo(f"Not computed. {missing}")
    typer.echo(out / "report.html")
    if strict and first.alarms:
        raise typer.Exit(ExitCode.FLAGGED)


@app.command()
@guarded
def train(
    task: Annotated[str, typer.Argument(help=f"calibrator, denoiser, classifier, or a baseline: {BASELINES}.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle that gets the network, with checkpoints and log.")],
    data: Annotated[
        str, typer.Option(metavar="DIR|phantom", help="A folder of training data, or simulated tissue.")
    ] = "phantom",
    config: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="YAML file, or one in the package: denoiser-linear, ...")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; the same call goes on from there.")] = None,
    start_from: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Begin from this bundle's network instead of random weights.")
    ] = None,
    extends: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Take what the bundle lacks from this; baselines: phantom-demo.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a network and put it into a bundle; an interrupted training goes on when called again."""
    from srh_clinic.training import train as fit

    def report(line: dict[str, Any]) -> None:
        typer.echo("  ".join(f"{name} {_short(value)}" for name, value in line.items()), err=True)

    step = fit(task, data, config, out, seconds=seconds, start_from=start_from, extends=extends, device=device, report=report)
    typer.echo(f"{out}: {task} after {step} steps")


@benchmark_app.command("speed")
@guarded
def benchmark_speed(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    device: DeviceOption = "auto",
    tiles: Annotated[int, typer.Option(min=1, help="Tiles to time.")] = 16,
    size: Annotated[list[int], typer.Option(help="Edge of a slide to take the peak memory of; repeat.")] = [2048, 8192],  # noqa: B006 - typer's
) -> None:
    """Tiles a second, seconds outside the networks, operations a tile, peak memory by size of the slide."""
    from srh_clinic.validation import run_speed

    with _progress() as progress:
        report = run_speed(out, bundle=bundle, device=device, tiles=tiles, sizes=tuple(size), report=progress)
    _print_report(report, out)


@benchmark_app.command("protocol")
@guarded
def benchmark_protocol(
    part: Annotated[list[str] | None, typer.Argument(metavar="[PART]...", help=PARTS_HELP)] = None,
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    device: DeviceOption = "auto",
    limit: Annotated[int | None, typer.Option(help="Use only the first so many test phantoms.")] = None,
    limit_slow: Annotated[int | None, typer.Option(help="And so many for the samplers that take every step.")] = None,
    stride: Annotated[list[int] | None, typer.Option(help="A further stride of the ddim sampler to compare; repeat.")] = None,
    real_data: Annotated[Path | None, typer.Option(help="Folder of real images; $SRH_REAL_DATA when not given.")] = None,
) -> None:
    """The reports that docs/protocol.yaml fixes; an interrupted run goes on when called again."""
    from srh_clinic.validation import PARTS, run_protocol

    with _progress() as progress:
        reports = run_protocol(
            out,
            only=part or PARTS,
            limit=limit,
            limit_slow=limit_slow,
            strides=stride or (),
            bundle=bundle,
            device=device,
            real_data=real_data,
            report=progress,
        )
    for report in reports:
        _print_report(report, out)


@benchmark_app.command("guards")
@guarded
def benchmark_guards(
    out: ReportsOption = Path("reports"),
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first so many test phantoms.")] = None,
) -> None:
    """What the guards find of what was invented, and whether their promise holds on other phantoms."""
    from srh_clinic.validation import run_guards

    with _progress() as progress:
        report = run_guards(out, limit=limit, bundle=bundle, weights=weights, device=device, report=progress)
    _print_report(report, out)


@benchmark_app.command("realism")
@guarded
def benchmark_realism(
    real: Annotated[Path, typer.Option(help="Folder of RGB patches (CH3 - CH2, CH2, CH3) as PNG.")],
    out: ReportsOption = Path("reports"),
) -> None:
    """Phantoms beside real patches: spectra, histograms, nuclear sizes, and a figure that shows both."""
    from srh_clinic.validation import write_report
    from srh_clinic.validation.benchmarks.realism import realism

    report = realism(real, out)
    write_report(report, out)
    _print_report(report, out)


@benchmark_app.command("networks")
@guarded
def benchmark_networks(
    data: Annotated[str, typer.Option(help="Folder of a training pool, or phantom to simulate it.")] = "phantom",
    out: ReportsOption = Path("reports"),
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of the shipped network; the others get its operations.")
    ] = 1000,
) -> None:
    """Compact denoisers at equal training operations; an interrupted run goes on when called again."""
    from srh_clinic.validation import write_report
    from srh_clinic.validation.benchmarks.networks import compare_networks

    with _progress() as progress:
        report = compare_networks(data, out / "networks", steps=steps, report=progress)
    write_report(report, out)
    _print_report(report, out)


TablePreset = Annotated[str, typer.Option(help="quick (half an hour on two cores) or full (what the protocol says; hours).")]
TableMethods = Annotated[
    list[str] | None, typer.Option("--method", help="Only this method beside the input and RSCD; repeat. All when not given.")
]
OwnImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of images instead of phantoms; with low and high inside, pairs.")
]
ReferenceOption = Annotated[Path | None, typer.Option("--reference", help="Folder of high-quality images of other fields.")]
SeverityOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Take the images for clean and degrade them at this severity.")
]
StackOption = Annotated[Path | None, typer.Option("--stack", help="A z-stack to show beside the simulated ones.")]
ExtractorOption = Annotated[str, typer.Option(help="Feature extractor of KID, Frechet distance and MMD.")]
ExtractorWeightsOption = Annotated[Path | None, typer.Option(help="Its weights; efficientnet_lite0 has its own.")]
LpipsOption = Annotated[
    Path | None, typer.Option(help="AlexNet's feature layers for LPIPS; $SRH_LPIPS_WEIGHTS when not given.")
]


def _tables_command(name: str, parts: tuple[str, ...], says: str) -> None:
    """Register ``benchmark NAME``, which makes some parts of the paper's tables."""

    @benchmark_app.command(name, help=f"{says}; an interrupted run goes on when called again.")
    @guarded
    def run(
        out: ReportsOption = Path("reports"),
        preset: TablePreset = "quick",
        method: TableMethods = None,
        images: OwnImagesOption = None,
        reference: ReferenceOption = None,
        severity: SeverityOption = None,
        stack: StackOption = None,
        um_per_px: UmPerPxOption = None,
        full_scale: FullScaleOption = None,
        bundle: BundleOption = "phantom-demo",
        weights: WeightsOption = Path("weights"),
        device: DeviceOption = "auto",
        extractor: ExtractorOption = "efficientnet_lite0",
        extractor_weights: ExtractorWeightsOption = None,
        lpips_weights: LpipsOption = None,
    ) -> None:
        from srh_clinic.validation import OwnImages, Reading, run_tables

        with _progress() as progress:
            reports = run_tables(
                out,
                only=parts,
                preset=preset,
                methods=method,
                own=None if images is None else OwnImages(images, reference, severity),
                stack=stack,
                reading=Reading(um_per_px, full_scale),
                bundle=bundle,
                weights=weights,
                device=device,
                extractor=extractor,
                extractor_weights=extractor_weights,
                lpips_weights=lpips_weights,
                report=progress,
            )
        for report in reports:
            _print_report(report, out)
        typer.echo(out / ("tables.html" if len(reports) > 1 else f"{reports[0].name}.html"))


for _name, _parts, _says in (
    ("unpaired", ("unpaired",), "Table 1: restored images against high-quality ones of other fields, with Figures 1 and 4"),
    ("near-registered", ("near-registered",), "Table 2: restored images against a second acquisition, with Figure 5"),
    ("downstream", ("downstream",), "Figure 7: classification before and after, by method"),
    ("sweep", ("sweep",), "Figure 3: fewer and more steps than asked for"),
    ("zstack", ("zstack",), "Figure 8: quality over depth"),
    ("all", ("unpaired", "near-registered", "downstream", "sweep", "zstack"), "The paper's tables and figures, all of them"),
):
    _tables_command(_name, _parts, _says)


@benchmark_app.command("cell")
@guarded
def benchmark_cell(
    method: Annotated[str, typer.Argument(help="A method of the tables.")],
    index: Annotated[int, typer.Argument(help="A phantom of the tables.")],
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    lpips_weights: LpipsOption = None,
) -> None:
    """One cell of the phantoms' tables, computed anew from its seed, as JSON."""
    from srh_clinic.validation import run_cell

    row = run_cell(method, index, bundle=bundle, weights=weights, device=device, lpips_weights=lpips_weights)
    typer.echo(json_text.dumps(row, indent=2))


def _print_report(report: Report, out: Path) -> None:
    from srh_clinic.validation import rich_tables

    console = Console(highlight=False)
    for table in rich_tables(report, console.width):
        console.print(table)
    console.print(f"{out / report.name}.md", soft_wrap=True)


@benchmark_app.command("shift")
@guarded
def benchmark_shift(
    out: ReportsOption = Path("reports"),
    cohorts: Annotated[int, typer.Option(min=2, help="Simulated cohorts for each truth.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated cohorts.")] = 0,
) -> None:
    """How often the intervals of validate hold the truth, on simulated cohorts whose truth is known."""
    from srh_clinic.validation import run_shift_coverage

    with _progress() as progress:
        report = run_shift_coverage(out, cohorts=cohorts, seed=seed, report=progress)
    _print_report(report, out)


@benchmark_app.command("raters")
@guarded
def benchmark_raters(
    out: ReportsOption = Path("reports"),
    studies: Annotated[int, typer.Option(min=1, help="Simulated studies for each truth.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated raters.")] = 0,
) -> None:
    """How often the interval of a rater study contains the truth, with simulated raters."""
    from srh_clinic.validation import run_study_coverage

    _print_report(run_study_coverage(out, studies, seed), out)


StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]


@study_app.command("export")
@guarded
def study_export(
    study: StudyArgument,
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="[CASE|DIR]...", help="Cases, or folders of images.", show_default=False)
    ] = None,
    phantom: Annotated[int | None, typer.Option(metavar="N", min=1, help="N images of simulated tissue instead.")] = None,
    kind: Annotated[str, typer.Option(help="preference: A beside B; review: one restoration, with a region to judge.")] = (
        "preference"
    ),
    preset: Annotated[str, typer.Option(help="default, or paper: every image with every baseline.")] = "default",
    restorers: Annotated[
        str, typer.Option(help="Names as of restore --restorer, by commas; the first is under test.")
    ] = "rscd,median,nlm,synthetic_noise,cyclegan,ccdf",
    raters: Annotated[int, typer.Option(min=1, help="How many rate.")] = 6,
    clinicians: Annotated[int | None, typer.Option(min=0, help="So many of them, the first, are clinicians.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Use so many images of the sources.")] = None,
    repeats: Annotated[int | None, typer.Option(min=0, help="Tasks that each rater sees twice; a tenth by default.")] = None,
    sentinels: Annotated[
        str | None,
        typer.Option(metavar="KIND=N,...", help="Tasks with known answers: same, blurred, added, removed; none for none."),
    ] = None,
    per_case: Annotated[int, typer.Option(min=1, help="At most so many images of one case.")] = 8,
    title: Annotated[str, typer.Option(help="What the raters' pages call it.")] = "Restoration of stimulated Raman histology",
    seed: Annotated[int, typer.Option(min=0, help="Of assignment and order; sides and names come from a secret.")] = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
) -> None:
    """Export a blinded study: a page for each rater, and the sealed key; audited for leaks."""
    from srh_clinic.validation import Reading, StudyPlan, export_study

    if bool(sources) == (phantom is not None):
        found = "sources and --phantom" if sources else "neither sources nor --phantom"
        raise InputError(found, "either cases and folders, or --phantom N")
    plan = StudyPlan(
        kind=cast(Any, kind),  # the plan says what it takes
        preset=cast(Any, preset),
        restorers=tuple(name.strip() for name in restorers.split(",") if name.strip()),
        raters=raters,
        clinicians=clinicians,
        images=phantom or images,
        repeats=repeats,
        sentinels=None if sentinels is None else _numbers(sentinels),
        seed=seed,
        title=title,
    )
    with _progress() as progress:
        made = export_study(
            study,
            plan,
            sources=sources or (),
            reading=Reading(um_per_px, full_scale),
            per_case=per_case,
            bundle=bundle,
            weights=weights,
            device=device,
            report=progress,
        )
    typer.echo(
        f"{made.images} images, {made.tasks} tasks, {made.tasks * made.raters_per_task} ratings by {len(made.raters)} raters"
    )
    typer.echo("; ".join(f"{what}: {spread}" for what, spread in made.imbalance.items()) + " (largest less smallest)")
    typer.echo(f"{made.notice}\nfor raters: {study / 'public'}\nsealed, for nobody yet: {study / 'sealed'}")


def _numbers(text: str) -> dict[Any, int]:
    """``added=2,same=1`` as a table; ``none`` is empty."""
    pairs = [] if text == "none" else [one.partition("=") for one in text.split(",")]
    if not all(name and number.isdigit() for name, _, number in pairs):
        raise InputError(f"the sentinels {text!r}", "KIND=N, several separated by commas, or none")
    return {name.strip(): int(number) for name, _, number in pairs}


@study_app.command("check")
@guarded
def study_check(study: StudyArgument) -> None:
    """Look for anything that tells raters methods, cases or people; exit code 2 where something does."""
    from srh_clinic.validation import check_study

    audit = check_study(study)
    for check in audit.checks:
        typer.echo(f"looked: {check}")
    for finding in audit.findings:
        typer.echo(f"LEAK: {finding}")
    if audit.findings:
        raise InputError(
            f"{len(audit.findings)} leaks", "a study whose public folder says nothing of methods, cases or people", study
        )
    typer.echo(f"{audit.tasks} tasks: no leak")


@study_app.command("serve")
@guarded
def study_serve(
    study: StudyArgument,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="A browser keeps unfinished answers by port; 0 takes a free one.")
    ] = 8733,
) -> None:
    """Offer the raters' pages to a browser on this machine, and keep their answers; Ctrl-C ends it."""
    from srh_clinic.validation import serve_study

    with serve_study(study, port) as serving:
        typer.echo(f"{serving.url} (this machine only; Ctrl-C ends it)")
        serving.wait()


@study_app.command("rehearse")
@guarded
def study_rehearse(
    study: StudyArgument, seed: Annotated[int, typer.Option(min=0, help="Of the simulated raters.")] = 0
) -> None:
    """Let simulated raters answer, to see the analysis before anybody has rated; it opens the key: use a copy."""
    from srh_clinic.validation import rehearse_study

    for path in rehearse_study(study, seed=seed):
        typer.echo(path)
    typer.echo("Simulated answers: they say nothing about any method.")


@study_app.command("unblind")
@guarded
def study_unblind(
    study: StudyArgument,
    interim: Annotated[bool, typer.Option("--interim", help="Although returns are missing; it is logged.")] = False,
    receipt: Annotated[
        list[str] | None, typer.Option(metavar="RATER=CODE", help="The code that a rater's page showed at the end.")
    ] = None,
) -> None:
    """Verify all returns and the commitment, then open the sealed key."""
    from srh_clinic.validation import unblind

    codes = {}
    for one in receipt or ():
        rater, equals, code = one.partition("=")
        if not equals:
            raise InputError(f"the receipt {one!r}", "RATER=CODE")
        codes[rater] = code
    opened = unblind(study, interim=interim, receipts=codes)
    typer.echo(f"{len(opened.answers)} answers of {len(opened.returns)} raters{', INTERIM' if opened.interim else ''}")
    typer.echo(study / "unblinded.json")


@study_app.command("analyse")
@guarded
def study_analyse(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; analysis/ in the study by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of bootstrap intervals.")] = 0,
) -> None:
    """The report of an unblinded study: preferences, hallucinations, agreement, Figure 6."""
    from srh_clinic.validation import load_unblinded, write_analysis

    typer.echo(write_analysis(load_unblinded(study), out or study / "analysis", seed)[0])


EXCHANGE = "label-studio, redcap; after unblinding coco, imrmc, kos, sr"


@study_app.command("convert")
@guarded
def study_convert(
    study: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the files.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"{EXCHANGE}.")],
    case: Annotated[
        list[Path] | None, typer.Option(help="For kos and sr: a DICOM case that the study's images come from.")
    ] = None,
) -> None:
    """Write a study, or its answers, for other programs."""
    from srh_clinic.validation import export_answers

    for path in export_answers(study, to, out, case or ()):
        typer.echo(path)


@study_app.command("import")
@guarded
def study_import(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the other program exported.")],
    source: Annotated[str, typer.Option("--from", metavar="FORMAT", help="label-studio or redcap.")],
    rater: Annotated[str, typer.Option(help="Whose answers these are.")],
) -> None:
    """Take a rater's answers from another program."""
    from srh_clinic.validation import import_answers

    typer.echo(import_answers(study, source, file, rater))


@bundle_app.command("list")
@guarded
def bundle_list() -> None:
    """Names of the bundles inside the package."""
    from srh_clinic.bundles import bundle_names

    for name in bundle_names():
        typer.echo(name)


@bundle_app.command("show")
@guarded
def bundle_show(name: Annotated[str, typer.Argument(metavar="NAME|DIR")]) -> None:
    """The model card of a bundle."""
    from rich.markdown import Markdown

    from srh_clinic.bundles import load_bundle

    loaded = load_bundle(name)
    console = Console()
    console.print(Markdown((loaded.path / "docs" / "README.md").read_text(encoding="utf-8")))
    for part in loaded.parts:
        console.print(f"{part}: in {loaded.holder(part).name}", highlight=False)
    for line in _promises(loaded):
        console.print(line, highlight=False)
    console.print(f"\nweights_sha256 {loaded.weights_sha256}\n{loaded.path}", highlight=False, soft_wrap=True)


def _promises(bundle: Bundle) -> Iterator[str]:
    """What a bundle promises of its guards."""
    from srh_clinic.case.provenance import guard_policy_of

    policy = guard_policy_of(bundle)
    if policy is None:
        yield "\nguards: no thresholds for these weights; srh-clinic bundle calibrate makes them"
        return
    yield "\nguards:"
    for promise in policy.promises:
        said = f"at most {promise.alpha:.0%} of tiles with something wrong go unflagged (confidence {promise.confidence:.0%})"
        yield f"  {said}: flags from {promise.threshold:.3f}"
    yield f"  for tiles that ask for {policy.steps[0]} to {policy.steps[1]} steps; calibrated on"
    for name, value in policy.calibration.items():
        yield f"    {name}: {value}"


@bundle_app.command("card")
@guarded
def bundle_card(
    bundle: Annotated[Path, typer.Argument(metavar="DIR")],
    reports: Annotated[
        Path | None, typer.Option(help="Folder of the reports of benchmark protocol; the trainings' logs when not given.")
    ] = None,
) -> None:
    """Write a bundle's model card anew, with what its weights scored."""
    from srh_clinic.validation.benchmarks.model_card import write_model_card

    typer.echo(write_model_card(bundle, reports).path / "docs" / "README.md")


@bundle_app.command("calibrate")
@guarded
def bundle_calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="DIR")],
    work: Annotated[Path, typer.Option(help="Folder for what is restored on the way; a run that was cut goes on from there.")],
    device: DeviceOption = "auto",
) -> None:
    """Calibrate the guards for a bundle's networks, on simulated tissue, and write their thresholds into it."""
    from srh_clinic.validation import calibrate_guards

    with _progress() as progress:
        calibrated = calibrate_guards(bundle, work, device=device, report=progress)
    for line in _promises(calibrated):
        typer.echo(line)


@bundle_app.command("verify")
@guarded
def bundle_verify(name: Annotated[str, typer.Argument(metavar="NAME|DIR")]) -> None:
    """Compare every file of a bundle with its sha256, and its networks with their weights."""
    from srh_clinic.bundles import load_bundle, verify_bundle
    from srh_clinic.classifiers import load_classifier
    from srh_clinic.restorers import RESTORERS, create_restorer

    loaded = load_bundle(name)
    for bundle in loaded.lineage:
        for file in verify_bundle(bundle.path):
            typer.echo(f"{file if bundle is loaded else f'{bundle.name}: {file}'}: as listed")
    if {"denoiser", "calibrator"} <= set(loaded.parts):
        create_restorer("rscd", bundle=name, device="cpu")
    for part in set(loaded.parts) & set(RESTORERS):
        create_restorer(part, bundle=name, device="cpu")
    if "classifier" in loaded.parts:
        load_classifier(loaded, "cpu")
    typer.echo(f"{loaded.name}: whole, with {', '.join(loaded.parts)}")


@app.command()
@guarded
def doctor() -> None:
    """What is installed, which device, which weights, what is missing and how to get it."""
    from rich.table import Table

    from srh_clinic.health import check_health

    table = Table(box=None, show_header=False, pad_edge=False)
    checks = check_health()
    for check in checks:
        table.add_row(
            "[green]ok[/]" if check.good else "[red]missing[/]" if check.needed else "[yellow]no[/]", check.name, check.found
        )
        if not check.good:
            table.add_row("", "", f"[dim]{check.remedy}[/]")
    Console(highlight=False).print(table)
    if any(check.needed and not check.good for check in checks):
        raise typer.Exit(ExitCode.INPUT)


def _settings(sampler: str | None, profile: str | None) -> dict[str, Any]:
    """The restorer's settings that were given; a restorer without them says so."""
    return {name: value for name, value in (("sampler", sampler), ("profile", profile)) if value is not None}


@contextmanager
def _partial(out: Path | None) -> Iterator[Path | None]:
    """A folder in or beside ``out`` for the restored tiles.

    It stays after Ctrl-C or a power cut, so that the same call goes on; whatever else ends a call takes away only what that
    call has put there.
    """
    if out is None:
        yield None
        return
    out = out.resolve()
    work = out / ".partial" if out.is_dir() else out.with_name(f".{out.name}.partial")
    earlier = set(work.iterdir()) if work.is_dir() else set()
    try:
        yield work
    except KeyboardInterrupt:
        if work.exists():
            typer.echo("The tiles restored so far are kept: the same command goes on from there.", err=True)
        raise
    except BaseException:
        for made in set(work.iterdir()) - earlier if work.is_dir() else ():
            shutil.rmtree(made, ignore_errors=True)
        if not earlier:
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Stages with a bar and the time that is left, on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), speed_estimate_period=600) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


REGIONS_SHOWN = 5
"""Flagged regions that the panel lists; all are in ``result.json``."""

CLASS_STYLES = {"tumor": "dark_orange3", "normal": "green", "nondiagnostic": "grey62"}
CLASS_WORDS = {"tumor": "tumor", "normal": "normal", "nondiagnostic": "non-diagnostic"}


def _panel(name: str, result: CaseResult, out: Path | None) -> RenderableType:
    """The result as a neuropathologist reads it."""
    from rich.console import Group
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    from srh_clinic.case.scrutiny import WORDS

    def word(diagnosis: str) -> str:
        return f"[bold {CLASS_STYLES[diagnosis]}]{CLASS_WORDS[diagnosis]}[/]"

    classes = Table(box=None, pad_edge=False, show_edge=False)
    classes.add_column("")
    classes.add_column("Diagnosis", min_width=14)
    for diagnosis, style in CLASS_STYLES.items():
        classes.add_column(CLASS_WORDS[diagnosis], justify="right", style=style)
    for when, diagnosis, probabilities in (
        ("as scanned", result.before.diagnosis, result.before.probabilities),
        ("after restoration", result.diagnosis, result.probabilities),
    ):
        classes.add_row(when, word(diagnosis), *(f"{probabilities[one]:.1%}" for one in CLASS_STYLES))
    if (decided := result.decision) is not None:
        classes.add_row("by the policy", word(decided.said), *("" for _ in CLASS_STYLES))

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    if decided is not None:
        stands = {"restored": "the restored image", "original": "the original", "nondiagnostic": "neither image"}[decided.use]
        facts.add_row("Policy", escape(f"the word of {stands} stands: {decided.why}"))
    tiles, steps = result.tiles, result.steps
    facts.add_row("Tiles", f"{tiles.restored} of {tiles.total} restored, {tiles.skipped} left alone, {tiles.capped} capped")
    if set(steps.stop_reasons) - {"filtered"}:
        facts.add_row(
            "Image quality", f"median {steps.median} steps of restoration, worst tenth {steps.p90} or more (0 is clean)"
        )
    for number, region in enumerate(result.rescan, start=1):
        size = f"{region.height_um:.0f} x {region.width_um:.0f} um"
        place = f"y {region.y_um:.0f}, x {region.x_um:.0f} um"
        facts.add_row("Rescan" if number == 1 else "", f"{number}. {region.where}: {size} at {place}, {region.steps} steps")
    trust = result.scrutiny
    if trust.threshold is not None:
        places = len(trust.regions)
        says = f"restored image differs from its input at {places} {'place' if places == 1 else 'places'}"
        see = f", see {escape(str(out / 'trust_map.png'))}" if places and out is not None else ""
        facts.add_row("Trust", f"[yellow]{says}{see}[/]" if places else says)
        for number, flagged in enumerate(trust.regions[:REGIONS_SHOWN], start=1):
            place = f"y {flagged.y_um:.0f}, x {flagged.x_um:.0f} um"
            says = f"{WORDS[flagged.kind]} at {place}, {flagged.strength:.1f} x threshold"
            facts.add_row("", f"{number}. {flagged.where}: {says}")
        if places > REGIONS_SHOWN:
            facts.add_row("", f"and {places - REGIONS_SHOWN} more")
    if (sure := result.certainty) is not None:
        uncertain = f"{len(sure.nuclei)} {'nucleus' if len(sure.nuclei) == 1 else 'nuclei'}"
        facts.add_row("Certainty", f"{uncertain} shown by half or fewer of {sure.seeds + 1} restorations")
    for number, flag in enumerate(result.flags):
        facts.add_row("Flags" if number == 0 else "", f"[yellow]{escape(flag)}[/]")
    timing = result.timing
    spent = f"{timing['total_s']:.0f} s, {timing['tiles_per_s']:.2f} tiles a second"
    if trust.threshold is not None:
        spent += f"; {timing['examining_s']:.1f} s ({timing['examining_s'] / timing['total_s']:.0%}) in the guards"
    facts.add_row("Time", spent)
    made_by = result.provenance
    weights = f"{escape(made_by['bundle'])} {made_by['weights_sha256'][:12]}"
    facts.add_row("Made by", f"srh-clinic {made_by['version']}, {weights}, seed {made_by['seed']}")
    if out is not None:
        facts.add_row("Pictures", escape(str(out / "summary.png")))
        facts.add_row("", escape(str(out)))
    warning = f"[bold yellow]{escape(made_by['notice'])}[/]"
    return Panel(Group(warning, "", classes, "", facts), title=escape(name), title_align="left", padding=(1, 2))


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Entry point of the command ``srh-clinic``."""
    app()
