"""``archsearch devices``."""

from __future__ import annotations

import json as json_module
import sys
import time
from typing import Annotated, Any

import typer

from archsearch.cli.options import Json
from archsearch.jobs import InputError

EXAMPLES = """
ray start --address=HEAD:6379 --num-cpus=0 --labels device=pi4     # a node that has, or reaches, the device pi4
archsearch devices                          # of this machine's cluster
archsearch devices --address HEAD:6379
archsearch devices --json | python -m json.tool
"""


def command(
    address: Annotated[
        str, typer.Option("--address", metavar="auto|HOST:PORT", help="The Ray cluster: this machine's, or another.")
    ] = "auto",
    json: Json = False,
) -> None:
    """List the devices of a cluster: state, queue, runs in it, fingerprints, when each was seen last.

    A device is there when a node with its name has joined, by the label device=NAME or the custom resource device:NAME.
    How it is reached stands in a run's configuration, section devices. It is ready; measuring; reserving its node (jobs
    of others still run there); locked by another (cluster, on the same host); unreachable (a board that does not answer);
    or waiting for node: its jobs wait, and nothing else waits for them. A fingerprint is that of the measurements made there
    last (with so many threads, these versions): one for each runtime that has measured.

    Exit codes: 0; 2: no cluster answers at that address.
    """
    from archsearch.cluster import ray_environment

    if address == "local":
        raise InputError("--address local: a cluster that starts now has no devices; name one that runs, or auto.")
    print(f"asking the cluster at {address} …", file=sys.stderr, flush=True)
    ray_environment.prepare_visit()
    from archsearch.cluster.device_listing import devices_at

    rows = [device.to_json() for device in devices_at(address)]
    if json:
        print(json_module.dumps(rows, indent=2))
    elif rows:
        _show(rows)
    else:
        print("no devices: join a node with `ray start --address=HEAD:6379 --labels device=NAME`")


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("device", "state", "queue", "host", "processor", "fingerprints", "seen"):
        table.add_column(name, justify="right" if name == "queue" else "left", no_wrap=name != "processor")
    for row in rows:
        about = row["about"]
        seen = time.strftime("%m-%d %H:%M:%S", time.localtime(row["seen"])) if row["seen"] else "never"
        cells = [row["device"], row["state"], str(sum(row["queue"].values())), row["host"], str(about.get("cpu", ""))]
        table.add_row(*cells, "\n".join(f"{found} {runtime}" for runtime, found in row["fingerprints"].items()), seen)
    console = Console()
    console.print(table)
    for row in rows:
        notes = [row["detail"]] if row["detail"] else []
        if row["running"]:
            notes.append(f"job {row['running']['job']} of {row['running']['run']}")
        notes += [f"{jobs} waiting of {run}" for run, jobs in row["queue"].items()]
        for note in notes:
            console.print(f"{row['device']}: {note}", markup=False, highlight=False, soft_wrap=True)
