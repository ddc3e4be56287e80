"""``archsearch submit``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json, Server, Set

EXAMPLES = """
archsearch submit confs/petridish_digits.yaml --address http://head:8265
export ARCHSEARCH_ADDRESS=http://head:8265     # instead of --address
archsearch submit confs/petridish_digits.yaml --no-follow
archsearch submit confs/petridish_digits.yaml --set budget.wall_clock=2d --run-dir /shared/runs/long
archsearch logs petridish_digits     # from any machine that has the token, as often as you like
archsearch stop petridish_digits     # in order; the same `submit` goes on with it
"""


def command(
    conf: Annotated[Path, typer.Argument(metavar="CONF", help="The configuration, a YAML file on this machine.")],
    address: Server,
    set_: Set = None,
    run_dir: Annotated[
        str | None, typer.Option(metavar="PATH", help="The run's folder on the cluster; default: its name below run.dir.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show what the search says until it ends.")] = True,
    json: Json = False,
) -> None:
    """Hand a search to a running Ray cluster: it goes on when this command, its terminal or its machine is gone.

    On the cluster's head a supervisor starts the search and starts it again whenever its driver dies. The configuration
    travels, includes and variables filled in; code and data are those of the cluster. Relative paths begin in the folder
    in which Ray was started there. Variables with secret names (MY_PASSWORD) are read there too and never sent.

    Submitting the same run again goes on with it, with new budgets and resources if they have changed; while it runs
    that is refused. Ctrl-C leaves the search running.

    Exit codes: that of the search (0 done, 2 bad input, 3 stopped by failures, 130 stopped); 0 with --no-follow.
    """
    from archsearch.cli.driving import load_named
    from archsearch.cli.jobs import follow_to_end, say, server, summary
    from archsearch.cluster.submission import submission

    checked = load_named(conf, [*(set_ or []), "cluster.executor=ray", "cluster.address=auto"])
    what = submission(checked, run_dir)
    found = server(address)
    if found.open_to_all:
        say(
            f"warning: {address} asks for no token: whoever reaches it can run code on the cluster. See confs/cluster/README.md"
        )
    job = found.submit(what)
    say(f"submitted {job.id}: the run is {what.folder} on the cluster")
    say(f"follow it with  archsearch logs {what.name} --address {address}")
    say(f"end it with     archsearch stop {what.name} --address {address}")
    if follow:
        follow_to_end(found, job, json=json)
    if json:
        print(json_module.dumps(summary(job, address), indent=2))
