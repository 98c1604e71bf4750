"""Options of all commands: what means the same has one name, one default and one help, in one order, in plain English."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import click
import pytest
import typer

from srh_clinic.cli.app import app
from srh_clinic.cli.benchmark import TABLES
from srh_clinic.restorers import RESTORERS
from srh_clinic.training import TASKS
from srh_clinic.validation import PARTS

OWN_MEANING = {
    "out": "what a command writes: a slide, a cohort, a result, reports, a bundle",
    "size": "of a case, of a cohort's images, of the slides that are timed",
    "seed": "of noise, tissue, assignment, raters, cohorts or intervals",
    "bundle": "whose networks are used, or several that are judged",
    "restorer": "that is used, or several that are judged",
    "tiles": "judged by, or timed",
    "limit": "of a table's images, or of the phantoms that judging is measured on",
    "strict": "flags of a case, or harm to a cohort",
    "policy": "decides a case, or is tested on a cohort",
    "reference": "of a drift, or images of other fields",
    "images": "a folder of them, or their number",
    "preset": "the extent of tables, or the design of a study",
    "patients": "of a tree of patches, or of a cohort",
    "keep": "share of tiles, or days that received files stay",
    "case": "to be read, or of a run's ledger",
    "allow_missing": "of the rows of a manifest, or of cases that could not be done",
    "extends": "what takes the parts that are missing from another bundle",
    "steps": "of a training, or of each network that is compared",
    "metrics": "of a run, kept up to date in a file or printed",
    "to": "the format of a slide, or of ratings, or where images go",
    "source": "the program that ratings come from, or the archive that images do",
    "title": "of raters' pages, or of an application entity",
    "port": "of raters' pages, of C-MOVE, or of a listener",
    "patience": "validations of a training, or seconds for a Raman shift",
    "workers": "of a cohort, or of a listener",
}
"""Names that mean something else from command to command, and what."""

IN_ORDER = (
    "out",
    "bundle",
    "weights",
    "restorer",
    "sampler",
    "profile",
    "device",
    "seed",
    "um_per_px",
    "full_scale",
    "channels",
    "plane",
    "ch3",
    "json",
    "html",
    "qupath",
    "fhir",
    "dicom_out",
    "strict",
    "policy",
)
"""The order of the options that commands share, where a command has them."""


def commands(command: click.Command | None = None, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words."""
    command = command or typer.main.get_command(app)
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from commands(below, (*names, name))
    else:
        yield " ".join(names), command


COMMANDS = dict(commands())


def parameters() -> Iterator[tuple[str, click.Parameter]]:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            yield name, parameter


def test_options_that_mean_the_same_have_one_default_and_one_help() -> None:
    found: dict[tuple[str, str], set[tuple[object, ...]]] = defaultdict(set)
    for _, parameter in parameters():
        meaning = (tuple(parameter.opts), str(parameter.default), getattr(parameter, "help", None))
        found[parameter.param_type_name, parameter.name or ""].add(meaning)
    several = {name for (_, name), meanings in found.items() if len(meanings) > 1}
    assert several == set(OWN_MEANING)


def test_options_of_one_help_have_one_name() -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for _, parameter in parameters():
        if parameter.param_type_name == "option":
            names[getattr(parameter, "help", None) or ""].add(parameter.name or "")
    assert {help_: of for help_, of in names.items() if len(of) > 1} == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole_sentences(name: str) -> None:
    texts = {parameter.name: getattr(parameter, "help", None) for parameter in COMMANDS[name].params}
    texts["the command"] = COMMANDS[name].help
    for what, text in texts.items():
        assert text, what
        assert text[0].isupper(), (what, text)
        assert text.rstrip().endswith("."), (what, text)


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_come_source_first_and_options_in_one_order(name: str) -> None:
    kinds = [(parameter.param_type_name, parameter.name or "") for parameter in COMMANDS[name].params]
    arguments = [argument for kind, argument in kinds if kind == "argument"]
    if "out" in arguments:
        assert arguments[-1] == "out"
    shared = [option for kind, option in kinds if kind == "option" and option in IN_ORDER]
    assert shared == sorted(shared, key=IN_ORDER.index)


def test_what_files_do_not_say_can_be_said_wherever_one_is_read() -> None:
    """Of two files of one channel each, `convert` takes both as arguments, and manifests and folders name them."""
    reads = {name for name, parameter in parameters() if parameter.name == "um_per_px"}
    assert {"restore", "diagnose", "convert", "validate", "study export", "benchmark real", "benchmark all"} <= reads
    for name in reads - {"train"}:  # trainings read patches, slides and strips; a plane of a stack is not asked for
        assert {"full_scale", "channels", "plane"} <= {parameter.name for parameter in COMMANDS[name].params}, name


def test_help_names_every_restorer_task_and_part() -> None:
    """Written out, because importing the tables would load the networks' libraries for ``--help``."""
    helps = {(name, parameter.name): getattr(parameter, "help", None) or "" for name, parameter in parameters()}
    baselines = {task for task in TASKS if task not in ("calibrator", "denoiser", "classifier")}
    for task in TASKS:
        assert task in helps["train", "task"]
    for restorer in set(RESTORERS) - baselines:
        assert restorer in helps["restore", "restorer"]
    for part in PARTS["protocol"]:
        assert part in helps["benchmark protocol", "part"]
    assert tuple(TABLES) == PARTS["tables"]
