"""``archsearch backup``."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json, size_text

EXAMPLES = """
archsearch backup runs/petridish_digits /safe/petridish_digits
archsearch resume /safe/petridish_digits        # a backup is a run: it goes on where the copy was made
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    to: Annotated[Path, typer.Argument(metavar="DEST", help="The folder that the copy gets; a new one.")],
    json: Json = False,
) -> None:
    """Copy a run, with its weights and evaluations, into another folder, also while it is being searched.

    Every event and every artifact is checked on its way, and the copy is opened and read again. It needs nothing of the
    run: a log in PostgreSQL becomes a SQLite file, artifacts from s3:// become files. The same command again goes on after
    Ctrl-C or a kill.
    """
    from archsearch.backup import backup

    done = backup(run, to, lambda text: print(text, file=sys.stderr, flush=True))
    if json:
        print(json_module.dumps(asdict(done), indent=2))
    else:
        print(f"{done.backup}: {done.events} events, {done.artifacts} artifacts ({size_text(done.bytes)}), checked")
