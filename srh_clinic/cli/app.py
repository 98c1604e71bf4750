"""The command line: parse, compose, print.

Results go to stdout, progress and errors to stderr. What a user can mend ends in one sentence and exit code 2; a traceback
with exit code 1 is a defect of ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from srh_clinic import __version__
from srh_clinic.cli.benchmark import benchmark_app
from srh_clinic.cli.bundle import bundle_app, train
from srh_clinic.cli.cases import convert, diagnose, judge, restore, simulate, validate
from srh_clinic.cli.cohort import cohort_app
from srh_clinic.cli.config import as_defaults, config_app, configured
from srh_clinic.cli.options import guarded
from srh_clinic.cli.output import FRAMED, Terminal, listed, tell, words
from srh_clinic.cli.pacs import pacs_app
from srh_clinic.cli.study import study_app
from srh_clinic.errors import ExitCode

app = typer.Typer(
    name="srh-clinic",
    help="Restore stimulated Raman histology, then classify it as tumor, normal or non-diagnostic. "
    "Research software, not a medical device.",
    epilog="Exit codes: 0 done; 2 the call or its input is wrong; 3 done, but flagged (with --strict); 4 done, "
    "but without what could not be used; 1 a defect of ours.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def _version(asked: bool) -> None:
    if asked:
        tell(f"srh-clinic {__version__}")
        raise typer.Exit


@app.callback()
@guarded
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Options that the call does not give, in TOML: see config show."),
    ] = None,
) -> None:
    context.obj = configured(context, config, os.environ)
    context.default_map = as_defaults(context.obj)


@guarded
def doctor() -> None:
    """Show what is installed, which device and weights there are, and how to get what is missing."""
    from rich.table import Table

    from srh_clinic.health import check_health

    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    checks = check_health()
    for check in checks:
        mark = "[green]ok[/]" if check.good else "[red]missing[/]" if check.needed else "[yellow]no[/]"
        table.add_row(mark, words(check.name), words(check.found))
        if not check.good:
            table.add_row("", "", f"[dim]{words(check.remedy)}[/]")
    terminal = Terminal()
    if terminal.width < FRAMED:
        columns = zip(*(column.cells for column in table.columns), strict=True)
        terminal.print(listed([(f"{mark} {name}", found) for mark, name, found in columns]))
    else:
        terminal.print(table)
    if any(check.needed and not check.good for check in checks):
        raise typer.Exit(ExitCode.INPUT)


for _command in (simulate, convert, restore, diagnose, judge, validate, train, doctor):
    app.command()(_command)
GROUPS = {
    **{"bundle": bundle_app, "benchmark": benchmark_app, "study": study_app},
    **{"cohort": cohort_app, "pacs": pacs_app, "config": config_app},
}
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Entry point of the command ``srh-clinic``."""
    app()
