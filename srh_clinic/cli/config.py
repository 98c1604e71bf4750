"""Options that are not given in a call: those of a configuration file, and of the environment before it.

::

    # ~/.config/srh-clinic/config.toml, $SRH_CLINIC_CONFIG, or srh-clinic --config FILE
    device = "cpu"                  # every command that has the option

    [cohort.run]                    # this command alone
    workers = 2
    no-identity = true

``SRH_CLINIC_DEVICE=cuda`` or ``SRH_CLINIC_COHORT_RUN_DEVICE=cuda`` stand before the file, and the call before both. A
name that no command knows is refused wherever it stands.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srh_clinic.cli.options import guarded
from srh_clinic.cli.output import tell
from srh_clinic.errors import InputError

if TYPE_CHECKING:
    from typer._click import Command, Context, Parameter

PREFIX = "SRH_CLINIC_"

FILE = f"{PREFIX}CONFIG"
"""Variable that names the file."""

OTHERS = (FILE, f"{PREFIX}LIMITS")
"""Variables that are no options. Nor are those of :mod:`srh_clinic.pacs.credentials`, which nothing here reads or shows."""

_BEFORE_HOST, _QUERY = re.compile(r"(?<=://)[^\s'\"]*@"), re.compile(r"(://[^\s'\"?]*\?)[^\s'\"]*")

FALSE, TRUE = ("0", "false", "no", "off", ""), ("1", "true", "yes", "on")

config_app = typer.Typer(help="The configuration: what is in force, and where it comes from.", no_args_is_help=True)


@dataclass(frozen=True)
class Option:
    """An option of a command: ``("cohort", "run")`` and ``"um-per-px"``."""

    command: tuple[str, ...]
    name: str
    parameter: Parameter
    context: Context

    @property
    def variables(self) -> tuple[str, str]:
        """Those of the environment that give it, the one that means only this command first."""
        name = self.name.replace("-", "_").upper()
        words = "_".join(self.command).replace("-", "_").upper()
        return f"{PREFIX}{words}_{name}", f"{PREFIX}{name}"

    def __str__(self) -> str:
        return f"{' '.join(self.command)} --{self.name}"


@dataclass(frozen=True)
class Given:
    """What an option is when a call says nothing of it, and who says so."""

    option: Option
    value: Any
    where: str


def options_of(context: Context) -> Iterator[Option]:
    """Every option of every command below that of a context, but for ``--help``."""
    yield from _below(context.command, context, ())


def _below(command: Command, context: Context, words: tuple[str, ...]) -> Iterator[Option]:
    for name, child in getattr(command, "commands", {}).items():
        inner = child.context_class(child, parent=context, info_name=name)
        yield from _below(child, inner, (*words, name))
    for parameter in command.params if words else ():
        long = [text.removeprefix("--") for text in parameter.opts if text.startswith("--")]
        if long and long[0] != "help":
            yield Option(words, long[0], parameter, context)


def config_file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one that is named, by the call or the environment, or the user's own if there is one.

    Raises
    ------
    InputError
        When the one that is named is not there.
    """
    path = named or (Path(environ[FILE]) if environ.get(FILE) else None)
    if path is not None:
        if not path.is_file():
            raise InputError("no such file", "a configuration file (TOML)", path)
        return path
    try:
        own = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "srh-clinic" / "config.toml"
    except RuntimeError:  # a service without a home
        return None
    return own if os.path.isfile(own) else None  # noqa: PTH113 - a home that may not be looked into holds no file for us


def configured(context: Context, named: Path | None, environ: Mapping[str, str]) -> list[Given]:
    """All options that file or environment give, in the order of the commands.

    Raises
    ------
    InputError
        When the file cannot be read, a name is no option, or a value is none for it.
    """
    options = list(options_of(context))
    path = config_file(named, environ)
    told = {} if path is None else _in_file(path, options)
    from srh_clinic.pacs.credentials import VARIABLES

    known = {variable for option in options for variable in option.variables} | {*OTHERS, *VARIABLES}
    if unknown := sorted(name for name in environ if name.startswith(PREFIX) and name not in known):
        raise InputError(f"the variable {unknown[0]} in the environment", "the name of an option, as config show lists them")
    given = []
    for option in options:
        variable = next((name for name in option.variables if name in environ), None)
        if variable is not None:
            given.append(_checked(option, _of_text(option, environ[variable]), variable, None))
        elif (option.command, option.name) in told:
            given.append(_checked(option, told[option.command, option.name], str(path), path))
    return given


def as_defaults(given: list[Given]) -> dict[str, Any]:
    """The same by commands and parameters, as :attr:`Context.default_map` takes it."""
    defaults: dict[str, Any] = {}
    for one in given:
        place = defaults
        for word in one.option.command:
            place = place.setdefault(word, {})
        place[str(one.option.parameter.name)] = one.value
    return defaults


def _in_file(path: Path, options: list[Option]) -> dict[tuple[tuple[str, ...], str], Any]:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"a configuration that cannot be read ({error})", "a file in TOML", path) from error
    names = {option.name for option in options}
    by_command: dict[tuple[str, ...], set[str]] = {}
    for option in options:
        by_command.setdefault(option.command, set()).add(option.name)
    groups = {command[:length] for command in by_command for length in range(1, len(command))}
    found: dict[tuple[tuple[str, ...], str], Any] = {}

    def walk(table: Mapping[str, Any], words: tuple[str, ...]) -> None:
        for name, value in table.items():
            below = (*words, name)
            if isinstance(value, dict) and (below in by_command or below in groups):
                walk(value, below)
            elif words in by_command and name in by_command[words]:
                found[words, name] = value
            elif words or name not in names:
                what = f"[{'.'.join(below)}]" if isinstance(value, dict) else f"the option {'.'.join(below)}"
                raise InputError(what, "commands and their options, as config show lists them", path)

    walk(said, ())
    for option in options:
        if option.name in said and not isinstance(said[option.name], dict):
            found.setdefault((option.command, option.name), said[option.name])
    return found


def _of_text(option: Option, text: str) -> Any:
    """A variable's text as a value: several separated by blanks where an option can be repeated."""
    if getattr(option.parameter, "is_flag", False):
        return {**dict.fromkeys(FALSE, False), **dict.fromkeys(TRUE, True)}.get(text.strip().lower(), text)
    if option.parameter.multiple or option.parameter.nargs != 1:
        return text.split()
    return text


def _checked(option: Option, value: Any, where: str, path: Path | None) -> Given:
    flag = bool(getattr(option.parameter, "is_flag", False))
    several = option.parameter.multiple or option.parameter.nargs != 1
    if isinstance(value, bool) != flag or isinstance(value, list) != several or isinstance(value, dict):
        needed = "true or false" if flag else "a list" if several else "one value"
        raise InputError(f"{_shown(value)} for {option}", needed, path or where)
    try:
        option.parameter.process_value(option.context, value)
    except typer.BadParameter as error:
        raise InputError(f"{_shown(value)} for {option}", error.message.rstrip("."), path or where) from error
    return Given(option, value, where)


def _shown(value: Any) -> str:
    """A value as it is printed: before an address's host or in its query may stand a secret, which whoever uses it refuses."""
    return _QUERY.sub(r"\1...", _BEFORE_HOST.sub("...@", repr(value)))


@config_app.command("show")
@guarded
def config_show(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", help="Only this command's, such as cohort run.")
    ] = None,
) -> None:
    """Show every option that a call need not give, its value, and where that comes from: environment, file or default."""
    root: Any = context.find_root()
    given = {(one.option.command, one.option.name): one for one in root.obj}
    asked, shown = tuple(command or ()), False
    for option in options_of(root):
        if option.command[: len(asked)] != asked:
            continue
        shown = True
        one = given.get((option.command, option.name))
        if one is not None:
            tell(f"{option} = {_shown(one.value)}  ({one.where})")
        elif not option.parameter.required:
            tell(f"{option} = {option.parameter.default!r}  (default)")
    if not shown:
        raise InputError(f"the command {' '.join(asked)!r}", "one that srh-clinic --help lists")
