"""``pacs listen``: cases come in at any hour, and their results go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    PlaneOption,
    PolicyOption,
    PrecisionOption,
    ProfileOption,
    QuPathOption,
    RestorerOption,
    SamplerOption,
    SeedOption,
    UmPerPxOption,
    guarded,
    settings_of,
)
from srh_clinic.cli.transfer import ADDRESS, TITLE, AuthorityOption, CertificateOption, KeyOption, TitleOption
from srh_clinic.cli.watching import DeathsOption, LogFileOption, MetricsOption, QuietOption, watching


@guarded
def listen(
    out: Annotated[Path, typer.Option(help="Folder for the ledger, what was received, and the results.")],
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port for C-STORE; 0 takes a free one.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 is every one of this machine, where others reach it.")
    ] = "127.0.0.1",
    title: TitleOption = TITLE,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="AET", help="AE title of one who may send; can be repeated.")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Who sends must use TLS and show a certificate of --ca; ours is --cert.")
    ] = False,
    ca: AuthorityOption = None,
    cert: CertificateOption = None,
    key: KeyOption = None,
    folder: Annotated[
        Path | None, typer.Option(readable=False, help="Watch this folder too: what is put there is a case each.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar=ADDRESS, help="Send results there: a DICOMweb service, or an application entity.")
    ] = None,
    ups: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Perform what this worklist has for us (UPS-RS); results go there too, but for --to."
        ),
    ] = None,
    ups_station: Annotated[
        str, typer.Option(metavar="CODE", help="Only workitems that are scheduled for the station with this code.")
    ] = "",
    ups_code: Annotated[
        str, typer.Option(metavar="CODE", help="Only workitems with this Scheduled Workitem Code, such as 110004.")
    ] = "",
    ups_from: Annotated[
        str | None, typer.Option(metavar=ADDRESS, help="Fetch the input of workitems there; by default from --ups.")
    ] = None,
    no_slide: Annotated[
        bool, typer.Option("--no-slide", help="Do not send the restored slide, which is most of what is sent.")
    ] = False,
    settle: Annotated[float, typer.Option(min=0.1, help="Seconds without anything new after which a slide is whole.")] = 2.0,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a Raman shift which is missing gets to come.")
    ] = 600.0,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Days after which received files go whose results are at their destination; by default never.",
        ),
    ] = None,
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
    policy: PolicyOption = None,
    conservative: ConservativeOption = False,
    certainty: CertaintyOption = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own networks, which stay loaded.")] = 1,
    deaths: DeathsOption = 5,
    audit: Annotated[
        Path | None,
        typer.Option(readable=False, help="Append who sent what when; by default audit.jsonl in the folder of --out."),
    ] = None,
    log_file: LogFileOption = None,
    metrics: MetricsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Take in cases at any hour, diagnose each once, and send the results back, until SIGTERM or Ctrl-C ends it.

    A case that is under way then goes on with the next call. See cohort status, why and retry for what became of each.
    """
    from srh_clinic.cohort.settings import CaseSettings
    from srh_clinic.files import check_place
    from srh_clinic.pacs.archives import Calling
    from srh_clinic.pacs.credentials import Trust
    from srh_clinic.pacs.listening import Listening
    from srh_clinic.pacs.listening import listen as keep_listening
    from srh_clinic.pacs.performing import Performing
    from srh_clinic.pacs.receiving import Port
    from srh_clinic.pacs.sending import destination_of
    from srh_clinic.pacs.worklist import Filter
    from srh_clinic.slide import Reading

    check_place(out, folder=True)
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
        dicom=True,
        restoring=settings_of(sampler, profile, precision),
    )
    door = None
    if port is not None:
        door = Port(port, host, title, tuple(accept or ()), cert, key or cert, ca, secure=tls).checked()
    trust, there = Trust(ca, cert, key), to or ups
    doors = []
    if ups is not None and there is not None:
        which, calling = Filter(ups_station, ups_code), Calling(title, trust)
        doors.append(Performing(out, ups, ups_from or ups, there, which, calling, not no_slide).checked().door)
    asked = Listening(
        out,
        settings,
        door,
        folder,
        doors=doors,
        destination=None if there is None else destination_of(there, title, trust),
        slide=not no_slide,
        settle=settle,
        patience=patience,
        keep=keep,
        workers=workers,
        deaths=deaths,
        audit=audit or out / "audit.jsonl",
    )
    with watching(quiet, log_file, metrics) as watch:
        keep_listening(asked, watch)
