"""Commands of a blinded rater study, from its export to its analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from srh_clinic.cli.options import (
    BundleOption,
    ChannelsOption,
    DeviceOption,
    FullScaleOption,
    PlaneOption,
    RatersSeedOption,
    StudyArgument,
    UmPerPxOption,
    WeightsOption,
    guarded,
    shown_progress,
)
from srh_clinic.cli.output import tell
from srh_clinic.errors import InputError

study_app = typer.Typer(help="Blinded rater studies: export, rate, unblind, analyse.", no_args_is_help=True)


@study_app.command("export")
@guarded
def study_export(
    study: StudyArgument,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CASE|DIR]...", help="Cases, or folders of images.", show_default=False),
    ] = None,
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of which tiles of a case are shown. All that raters must not know comes from a secret."
        ),
    ] = 0,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    plane: PlaneOption = None,
    phantom: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use N images of simulated tissue instead of cases.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help="Kind of task: preference (A beside B) or review (one restoration, with a region to judge)."),
    ] = "preference",
    preset: Annotated[str, typer.Option(help="Design: default, or paper (every image with every baseline).")] = "default",
    restorers: Annotated[
        str, typer.Option(help="Restorers, as in restore --restorer, separated by commas; the first is under test.")
    ] = "rscd,median,nlm,synthetic_noise,cyclegan,ccdf",
    raters: Annotated[int, typer.Option(min=1, help="Number of raters.")] = 6,
    clinicians: Annotated[
        int | None, typer.Option(min=0, help="Number of clinicians among the raters; they come first.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Use only this many images of the sources.")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=0, help="Number of tasks that each rater sees twice; by default a tenth.")
    ] = None,
    sentinels: Annotated[
        str | None,
        typer.Option(
            metavar="KIND=N,...",
            help="Number of tasks with known answers, by kind: same, blurred, added, removed; none for no such tasks.",
        ),
    ] = None,
    per_case: Annotated[int, typer.Option(min=1, help="Use at most this many images of one case.")] = 8,
    title: Annotated[str, typer.Option(help="Title of the raters' pages.")] = "Images of stimulated Raman histology",
) -> None:
    """Export a blinded study: a page for each rater, and the sealed key; checked for leaks."""
    from srh_clinic.slide import Reading
    from srh_clinic.validation import StudyPlan, export_study, what_raters_can_compute

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
    stood = (study / "sealed" / "key.json").is_file()
    with shown_progress() as progress:
        made = export_study(
            study,
            plan,
            sources=sources or (),
            reading=Reading(um_per_px, full_scale, channels, plane),
            per_case=per_case,
            bundle=bundle,
            weights=weights,
            device=device,
            report=progress,
        )
    if stood:
        tell(f"found {study} as this very call has exported it; nothing was written.", err=True)
    ratings = made.tasks * made.raters_per_task
    tell(f"{made.images} images, {made.tasks} tasks, {ratings} ratings by {len(made.raters)} raters")
    spreads = "; ".join(f"{what}: {spread}" for what, spread in made.imbalance.items())
    tell(f"{spreads} (largest less smallest)")
    tell(*(f"note: {note}" for note in what_raters_can_compute(made)))
    tell(made.notice, f"for the raters: {study / 'public'}", f"sealed, for nobody yet: {study / 'sealed'}")


def _numbers(text: str) -> dict[Any, int]:
    """``added=2,same=1`` as a table; ``none`` is empty."""
    pairs = [] if text == "none" else [one.partition("=") for one in text.split(",")]
    if not all(name and number.isdigit() for name, _, number in pairs):
        raise InputError(f"the sentinels {text!r}", "KIND=N, several separated by commas, or none")
    return {name.strip(): int(number) for name, _, number in pairs}


@study_app.command("check")
@guarded
def study_check(study: StudyArgument) -> None:
    """Look for anything that tells raters methods, cases or people, and check the returns that have come.

    The exit code is 2 where something leaks or a return has a fault.
    """
    from srh_clinic.validation import check_returns, check_study

    audit = check_study(study)
    for check in audit.checks:
        tell(f"checked: {check}")
    for note in audit.notes:
        tell(f"note: {note}")
    for finding in audit.findings:
        tell(f"LEAK: {finding}")
    returns = check_returns(study)
    for one in returns:
        tell(f"return {one.rater_id}: {one.said}")
    if audit.findings:
        needed = "a study whose public folder says nothing of methods, cases or people"
        raise InputError(f"{len(audit.findings)} leaks", needed, study)
    if faults := [one for one in returns if one.fault]:
        raise InputError(f"{len(faults)} returns with a fault", "returns as the raters' pages write them", study / "returned")
    tell(f"{audit.tasks} tasks: no leak")


@study_app.command("serve")
@guarded
def study_serve(
    study: StudyArgument,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port to serve on; 0 takes a free one. A browser keeps unfinished answers by port."
        ),
    ] = 8733,
) -> None:
    """Offer the raters' pages to a browser on this machine, and keep their answers; Ctrl-C ends it."""
    from srh_clinic.validation import serve_study

    with serve_study(study, port) as serving:
        tell(f"{serving.url} (this machine only; Ctrl-C ends it)")
        serving.wait()


@study_app.command("rehearse")
@guarded
def study_rehearse(study: StudyArgument, seed: RatersSeedOption = 0) -> None:
    """Let simulated raters answer, to see the analysis before anybody has rated. This opens the key: use a copy."""
    from srh_clinic.validation import rehearse_study

    for path in rehearse_study(study, seed=seed):
        tell(path)
    tell("These answers are simulated: they say nothing about any method.")


@study_app.command("drop-out")
@guarded
def study_drop_out(
    study: StudyArgument,
    rater: Annotated[str, typer.Argument(metavar="RATER", help="Name of the rater who gives up.")],
    reason: Annotated[str, typer.Option(help="Why, for the study's log and every report.")],
) -> None:
    """Record that a rater gives up: the study goes on without, keeps what was answered, and every report says so."""
    from srh_clinic.validation import drop_out

    tell(f"{rater} has dropped out. Of the design remain {drop_out(study, rater, reason)}.")


@study_app.command("amend")
@guarded
def study_amend(
    study: StudyArgument,
    reason: Annotated[str, typer.Option(help="Why, for the study's log and every report.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CASE|DIR]...", help="Cases, or folders of images.", show_default=False),
    ] = None,
    bundle: BundleOption = "phantom-demo",
    weights: WeightsOption = Path("weights"),
    device: DeviceOption = "auto",
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    plane: PlaneOption = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="RATER", help="Add a rater, who gets the tasks of this one.")
    ] = None,
    phantom: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use N images of simulated tissue instead of cases.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Use only this many images of the sources.")] = None,
    per_case: Annotated[int, typer.Option(min=1, help="Use at most this many images of one case.")] = 8,
) -> None:
    """Add a rater (--like) or images to a running study, signed in its log.

    A rater, such as in the place of one who gave up, gets the same tasks in a new order, sides drawn anew. Images are judged
    on a further page of each rater.
    """
    from srh_clinic.slide import Reading
    from srh_clinic.validation import add_images, add_rater, check_study

    if (like is not None) + bool(sources) + (phantom is not None) != 1:
        raise InputError("no one thing to add", "--like RATER, or cases and folders, or --phantom N")
    if like is not None:
        pages: tuple[str, ...] = (add_rater(study, like, reason),)
    else:
        with shown_progress() as progress:
            pages = add_images(
                study,
                reason,
                sources=sources or (),
                images=phantom or images,
                reading=Reading(um_per_px, full_scale, channels, plane),
                per_case=per_case,
                bundle=bundle,
                weights=weights,
                device=device,
                report=progress,
            )
    for finding in check_study(study).findings:
        tell(f"LEAK: {finding}")
    for page in pages:
        tell(f"{page} was added: {study / 'public' / page / 'viewer.html'}")


@study_app.command("unblind")
@guarded
def study_unblind(
    study: StudyArgument,
    interim: Annotated[bool, typer.Option("--interim", help="Unblind although returns are missing; this is logged.")] = False,
    receipt: Annotated[
        list[str] | None,
        typer.Option(metavar="RATER=CODE", help="The code that a rater's page showed at the end; can be repeated."),
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
    tell(f"{len(opened.answers)} answers of {len(opened.returns)} raters{', INTERIM' if opened.interim else ''}")
    if opened.early:
        tell(f"Every report says from now on that the key was opened early ({', '.join(sorted(set(opened.early)))}).")
    tell(study / "unblinded.json")


@study_app.command("analyse")
@guarded
def study_analyse(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the report; by default analysis in the study.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Write the report of an unblinded study: preferences, hallucinations, agreement, Figure 6."""
    from srh_clinic.validation import load_unblinded, write_analysis

    tell(write_analysis(load_unblinded(study), out or study / "analysis", seed)[0])


@study_app.command("convert")
@guarded
def study_convert(
    study: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the files.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help="Format: label-studio or redcap; for an unblinded study also coco, imrmc, kos or sr."
        ),
    ],
    case: Annotated[
        list[Path] | None,
        typer.Option(help="DICOM case that images of the study come from, for kos and sr; can be repeated."),
    ] = None,
) -> None:
    """Write a study, or its answers, for other programs."""
    from srh_clinic.validation import export_answers

    for path in export_answers(study, to, out, case or ()):
        tell(path)


@study_app.command("import")
@guarded
def study_import(
    study: StudyArgument,
    file: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="File that the other program exported; of Label Studio one for each project."),
    ],
    source: Annotated[str, typer.Option("--from", metavar="FORMAT", help="Format: label-studio or redcap.")],
    rater: Annotated[str, typer.Option(help="Name of the rater whose answers these are.")],
) -> None:
    """Import a rater's answers from another program."""
    from srh_clinic.validation import import_answers

    tell(import_answers(study, source, file, rater))
