"""What ``submit``, ``logs`` and ``stop`` share: the job server, and following one of its jobs to the end."""

from __future__ import annotations

import json as json_module
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from archsearch.cluster.job_server import JobServer, SubmittedJob


def server(address: str) -> JobServer:
    """The job server at an address, with Ray's environment set for it before ray is loaded."""
    from archsearch.cluster import ray_environment

    ray_environment.prepare_client(address)
    from archsearch.cluster.job_server import JobServer

    return JobServer(address)


def follow_to_end(found: JobServer, job: SubmittedJob, *, json: bool) -> NoReturn:
    """Show what a job says (with ``json`` on stderr) until it has ended, and leave with its exit code."""
    out = sys.stderr if json else sys.stdout

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    try:
        ended = found.follow(job.id, write)
    except KeyboardInterrupt:
        say(f"\n{job.id} goes on: archsearch logs {job.submission.name} --address {found.address}")
        raise
    leave(ended, found.address, json=json)


def leave(ended: SubmittedJob, address: str, *, json: bool) -> NoReturn:
    """Say how a job ended, and leave with its exit code."""
    if json:
        print(json_module.dumps(summary(ended, address), indent=2))
    elif ended.exit_code:
        why = ended.message.partition(", last available logs")[0]  # Ray repeats what was said
        say(f"{ended.id} has ended: {ended.status}, exit code {ended.exit_code}. {why}")
    if ended.exit_code == 127:
        say("the head has no `archsearch` on its PATH: start Ray there in the environment that has it")
    raise typer.Exit(ended.exit_code or 0)


def summary(job: SubmittedJob, address: str) -> dict[str, object]:
    return {
        "job": job.id,
        "run": job.submission.folder,
        "address": address,
        "state": job.status,
        "exit_code": job.exit_code,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
