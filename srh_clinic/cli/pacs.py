"""Commands that speak with a PACS."""

from __future__ import annotations

import typer

pacs_app = typer.Typer(help="From and to a PACS.", no_args_is_help=True)
