"""``archsearch stop``."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from archsearch.cli.options import Json, Server

EXAMPLES = """
archsearch stop petridish_digits --address http://head:8265
"""


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|JOB", help="A submitted run by name or folder, or a job's id.")],
    address: Server,
    json: Json = False,
) -> None:
    """End a submitted search in order: running jobs write their checkpoints first (cluster.grace).

    Submitting it again goes on from there. Exit code 0: it has ended, now or before.
    """
    from archsearch.cli.jobs import say, server, summary

    found = server(address)
    job = found.find(run)
    if job.running:
        say(f"{job.id} was asked to stop; its running jobs may take {job.submission.grace:.0f} s for their checkpoints …")
        job = found.stop(job.id)
    if json:
        print(json_module.dumps(summary(job, address), indent=2))
    else:
        say(f"{job.id}: {job.status}. `archsearch submit` goes on with it.")
