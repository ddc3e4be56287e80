"""``archsearch logs``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from archsearch.cli.options import Server

EXAMPLES = """
archsearch logs petridish_digits --address http://head:8265
archsearch logs petridish_digits --no-follow | tail
"""


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|JOB", help="A submitted run by name or folder, or a job's id.")],
    address: Server,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on until it ends; else what it has said so far.")
    ] = True,
) -> None:
    """Show what a submitted search says, from the beginning of its latest session.

    Exit codes: that of the search once it has ended; Ctrl-C leaves it running.
    """
    from archsearch.cli.jobs import follow_to_end, server

    found = server(address)
    job = found.find(run)
    if follow:
        follow_to_end(found, job, json=False)
    sys.stdout.write(found.logs(job.id))
