"""``archsearch status``."""

from __future__ import annotations

import json as json_module
import time
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json

EXAMPLES = """
archsearch status runs/petridish_digits
archsearch status runs/petridish_digits --watch
archsearch status runs/petridish_digits --json | python -m json.tool
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds until the run's driver has left.")
    ] = False,
    json: Json = False,
) -> None:
    """Show where a run stands: jobs, pool, frontier. Reading never disturbs a running search."""
    from rich.console import Console

    from archsearch import api

    console = Console()
    while True:
        found = api.load_run(run)
        summary = found.summary()
        if json:
            print(json_module.dumps(summary, indent=None if watch else 2), flush=True)
        else:
            if watch and console.is_terminal:
                console.clear()
            _show(console, found, summary)
        if not watch or summary["state"] != "running":
            return
        time.sleep(2.0)


def _show(console: object, run: object, summary: dict[str, object]) -> None:
    from rich.console import Console

    from archsearch.api import Run, frontier_settings
    from archsearch.cli.options import size_text
    from archsearch.cluster.placement import waits_for
    from archsearch.report import frontier_table

    assert isinstance(console, Console) and isinstance(run, Run)
    jobs = {state: n for state, n in run.summary()["jobs"].items() if n}
    reason = f": {summary['reason']}" if summary["reason"] else ""
    console.print(f"{summary['run']}  {summary['state']}{reason}", markup=False, highlight=False, soft_wrap=True)
    console.print("jobs  " + "  ".join(f"{state} {n}" for state, n in jobs.items()), highlight=False)
    for about in run.summary()["waiting"]:
        text = f"job {about['job']} {about['stage']} {waits_for(about)}"
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for name, about in run.summary().get("measurements", {}).items():
        counts = [f"measured {len(about['measured'])}", *([f"waiting {len(about['waiting'])}"] if about["waiting"] else [])]
        counts += [f"noisy {len(about['noisy'])}"] if about["noisy"] else []
        counts += [f"without {len(ids)} ({reason})" for reason, ids in about["lacking"].items()]
        console.print(f"{name}  {'  '.join(counts)}", markup=False, highlight=False, soft_wrap=True)
    weights, log = size_text(run.disk["artifacts"]), size_text(run.disk["log"])
    console.print(f"disk  weights {weights}  log {log}", highlight=False)
    points = run.points()
    if points:
        console.print(frontier_table(points, **frontier_settings(run.config)))
