"""``archsearch runs``: the list of runs, and what is done with whole runs."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from archsearch.cli.options import Json, size_text
from archsearch.jobs import ArchsearchError, InputError

EXAMPLES = """
archsearch runs
archsearch runs --dir /shared/runs --json
archsearch runs compare runs/petridish_digits runs/growth_digits -o both.png
archsearch runs export runs/petridish_digits -o petridish_digits.zip
archsearch runs rm runs/petridish_digits
"""

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")]


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    dir_: Annotated[Path | None, typer.Option("--dir", help="The folder that holds the runs.  [default: runs]")] = None,
    json: Json = False,
) -> None:
    """List the runs in a folder (state, points, best error), or compare, remove or export runs.

    A damaged run is listed with what is wrong.
    """
    verb = context.invoked_subcommand
    if verb is None:
        _list(dir_ or Path("runs"), json=json)
    elif dir_ is not None or json:
        raise InputError(f"--dir and --json before {verb} are for the list of runs; say `archsearch runs {verb} --help`.")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run's folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another's.")],
    picture: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PICTURE", help="Draw both frontiers into this PNG file.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare the frontiers of two runs.

    The hypervolume is what a frontier dominates of the box up to a common reference: the worst cost and the worst error on
    either frontier, times 1.1. Cost and error are the runs' own; where they differ, multiply-adds and the plain
    validation error.
    """
    from archsearch import api
    from archsearch.report.compare import compare as compare_points
    from archsearch.report.compare import comparison_picture
    from archsearch.store.durable import write_durably

    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"-o {picture}: the picture is a PNG file; give a name that ends in .png")
    runs = [api.load_run(path) for path in (a, b)]
    if runs[0].path.resolve() == runs[1].path.resolve():
        raise InputError(f"{a} and {b} are the same run; name two.")
    short = [run.path.name for run in runs]
    names = short if short[0] != short[1] else [f"{short[0]} (A)", f"{short[1]} (B)"]
    costs, errors = ({api.frontier_settings(run.config)[key] for run in runs} for key in ("cost", "error"))
    found = compare_points(
        {name: run.points() for name, run in zip(names, runs, strict=True)},
        cost=costs.pop() if len(costs) == 1 else "madds",
        error=errors.pop() if len(errors) == 1 else "val_error",
    )
    data = [run.meta["dataset"] for run in runs]
    if picture is not None:
        try:
            write_durably(picture.absolute(), comparison_picture(found))
        except OSError as error:
            raise InputError(f"-o {picture} cannot be written: {error}") from error
    same = data[0]["hash"] == data[1]["hash"]
    if not same:
        other = f" ({data[0]['name']} and {data[1]['name']})" if data[0]["name"] != data[1]["name"] else ""
        print(f"archsearch: note: the runs have different data{other}: their errors compare only loosely", file=sys.stderr)
    if json:
        entries = [
            {"run": str(run.path), **found.entry(name), "device_seconds": run.state.device_seconds}
            for name, run in zip(names, runs, strict=True)
        ]
        reference = dict(zip(("cost", "error"), found.reference, strict=True))
        head = {"cost": found.cost, "error": found.error, "reference": reference, "same_data": same}
        print(json_module.dumps({**head, "runs": entries, "picture": str(picture) if picture else None}, indent=2))
    else:
        _show_comparison(found, {name: run.state.device_seconds for name, run in zip(names, runs, strict=True)})
        if picture is not None:
            print(picture)


@app.command()
def rm(
    run: Folder,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete files too that are not the run's own.")] = False,
) -> None:
    """Delete a run's folder, with all that it holds.

    Refused: a run that is being driven, a folder that is no run, and one in which files lie that are not the run's own,
    unless --force. Weights that run.artifacts put elsewhere stay. Exit code 1: the answer was no.
    """
    from archsearch.cli.runs_removal import removal

    with removal(run, force=force) as plan:
        elsewhere = f"; its weights in {plan.elsewhere} stay" if plan.elsewhere else ""
        if not yes and not _confirmed(f"delete {plan.folder.path} ({plan.state}, {plan.files} files, {plan.size}){elsewhere}?"):
            print("nothing was deleted", file=sys.stderr)
            raise typer.Exit(1)
        plan.carry_out()
    print(f"deleted {plan.folder.path}{elsewhere}")


@app.command()
def export(
    run: Folder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.zip", help="The archive; replaced if it is there.")],
    json: Json = False,
) -> None:
    """Pack a run into one ZIP file for others.

    Configuration, description and summary, events as JSON lines, tables, pictures, the gallery, and the weights of the
    points on the frontier; manifest.json names each file's SHA-256. The run itself is only read.
    """
    from archsearch.cli.runs_export import export_run

    manifest = export_run(run, output)
    if json:
        print(json_module.dumps({"file": str(output), **manifest}, indent=2))
    else:
        print(f"{output}: {len(manifest['files'])} files, {manifest['points']} points, weights of {manifest['weights']}")


def _confirmed(question: str) -> bool:
    """Whether the answer is yes; no answer at all is a no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


# ---------------------------------------------------------------------------------------------------------------- tables
def _list(directory: Path, *, json: bool) -> None:
    from archsearch.store import list_runs

    rows = [_row(folder.path) for folder in list_runs(directory)]
    if json:
        print(json_module.dumps(rows, indent=2))
        return
    from rich.console import Console

    if not rows:
        print(f"no runs in {directory}; `archsearch search CONF` makes one")
        return
    table = _table("run", "state", "points", "frontier", "best error", "disk")
    for row in rows:
        best = row.get("best")
        error = f"{best['error']:.2%}" if best else ""
        disk = size_text(sum(row["disk"].values())) if "disk" in row else ""
        frontier = str(len(row.get("frontier", [])))
        table.add_row(Path(row["run"]).name, row["state"], str(row.get("points", "")), frontier, error, disk)
    Console().print(table)


def _row(path: Path) -> dict[str, Any]:
    from archsearch import api

    try:
        return api.load_run(path).summary()
    except ArchsearchError as error:
        return {"run": str(path), "state": f"unreadable: {error}"}


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name in ("run", "state") else "right")
    return table


def _show_comparison(found: Any, seconds: dict[str, float]) -> None:
    from rich.console import Console

    from archsearch.report import error_label, quantity

    table = _table("run", "points", "frontier", "dominated", "best", "at", "hypervolume", "seconds")
    for name, view in found.views.items():
        best = view.best
        assert best is not None
        figures = [str(len(view.points)), str(len(view.front)), str(found.dominated[name]), f"{view.errors[best]:.2%}"]
        figures += [quantity(float(view.costs[best])), f"{found.shares[name]:.4f}", f"{seconds[name]:.1f}"]
        table.add_row(name, *figures)
    cost, error = found.reference
    console = Console()
    console.print(table)
    kind = error_label(found.error)
    console.print(
        f"hypervolume: share of the box from 0 to the common reference, {quantity(cost)} {found.cost} and {error:.2%} {kind}",
        highlight=False,
        soft_wrap=True,
    )
