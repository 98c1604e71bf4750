"""Commands that speak with a PACS."""

from __future__ import annotations

import typer

from srh_clinic.cli.listen import listen
from srh_clinic.cli.transfer import fetch, push

pacs_app = typer.Typer(help="From and to a PACS.", no_args_is_help=True)

for _command in (listen, push, fetch):
    pacs_app.command()(_command)
