"""Commands on bundles of networks: what there is, what it promises, whether it is complete; and training them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srh_clinic.cli.options import (
    BundleArgument,
    BundleFolderArgument,
    ChannelsOption,
    DataOption,
    DeviceOption,
    FlatFieldOption,
    FullScaleOption,
    UmPerPxOption,
    guarded,
    shown_progress,
)
from srh_clinic.cli.output import Terminal, tell
from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from srh_clinic.bundles import Bundle

bundle_app = typer.Typer(
    help="The networks: which there are, what they were trained for, whether they are complete.", no_args_is_help=True
)


@bundle_app.command("list")
@guarded
def bundle_list() -> None:
    """List the names of the bundles in the package."""
    from srh_clinic.bundles import bundle_names

    for name in bundle_names():
        tell(name)


@bundle_app.command("show")
@guarded
def bundle_show(name: BundleArgument) -> None:
    """Show the model card of a bundle."""
    from srh_clinic.bundles import load_bundle
    from srh_clinic.cli.card import Card

    loaded = load_bundle(name)
    Terminal().print(Card((loaded.path / "docs" / "README.md").read_text(encoding="utf-8")))
    tell(*(f"{part}: in {loaded.holder(part).name}" for part in loaded.parts))
    tell(*_promises(loaded), *_policy(loaded), "", f"weights_sha256 {loaded.weights_sha256}", loaded.path)


def _promises(bundle: Bundle) -> Iterator[str]:
    """What a bundle promises of its guards."""
    from srh_clinic.case.provenance import guard_policy_of

    policy = guard_policy_of(bundle)
    if policy is None:
        yield ""
        yield "guards: no thresholds for these weights and guards; srh-clinic bundle calibrate makes them"
        return
    yield ""
    yield "guards:"
    for promise in policy.promises:
        said = f"at most {promise.alpha:.0%} of tiles with something wrong go unflagged (confidence {promise.confidence:.0%})"
        yield f"  {said}: flags from {promise.threshold:.3f}"
    if "lattice" in policy.limits:
        yield f"  patterns of a grid: flags from {policy.limits['lattice']:.2f} times the amplitude around"
    else:
        yield "  patterns of a grid: no limit, nobody listens for them; srh-clinic bundle calibrate makes one"
    yield f"  for tiles that need {policy.steps[0]} to {policy.steps[1]} steps; calibrated on"
    for name, value in policy.calibration.items():
        yield f"    {name}: {value}"


def _policy(bundle: Bundle) -> Iterator[str]:
    """The policy by which diagnose decides with a bundle, where it carries one."""
    from srh_clinic.case.provenance import selective_policy_of

    policy = selective_policy_of(bundle)
    if policy is None:
        return
    yield ""
    fits = policy.calibration.get("weights_sha256") == bundle.weights_sha256
    yield "policy:" if fits else "policy, not used, for it was made with other weights:"
    yield f"  {policy.in_words()}"
    if (bound := policy.bound) is not None:
        of = f"{bound.patients} patients, confidence {bound.confidence:.0%}"
        yield f"  wrong diagnoses: at most {bound.upper:.1%} of a patient's cases ({of})"


@bundle_app.command("card")
@guarded
def bundle_card(
    bundle: BundleFolderArgument,
    reports: Annotated[
        Path | None, typer.Option(help="Folder of the reports of benchmark protocol; by default the training logs are used.")
    ] = None,
) -> None:
    """Write a bundle's model card anew, with the scores of its weights."""
    from srh_clinic.validation.benchmarks.model_card import write_model_card

    tell(write_model_card(bundle, reports).path / "docs" / "README.md")


@bundle_app.command("calibrate")
@guarded
def bundle_calibrate(
    bundle: BundleFolderArgument,
    work: Annotated[Path, typer.Option(help="Folder for what is restored on the way; an interrupted run goes on from there.")],
    device: DeviceOption = "auto",
) -> None:
    """Calibrate the guards for a bundle's networks, on simulated tissue, and write their thresholds into it."""
    from srh_clinic.validation import calibrate_guards

    with shown_progress() as progress:
        calibrated = calibrate_guards(bundle, work, device=device, report=progress)
    for line in _promises(calibrated):
        tell(line)


@bundle_app.command("policy")
@guarded
def bundle_policy(
    bundle: BundleFolderArgument,
    policy: Annotated[str, typer.Argument(metavar="FILE|none", help="The policy.json of a validation with this bundle.")],
) -> None:
    """Put a policy into a bundle: diagnose uses it by default, as long as the weights are those it was made with."""
    from srh_clinic.bundles import annotate_bundle, load_bundle
    from srh_clinic.trust import load_policy

    loaded, chosen = load_bundle(bundle), None if policy == "none" else load_policy(policy)
    if chosen is not None:
        _require_fitting(chosen.calibration, loaded, policy)
    annotate_bundle(loaded, {"policy": None if chosen is None else chosen.model_dump(mode="json")})
    tell(f"{loaded.name}: no policy" if chosen is None else f"{loaded.name}: {chosen.in_words()}")


def _require_fitting(calibration: Mapping[str, Any], bundle: Bundle, file: str) -> None:
    """Refuse a policy that was made with other weights, or of patches."""
    found = str(calibration.get("weights_sha256", "no weights that it names"))
    if found != bundle.weights_sha256:
        needed = f"one of a validation with the weights of this bundle, {bundle.weights_sha256[:12]}"
        raise InputError(f"a policy made with {found[:12]}", needed, file)
    if (level := calibration.get("level", "slide")) != "slide":
        raise InputError(f"a policy calibrated at the level of a {level}", "one calibrated on slides", file)


@bundle_app.command("fetch")
@guarded
def bundle_fetch(
    source: Annotated[str, typer.Argument(metavar="DIR|OWNER/NAME", help="A bundle's folder, or its name on the hub.")],
    out: Annotated[Path, typer.Option(help="Folder of the copy.")],
    revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Commit on the hub.")] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Of its configs/metadata.json, in which those of all other files stand.")
    ] = None,
) -> None:
    """Copy a bundle from a hub or a folder, pinned and checked."""
    from srh_clinic.bundles.hub import fetch_bundle

    bundle = fetch_bundle(source, out, revision=revision, sha256=sha256)
    tell(f"{bundle.path}: with {', '.join(bundle.parts)}")


@bundle_app.command("publish")
@guarded
def bundle_publish(
    bundle: BundleFolderArgument,
    target: Annotated[str, typer.Argument(metavar="DIR|OWNER/NAME", help="A folder, or a name on the hub.")],
) -> None:
    """Put a bundle onto a hub or into a folder, and print the command that fetches it."""
    from srh_clinic.bundles import load_bundle
    from srh_clinic.bundles.hub import publish_bundle

    tell(publish_bundle(load_bundle(bundle), target))


@bundle_app.command("import-official")
@guarded
def bundle_import_official(
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    denoiser: Annotated[Path, typer.Option(metavar="FILE", readable=False, help="State dict of the released U-Net.")],
    calibrator: Annotated[
        Path, typer.Option(metavar="FILE", readable=False, help="The released calibrator, pickled whole or as a state dict.")
    ],
    trained_um_per_px: Annotated[float, typer.Option(help="Pixel size in um that both were trained at.")] = 0.47,
    offset: Annotated[
        float, typer.Option(help="What the calibrator's code adds to its output: 1, or 0 in its first version.")
    ] = 1.0,
    extends: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Take what the bundle lacks, a classifier, from this one.")
    ] = None,
) -> None:
    """Make a bundle of the released checkpoints of RSCD; nothing in them is run."""
    from srh_clinic.restorers.official import import_official

    bundle = import_official(denoiser, calibrator, out, um_per_px=trained_um_per_px, offset=offset, extends=extends)
    for part, about in bundle.metadata["imported"].items():
        tell(f"{part}: {about['tensors']} tensors of {about['file']}, sha256 {about['sha256']}")
    tell(f"{bundle.path}: with {', '.join(bundle.parts)}")


@bundle_app.command("verify")
@guarded
def bundle_verify(
    name: BundleArgument,
    full: Annotated[
        bool, typer.Option("--full", help="Compute the model card's scores on all phantoms that they are of (hours).")
    ] = False,
    phantoms: Annotated[int, typer.Option(min=0, help="Else on so many, to within what these tell; 0 computes nothing.")] = 24,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is restored on the way; an interrupted run goes on from there.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Compare every file of a bundle with its sha256, its networks with their weights, and its card with what they do."""
    from srh_clinic.bundles import load_bundle, verify_bundle
    from srh_clinic.classifiers import load_classifier
    from srh_clinic.restorers import RESTORERS, create_restorer

    loaded = load_bundle(name)
    for bundle in loaded.lineage:
        for file in verify_bundle(bundle.path):
            tell(f"{file if bundle is loaded else f'{bundle.name}: {file}'}: as listed")
    if {"denoiser", "calibrator"} <= set(loaded.parts):
        create_restorer("rscd", bundle=name, device="cpu")
    for part in set(loaded.parts) & set(RESTORERS):
        create_restorer(part, bundle=name, device="cpu")
    if "classifier" in loaded.parts:
        load_classifier(loaded, "cpu")
    _verify_card(loaded, full, phantoms, work, device)
    tell(f"{loaded.name}: complete, with {', '.join(loaded.parts)}")


def _verify_card(bundle: Bundle, full: bool, phantoms: int, work: Path | None, device: str) -> None:
    """Tell what a card says beside what is found; what differs is refused."""
    from srh_clinic.validation import check_card

    with shown_progress() as progress:
        checked = check_card(bundle.path, full=full, phantoms=phantoms, work=work, device=device, report=progress)
    tell(*checked)
    wrong = [one for one in checked if one.agrees is False]
    if wrong:
        first = f"{wrong[0].where}: {wrong[0].said} where {wrong[0].found} is found"
        more = f", and {len(wrong) - 1} more lines that differ" if wrong[1:] else ""
        raise InputError(f"a model card that says {first}{more}", "the card that bundle card writes", bundle.card_file)


FOR_BOTH = ("task", "out", "device", "data", "seconds")
"""What ``train rscd`` takes."""

OF_ONE = ("config", "start_from", "extends")
"""What speaks of one network, wherever it is said."""


def _refuse_for_both(context: typer.Context) -> None:
    """Refuse options that ``train rscd`` would not read."""
    given = [
        name
        for name, value in context.params.items()
        # What a configuration file says of all trainings is for those that read it.
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE" or (name in OF_ONE and value is not None)
    ]
    given = [name for name in given if name not in FOR_BOTH]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise InputError(f"rscd with {options}", "denoiser or calibrator, one at a time, for these")


@guarded
def train(
    context: typer.Context,
    task: Annotated[
        str,
        typer.Argument(
            help="What to train: calibrator, denoiser, both (rscd), classifier or a baseline (synthetic_noise, noise2noise, "
            "noise2void, cyclegan, conditional_diffusion)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle that gets the network, with checkpoints and log.")],
    device: DeviceOption = "auto",
    data: DataOption = "phantom",
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="YAML file, or the name of one in the package: denoiser-linear, ..."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop after this many seconds of training; the same call goes on from there. With rscd simulating counts.",
        ),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Begin from this bundle's network instead of random weights.")
    ] = None,
    extends: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Take what the bundle lacks from this one; baselines take phantom-demo."),
    ] = None,
    um_per_px: UmPerPxOption = None,
    full_scale: FullScaleOption = None,
    channels: ChannelsOption = None,
    flat_field: FlatFieldOption = None,
    patients: Annotated[
        str, typer.Option(metavar="folders|files", help="Whose images are: each folder's below --data, or each file's own.")
    ] = "folders",
    picks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            readable=False,
            help="Patches that an expert picked: a second stage trains on those that resemble them.",
        ),
    ] = None,
    keep: Annotated[float, typer.Option(help="Share of the training tiles that the second stage keeps.")] = 0.1,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the run, in place of the configuration's.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate, in place of the configuration's.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a classifier: a timm model, or a network that an installed package offers."),
    ] = None,
    backbone_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Checkpoint of Lightning or torch whose backbone a classifier begins from."
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Stop after so many validations without a better one, and keep the best.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the log for TensorBoard too (pip install 'srh-clinic\\[train]').")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Say at the end, by judge's measures on held-out patients, whether it helped.")
    ] = False,
) -> None:
    """Train a network and put it into a bundle; an interrupted training goes on when called again.

    Data are images where they lie, read as diagnose reads them and split by patients: a folder with a folder for each patient,
    an OpenSRH tree, or a manifest (case, patient; truth and split where known). Several processes are started with accelerate
    launch or torchrun.
    """
    from srh_clinic.training import train as fit
    from srh_clinic.training.stages import paced, train_in_stages
    from srh_clinic.training.together import train_rscd

    def report(line: dict[str, Any]) -> None:
        tell("  ".join(f"{name} {_short(value)}" for name, value in line.items()), err=True)

    if task == "rscd":
        _refuse_for_both(context)
        for name, step in train_rscd(data, out, seconds=seconds, device=device, report=report).items():
            tell(f"{out}: {name} after {step} steps")
        return
    reading = {"um_per_px": um_per_px, "full_scale": full_scale, "channels": channels, "flat_field": flat_field}
    reading = {name: value for name, value in reading.items() if value is not None}
    wanted = {"reading": reading, "learning_rate": learning_rate, "patience": patience}
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value not in (None, {})}
    changes |= paced(task, config, steps)
    if patients != "folders":
        changes["patients"] = patients
    if backbone is not None:
        changes |= {"backbone": backbone, "options": {}}
    shared: dict[str, Any] = {"seconds": seconds, "device": device, "start_from": start_from, "extends": extends}
    shared |= {"report": report, "tensorboard": tensorboard}
    if backbone_from is not None:
        shared["backbone_from"] = backbone_from
    if picks is None:
        done = {task: fit(task, data, config, out, **shared, **changes)}
    else:
        done = train_in_stages(task, data, config, out, picks=picks, keep=keep, **shared, **changes)
    for name, step in done.items():
        tell(f"{out}: {name} after {step} steps")
    if judge:
        from srh_clinic.judging.gain import measure_gain

        with shown_progress() as progress:
            tell(
                measure_gain(
                    task, data, config, out, start_from or "phantom-demo", device=device, progress=progress, **changes
                )
            )


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
