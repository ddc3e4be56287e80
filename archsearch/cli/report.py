"""``archsearch report``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json

EXAMPLES = """
archsearch report runs/petridish_digits
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    json: Json = False,
) -> None:
    """Write a run's report.html, tables (TSV), pictures (PNG) and gallery of frontier architectures (YAML) into its folder."""
    from archsearch import api
    from archsearch.jobs import InputError

    found = api.load_run(run)
    if not found.points():
        raise InputError(f"{found.path} has no trained point yet: there is nothing to report.")
    files = [str(path) for path in found.report()]
    print(json_module.dumps(files, indent=2) if json else "\n".join(files))
