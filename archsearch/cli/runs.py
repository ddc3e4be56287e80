"""``archsearch runs``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from archsearch.cli.options import Json

EXAMPLES = """
archsearch runs
archsearch runs --dir /shared/runs --json
"""


def command(
    dir_: Annotated[Path, typer.Option("--dir", help="The folder that holds the runs.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List the runs in a folder: state, points, best error. A damaged run is listed with what is wrong."""
    from archsearch.store import list_runs

    rows = [_row(folder.path) for folder in list_runs(dir_)]
    if json:
        print(json_module.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(f"no runs in {dir_}; `archsearch search CONF` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "state", "points", "frontier", "best error"):
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    for row in rows:
        best = row.get("best")
        error = f"{best['error']:.2%}" if best else ""
        table.add_row(Path(row["run"]).name, row["state"], str(row.get("points", "")), str(len(row.get("frontier", []))), error)
    Console().print(table)


def _row(path: Path) -> dict[str, Any]:
    from archsearch import api
    from archsearch.jobs import ArchsearchError

    try:
        return api.load_run(path).summary()
    except ArchsearchError as error:
        return {"run": str(path), "state": f"unreadable: {error}"}
