"""Commands on many cases: simulate them, run them unattended, and say how far that is."""

from __future__ import annotations

import json as json_text
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srh_clinic.cli.options import (
    BundleOption,
    CertaintyOption,
    ChannelsOption,
    ConservativeOption,
    DeviceOption,
    FhirOption,
    FlatFieldOption,
    FullScaleOption,
    HtmlOption,
    NoIdentityOption,
    PlaneOption,
    PolicyOption,
    PrecisionOption,
    ProfileOption,
    QuPathOption,
    RestorerOption,
    SamplerOption,
    SeedOption,
    TissueSeedOption,
    UmPerPxOption,
    guarded,
    settings_of,
    shown_progress,
)
from srh_clinic.cli.output import tell
from srh_clinic.cli.watching import DeathsOption, LogFileOption, MetricsOption, QuietOption, watching
from srh_clinic.errors import ExitCode, InputError

if TYPE_CHECKING:
    from srh_clinic.cohort.ledger import Entry

cohort_app = typer.Typer(help="Many cases at once.", no_args_is_help=True)

RunArgument = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="Folder of a run: its --out.")]


@cohort_app.command("simulate")
@guarded
def cohort_simulate(
    out: Annotated[Path, typer.Argument(help="Folder for manifest.csv and the images, one .dcm file each.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients; each is scanned at every depth.")] = 64,
    sites: Annotated[int, typer.Option(min=1, help="Number of sites; each has an instrument of its own.")] = 4,
    depth: Annotated[list[float], typer.Option(help="Depth of a scan in um; can be repeated.")] = [0, 75, 150],  # noqa: B006 - typer's
    size: Annotated[int, typer.Option(min=64, help="Edge of an image in pixels of 0.47 um.")] = 480,
    seed: TissueSeedOption = 0,
    tissue: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Tissue of one patient after another; can be repeated. By default a usual mixture."),
    ] = None,
) -> None:
    """Make a simulated cohort with known diagnoses, and the manifest that validate takes."""
    from srh_clinic.files import check_place
    from srh_clinic.simulation.cohort import KINDS
    from srh_clinic.validation import write_cohort

    check_place(out, folder=True)
    with shown_progress() as progress:
        tell(write_cohort(out, patients, sites, depth, size, seed, tissue or KINDS, report=progress))


@cohort_app.command("manifest")
@guarded
def cohort_manifest(
    tree: Annotated[Path, typer.Argument(metavar="TREE", readable=False, help="Folder with meta/opensrh.json.")],
    out: Annotated[Path, typer.Option(help="The CSV file.")] = Path("manifest.csv"),
    patients: Annotated[
        str, typer.Option(metavar="held-out|all", help="Those whom train leaves out with its own settings, or all.")
    ] = "held-out",
) -> None:
    """Write the manifest of an OpenSRH tree that validate takes: a row for each slide."""
    from srh_clinic.validation.shift.opensrh_cohort import write_opensrh_manifest

    tell(write_opensrh_manifest(tree, out, patients))  # type: ignore[arg-type] # refused there if it is none of them


@cohort_app.command("run")
@guarded
def cohort_run(
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST|FOLDER",
            readable=False,
            help="A CSV with the column case (and ch3, where each channel has a file), or a folder whose files and "
            "folders are a case each.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the ledger, results.csv and the results in cases/.")],
    bundle: BundleOption = "phantom-demo",
    restorer: RestorerOption = "rscd",
    sampler: SamplerOption = None,
    profile: ProfileOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    plane: PlaneOption = None,
    flat_field: FlatFieldOption = None,
    html: HtmlOption = False,
    qupath: QuPathOption = False,
    fhir: FhirOption = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write each case's result objects, in dicom/.")] = False,
    policy: PolicyOption = None,
    conservative: ConservativeOption = False,
    certainty: CertaintyOption = 0,
    no_identity: NoIdentityOption = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, each with its own networks; by default one for each core, up to 8, or one on a card."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do the cases, such as tcp://host:8786."),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Do only the I-th of N parts, with a ledger of its own; several machines share --out."
        ),
    ] = "1/1",
    deaths: DeathsOption = 5,
    log_file: LogFileOption = None,
    metrics: MetricsOption = None,
    quiet: QuietOption = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with code 0, not 4, when cases could not be done.")
    ] = False,
) -> None:
    """Restore and classify many cases, each exactly once, and go on past those that cannot be.

    A run that was cut goes on when it is called again; the same call beside it helps it. Bad cases are parked with their
    reason: see cohort status, why and retry.
    """
    from srh_clinic.cohort.cases import Shard, list_cases
    from srh_clinic.cohort.running import default_workers, run_cohort
    from srh_clinic.cohort.settings import CASES, CaseSettings
    from srh_clinic.cohort.telling import write_results
    from srh_clinic.files import check_place
    from srh_clinic.slide import Reading

    if scheduler is not None and workers is not None:
        raise InputError("--workers beside --scheduler", "one of them: a cluster has its own workers")
    check_place(out, folder=True)
    listed, part = list_cases(cases), Shard.parse(shard)
    settings = CaseSettings(
        bundle=bundle,
        restorer=restorer,
        device=device,
        seed=seed,
        conservative=conservative,
        certainty=certainty,
        policy=policy,
        reading=Reading(um_per_px, full_scale, channels, plane, flat_field),
        page=html,
        qupath=qupath,
        fhir=fhir,
        dicom=dicom,
        identity=not no_identity,
        restoring=settings_of(sampler, profile, precision),
    )
    mine = [case for case in listed if case in part]
    with watching(quiet, log_file, metrics) as watch:
        size = min(workers or (1 if scheduler else default_workers(device)), max(1, len(mine)))
        entries = run_cohort(mine, settings, out, shard=part, workers=size, scheduler=scheduler, deaths=deaths, watch=watch)
    table = write_results(listed, part, entries, out, out / CASES)
    bad = [entry for entry in entries if entry.state != "done"]
    if not quiet:
        _tell_end(entries, bad, out, table)
    if bad and not allow_missing:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _tell_end(entries: list[Entry], bad: list[Entry], out: Path, table: Path | None) -> None:
    tell(f"{len(entries) - len(bad)} of {len(entries)} cases are done.")
    for entry in bad[:MANY]:
        tell(f"{entry.state}: {entry.name} ({entry.kind})")
    if len(bad) > MANY:
        tell(f"and {len(bad) - MANY} more: srh-clinic cohort status {out}")
    if bad:
        tell(f"srh-clinic cohort why {out} {bad[0].name} says more, srh-clinic cohort retry {out} tries them again.")
    tell(table if table is not None else "The table of all cases is written when every shard is done.")


UNHEALTHY = 1
"""Exit code of a health check, as container runtimes ask for it."""

MANY = 10
"""Bad cases that are named one by one."""


@cohort_app.command("status")
@guarded
def cohort_status(
    run: RunArgument,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Print metrics for Prometheus and nothing else.")] = False,
    health: Annotated[
        bool, typer.Option("--health", help="Say only whether somebody works on the open cases or listens: exit code 0, or 1.")
    ] = False,
) -> None:
    """Say how far a run is, also while it runs; cases are called by names that say nothing of whose they are."""
    from srh_clinic.cohort.deliveries import count_deliveries
    from srh_clinic.cohort.ledger import Ledger, count_states, latest
    from srh_clinic.cohort.running import ledgers_in
    from srh_clinic.cohort.telling import health_of, metrics_text, status_record

    found, settings, deliveries, states = [], "", Counter[str](), []
    for path in ledgers_in(run):
        with Ledger(path, read=True) as ledger:
            found.append(ledger.entries())
            settings = ledger.settings or settings
            deliveries.update(count_deliveries(ledger))
            states.append(health_of(ledger))
    if health:
        tell(next((sentence for good, sentence in states if not good), states[-1][1]))
        raise typer.Exit(ExitCode.DONE if all(good for good, _ in states) else UNHEALTHY)
    entries = latest(found)
    if json:
        typer.echo(json_text.dumps(status_record(entries, settings, deliveries)))
    elif metrics:
        typer.echo(metrics_text(entries, deliveries), nl=False)
    else:
        tell(", ".join(f"{number} {state}" for state, number in count_states(entries).items()))
        if deliveries.total():
            tell("results: " + ", ".join(f"{number} {state}" for state, number in deliveries.items()))
        for entry in entries:
            if entry.state == "running":
                tell(f"running: {entry.name} for {time.time() - entry.began:.0f} s, attempt {entry.attempts} {entry.stage}")
            elif entry.state in ("parked", "failed"):
                tell(f"{entry.state}: {entry.name} ({entry.kind})")


@cohort_app.command("retry")
@guarded
def cohort_retry(
    run: RunArgument,
    case: Annotated[
        list[str] | None, typer.Argument(metavar="[CASE...]", help="Names as status lists them; by default all.")
    ] = None,
) -> None:
    """Let cases that are parked or failed wait again, and results that a PACS refused go out again, by the run's own call."""
    from srh_clinic.cohort.ledger import Ledger, latest
    from srh_clinic.cohort.running import ledgers_in

    paths = ledgers_in(run)
    known = {path: Ledger(path, read=True) for path in paths}
    names = {entry.name for entry in latest([ledger.entries() for ledger in known.values()])}
    if unknown := sorted(set(case or ()) - names):
        raise InputError(f"no case {unknown[0]!r}", "a name that cohort status lists", run)
    again = []
    for ledger in known.values():
        own = {entry.name for entry in ledger.entries()}
        again += ledger.retry(None if case is None else own & set(case))
        ledger.close()
    tell(f"{len(again)} cases wait again.", *again)


@cohort_app.command("why")
@guarded
def cohort_why(
    run: RunArgument,
    case: Annotated[str, typer.Argument(help="Name as status lists it, or the case's file or folder.")],
) -> None:
    """Say what became of a case and why, with its files: this is for whoever may see whose case it is."""
    from srh_clinic.cohort.ledger import Ledger
    from srh_clinic.cohort.running import ledgers_in
    from srh_clinic.cohort.telling import moment

    told = False
    for path in ledgers_in(run):
        with Ledger(path, read=True) as ledger:
            for entry in ledger.entries():
                if case != entry.name and str(Path(case).absolute()) not in entry.source:
                    continue
                told = True
                tell(f"{entry.name} is {entry.state}: {', '.join(entry.source)}")
                for move in ledger.history(entry.name):
                    took = f", {move.seconds:.1f} s" if move.seconds else ""
                    tell(f"{moment(move.at)}  {move.state} ({move.kind}), attempt {move.attempt}{took}")
                    for line in move.why.rstrip().splitlines():
                        tell(f"    {line}")
    if not told:
        raise InputError(f"no case {case!r}", "a name that cohort status lists, or a case's file", run)
