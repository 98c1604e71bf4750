"""Commands on cases: simulate, convert, restore, diagnose, and validate on many of them."""

from __future__ import annotations

import json as json_text
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srh_clinic.cli.options import (
    BundleOption,
    CaseArgument,
    CertaintyOption,
    ChannelsOption,
    ConservativeOption,
    DeviceOption,
    DicomArgument,
    FhirOption,
    FlatFieldOption,
    FullScaleOption,
    HtmlOption,
    NoIdentityOption,
    OtherChannelOption,
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
    given_path,
    guarded,
    kept_tiles,
    settings_of,
    shown_progress,
)
from srh_clinic.cli.output import Terminal, tell
from srh_clinic.errors import ExitCode

if TYPE_CHECKING:
    from srh_clinic.case.record import CaseOrigin, CaseRecord
    from srh_clinic.integration.deidentify import Pseudonyms


@guarded
def simulate(
    out: Annotated[Path, typer.Argument(help="A .dcm file, or a folder; a .tif file with --layout tiff.")],
    diagnosis: Annotated[str, typer.Option(help="Diagnosis of the case: tumor, normal, nondiagnostic or mixed.")] = "tumor",
    quality: Annotated[float, typer.Option(help="Image quality, from 0 (worst) to 1 (clean).")] = 0.3,
    size: Annotated[int, typer.Option(help="Edge of the image in pixels of 0.47 um.")] = 1024,
    seed: TissueSeedOption = 0,
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the files lie: dicom, tiff, nio (strips in folders), nio-mosaic, nio-numbered (strips in one folder) or "
            "opensrh (a tree of patients).",
        ),
    ] = "dicom",
    strip: Annotated[int, typer.Option(min=64, help="Width in pixels of the strips of an NIO imager.")] = 1000,
    strip_overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring strips share.")] = 0,
    ch3_shift: Annotated[
        tuple[float, float], typer.Option(metavar="DOWN RIGHT", help="How far CH3 lies off in the strips, in pixels.")
    ] = (0.0, 0.0),
    falloff: Annotated[float, typer.Option(min=0, max=0.9, help="How much darker a strip is at its edges, as a share.")] = 0.0,
    patients: Annotated[int, typer.Option(min=1, help="Patients of an OpenSRH tree.")] = 12,
) -> None:
    """Make a simulated case with a known diagnosis, or a tree of cases, in any layout that is read."""
    from srh_clinic.integration.layouts import write_simulated
    from srh_clinic.integration.nio_writer import Scan

    scan = Scan(strip, strip_overlap, ch3_shift, falloff)
    with shown_progress() as progress:
        written = write_simulated(out, layout, diagnosis, quality, size, seed, scan, patients, progress)
    tell(*written)


@guarded
def convert(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", parser=given_path, help="A slide, or CH2's file and CH3's.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            parser=given_path,
            help="A .dcm file, a folder for one .dcm file per Raman shift, a .ome.tif or a .ome.zarr.",
        ),
    ],
    to: Annotated[
        str | None, typer.Option(help="Format of OUT: dicom, ome-tiff or ome-zarr; by default what its name ends in.")
    ] = None,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    plane: PlaneOption = None,
    flat_field: FlatFieldOption = None,
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify",
            help="Leave out whom the slide shows: it is rebuilt from its pixels, with pseudonyms, new UIDs and no dates.",
        ),
    ] = False,
    shift_dates: Annotated[
        int | None, typer.Option(metavar="DAYS", help="With --deidentify: keep the date, moved by so many days.")
    ] = None,
    secret: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="With --deidentify: a file of random bytes; slides converted with it share the pseudonym of a patient.",
        ),
    ] = None,
) -> None:
    """Convert a slide to DICOM, to a pyramidal OME-TIFF, or to OME-Zarr."""
    from srh_clinic.integration import convert as converted

    pseudonyms = _pseudonyms(deidentify, shift_dates, secret)
    for path in converted(inputs, out, um_per_px, full_scale, channels, plane, flat_field, to, pseudonyms):
        tell(path)


def _pseudonyms(deidentify: bool, shift_dates: int | None, secret: Path | None) -> Pseudonyms | None:
    from srh_clinic.errors import InputError
    from srh_clinic.integration.deidentify import Pseudonyms

    if not deidentify:
        if shift_dates is not None or secret is not None:
            raise InputError("--shift-dates or --secret alone", "--deidentify with it")
        return None
    return Pseudonyms.fresh(shift_dates) if secret is None else Pseudonyms(secret.read_bytes(), shift_dates)


@guarded
def restore(
    case: CaseArgument,
    out: DicomArgument,
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
    ch3: OtherChannelOption = None,
) -> None:
    """Restore a case and write it as a derived DICOM slide."""
    from srh_clinic.bundles import load_bundle
    from srh_clinic.case.provenance import provenance
    from srh_clinic.case.restoring import at_pixel_size, look_over, overlap_of, restore_slide
    from srh_clinic.integration import read_slide, require_free_target, write_wsi, written_before
    from srh_clinic.restorers import create_restorer
    from srh_clinic.slide import pixels_sha256, sparing

    slide = read_slide(case if ch3 is None else (case, ch3), um_per_px, full_scale, channels, plane, flat_field)
    loaded = load_bundle(bundle)
    works = create_restorer(restorer, bundle=bundle, device=device, **settings_of(sampler, profile, precision))
    made_by = provenance(loaded, works, seed, tile=loaded.metadata["tile"], overlap=overlap_of(loaded.metadata["tile"]))
    made_by |= {"source_pixels_sha256": pixels_sha256(slide)}
    require_free_target(out, slide, made_by)
    with kept_tiles(out) as work, shown_progress() as progress:
        view, flags = at_pixel_size(sparing(slide), loaded.metadata["um_per_px"])
        if written := written_before(out, slide, made_by):
            flags += (f"found {out} as this very call has written it; nothing was computed.",)
        else:
            restored = restore_slide(view, look_over(view), works, loaded, seed=seed, work=work, progress=progress)
            written = write_wsi(restored.on_scan, out, derived_from=slide, provenance=made_by)
    for flag in flags:
        tell(flag, err=True)
    for path in written:
        tell(path)


@guarded
def diagnose(
    case: CaseArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=given_path,
            help="Folder for result.json and the pictures, which replace earlier ones of the same case; by default "
            "CASE-diagnosis in the working folder, or none with --json.",
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
    ch3: OtherChannelOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    html: HtmlOption = False,
    qupath: QuPathOption = False,
    fhir: FhirOption = False,
    dicom_out: Annotated[
        Path | None,
        typer.Option(
            help="Also write DICOM: to a .dcm file the restored slide, to a folder that and heat maps, segmentation, "
            "annotations and a structured report."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with code 3 on a warning or a doubtful diagnosis, not on notes."),
    ] = False,
    conservative: ConservativeOption = False,
    certainty: CertaintyOption = 0,
    policy: PolicyOption = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Warn when the case is unlike those of the validation that wrote this file."
        ),
    ] = None,
    no_identity: NoIdentityOption = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Tell the diagnosis as scanned at once, restore the worst tissue first and show it as it comes; the result "
            "is the same.",
        ),
    ] = False,
) -> None:
    """Restore a case, classify it before and after, and show the result and where not to trust it."""
    from srh_clinic.case.pipeline import RestoreThenClassify
    from srh_clinic.case.preview import Preview
    from srh_clinic.case.provenance import require_own_folder, told_case
    from srh_clinic.case.workflow import diagnose_into, diagnosed_before, require_free_dicom, restored_by
    from srh_clinic.casepage.optional import optional_files
    from srh_clinic.files import check_place
    from srh_clinic.integration import read_slide
    from srh_clinic.trust import load_reference, policy_named

    selective = policy_named(policy)
    compared = None if reference is None else load_reference(reference)
    slide = read_slide(case if ch3 is None else (case, ch3), um_per_px, full_scale, channels, plane, flat_field)
    if out is not None:
        check_place(out, folder=True)
    slide, origin = told_case(slide, identity=not no_identity)
    name = "Case" if no_identity else case.name
    if out is None and (html or qupath or fhir or not json):
        out = _named_folder(case, origin, "diagnosis", no_identity=no_identity)
    if out is not None:
        require_own_folder(out, origin)
    settings = settings_of(sampler, profile, precision)
    pipeline = RestoreThenClassify.from_bundle(
        bundle,
        restorer,
        device,
        seed,
        conservative,
        certainty,
        selective_policy=selective,
        reference=compared,
        policy_from=f"the policy {policy}",
        **settings,
    )
    if dicom_out is not None:  # before the folder of the tiles is made beside it
        require_free_dicom(dicom_out, slide, restored_by(pipeline, origin))
    more = optional_files(name, slide, page=html, qupath=qupath, fhir=fhir)
    with kept_tiles(out if out is not None else dicom_out) as work, shown_progress() as progress:
        there = [file for files, _ in more for file in files]
        record = diagnosed_before(pipeline, slide, origin, out=out, dicom_out=dicom_out, more=there)
        if record is not None:
            tell(f"found {out} as this very call has written it at {record.made.at}; nothing was computed.", err=True)
        else:
            record = diagnose_into(
                pipeline,
                slide,
                origin,
                out=out,
                dicom_out=dicom_out,
                more=[write for _, write in more],
                work=work,
                progress=progress,
                preview=Preview(partial(tell, err=True), work) if preview else None,
            ).record
    _show(name, record, out, dicom_out, json=json)
    if strict and (record.warnings or record.doubts):
        raise typer.Exit(ExitCode.FLAGGED)


def _show(name: str, record: CaseRecord, out: Path | None, dicom_out: Path | None, *, json: bool) -> None:
    """A result on stdout: as JSON, or as a panel."""
    if json:
        typer.echo(json_text.dumps(record.model_dump(mode="json")))
        return
    from srh_clinic.cli.panel import result_panel

    terminal = Terminal()
    terminal.print(result_panel(name, record, out, terminal.width, dicom_out))


def _named_folder(case: Path, origin: CaseOrigin, what: str, *, no_identity: bool) -> Path:
    """Where a result goes when nobody says it: named as the case or, without identity, by its pixels, which name nobody."""
    from srh_clinic.files import check_place

    out = Path(f"{origin.pixels_sha256[:12] if no_identity else case.resolve().stem}-{what}")
    check_place(out, folder=True)
    return out


@guarded
def judge(
    case: CaseArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=given_path,
            help="Folder for judgement.json, the page and pictures; by default CASE-judgement, or none with --json.",
        ),
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|DIR", help="A bundle whose networks are judged; can be repeated. By default phantom-demo."),
    ] = None,
    restorer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A restorer to judge; can be repeated. By default rscd, nlm, wavelet and median."),
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Most tiles to judge by, spread over the tissue.")] = 12,
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
    ch3: OtherChannelOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    no_identity: NoIdentityOption = False,
) -> None:
    """Rank restorers on a case of your own, without a reference, and show what each makes of it."""
    from srh_clinic.case.provenance import require_own_folder, told_case
    from srh_clinic.files import check_place
    from srh_clinic.integration import read_slide
    from srh_clinic.judging import JUDGEMENT, save_judgement
    from srh_clinic.judging import judge as rank
    from srh_clinic.judging.judge import RESTORERS
    from srh_clinic.judging.page import PAGE, judgement_record

    slide = read_slide(case if ch3 is None else (case, ch3), um_per_px, full_scale, channels, plane, flat_field)
    if out is not None:
        check_place(out, folder=True)
    slide, origin = told_case(slide, identity=not no_identity)
    name = "Case" if no_identity else case.name
    if out is None and not json:
        out = _named_folder(case, origin, "judgement", no_identity=no_identity)
    if out is not None:
        require_own_folder(out, origin, JUDGEMENT)
    with shown_progress() as progress:
        found = rank(
            slide,
            restorer or RESTORERS,
            bundle or ("phantom-demo",),
            tiles=tiles,
            seed=seed,
            device=device,
            origin=origin,
            progress=progress,
            **settings_of(sampler, profile, precision),
        )
    if out is not None:
        save_judgement(found, out, name)
    if json:
        typer.echo(json_text.dumps(judgement_record(found)))
        return
    tell(str(found.provenance["notice"]), *str(found).splitlines(), *found.notes)
    if out is not None:
        tell(out / PAGE)


@guarded
def validate(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv",
            parser=given_path,
            help="CSV file with the columns case, patient and truth; also site, depth, subtype and severity where known.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            parser=given_path,
            help="Folder for report.html, report.json, the tables and the results of the cases.",
        ),
    ],
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
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 3 when restoration is found to harm.")] = False,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Test this policy, chosen on another cohort; by default one is chosen on this cohort and tested.",
        ),
    ] = None,
    previous_bundle: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Also write impact.html: what changing from this bundle to --bundle changes."),
    ] = None,
    join_labels: Annotated[
        bool,
        typer.Option(
            "--join-labels", help="Take patients, sites and other labels that differ only in how they are written for one."
        ),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with code 0, not 4, when rows of the manifest cannot be used.")
    ] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write report.pdf (pip install 'srh-clinic\\[pdf]').")] = False,
) -> None:
    """Report how restoration shifts diagnostic accuracy, for whom, and whom it harms.

    A case is a path, absolute or as seen from the manifest; a column ch3 names CH3's file where each channel has one.
    With the columns before_tumor, before_normal, before_nondiagnostic and after_..., a case is only a name, and nothing
    is run.
    An interrupted run goes on when called again.
    """
    from srh_clinic.files import check_place
    from srh_clinic.slide import Reading
    from srh_clinic.trust.selective_policy import load_policy
    from srh_clinic.validation import validate_cohort

    check_place(out, folder=True)
    tried = None if policy is None else load_policy(policy)
    with shown_progress() as progress:
        report = validate_cohort(
            manifest,
            out,
            bundle=bundle,
            restorer=restorer,
            device=device,
            seed=seed,
            reading=Reading(um_per_px, full_scale, channels, plane, flat_field),
            policy=tried,
            join_labels=join_labels,
            previous_bundle=previous_bundle,
            pdf=pdf,
            report=progress,
            **settings_of(sampler, profile, precision),
        )
    first = report.first
    tell(*first.left_out, *first.warnings, *first.sentences)
    for alarm in first.alarms:
        tell(f"Restoration harms: {alarm}")
    if not first.alarms:
        tell(first.calm)
    for missing in first.missing:
        tell(f"Not computed. {missing}")
    tell(out / "report.html", *([] if previous_bundle is None else [out / "impact.html"]))
    if first.left_out and not allow_missing:
        raise typer.Exit(ExitCode.INCOMPLETE)
    if strict and first.alarms:
        raise typer.Exit(ExitCode.FLAGGED)
