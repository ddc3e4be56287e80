"""``archsearch db``: the golden database, what all searches have found in one place."""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import Json, printable
from archsearch.jobs import InputError

if TYPE_CHECKING:
    from archsearch.recipes.observations import Found
    from archsearch.store.golden import Added

EXAMPLES = """
archsearch db add golden.db runs/petridish_digits runs/growth_digits
archsearch db add golden.db runs/NAME --device here=laptop-7
archsearch db add postgresql://arch@db.example.org/golden runs/NAME
archsearch db list golden.db --device laptop-7
archsearch db export golden.db golden.parquet
archsearch db import golden.db from_a_colleague.csv
"""

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

Database = Annotated[
    str,
    typer.Argument(
        metavar="DB",
        help="A SQLite file, such as golden.db, or postgresql://USER@HOST/DATABASE (password from ~/.pgpass or PGPASSWORD).",
    ),
]


@app.callback()
def about() -> None:
    """Keep what searches have found: recipes with what was measured of them, across runs, machines and users.

    A row is a recipe on a device in a quantisation; the device "framework" is where it was trained. The database comes first
    in every verb. It may be a stranger's: nothing in it is run, and reading changes nothing.
    """


@app.command(epilog="\b\nExample:\n  archsearch db add golden.db runs/petridish_digits --device here=laptop-7")
def add(
    db: Database,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, also of such that still go on.")],
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=OTHER", help="Call a device of these runs otherwise; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Add the finished points of runs, with what devices have measured of them. DB is made if there is none.

    Adding a run again adds what is new since. A recipe that was measured again on a device is kept beside the older
    measurement; the latest that is not noisy counts. Device names are those of the runs, so "here" of two machines would be
    one: --device here=laptop-7 tells them apart.
    """
    from archsearch import api
    from archsearch.recipes.database import add_runs
    from archsearch.store.golden import open_golden

    open_golden(db).there()  # what is no golden database is said before any run is read
    names = dict(_renamed(text) for text in device or ())
    done = add_runs(db, [api.load_run(path) for path in runs], names, _say)
    for path, (added, found) in zip(runs, done, strict=True):
        _notes(path, found)
        if not json:
            print(f"{path}: {_counts(added)}")
    if json:
        rows = [
            {"run": str(path), **asdict(added), "left_out": found.left_out}
            for path, (added, found) in zip(runs, done, strict=True)
        ]
        print(json_module.dumps(rows, indent=2))


@app.command("list", epilog="\b\nExample:\n  archsearch db list golden.db --device framework --top 10")
def listing(
    db: Database,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Only rows of this device.")] = None,
    quantisation: Annotated[str | None, typer.Option(metavar="NAME", help="Only rows of this quantisation.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="ID", help="Only rows of recipes whose ids begin so.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="All observations, also those that others took the place of.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="So many rows, the best first; 0: all.  [default: 20; with --json all]"),
    ] = None,
    json: Json = False,
) -> None:
    """List what is in a database, best task metric first.

    relative is the task metric divided by the best that the database has on the same data and task. --json has all columns,
    with who added a row and when.
    """
    from archsearch.recipes.database import read_frame

    if Path(db).is_file() and Path(db).stat().st_size > 1 << 25:
        _say(f"{db}: reading …")
    frame = read_frame(db, history=history)
    for name, wanted in (("device", device), ("quantisation", quantisation)):
        if wanted is not None:
            known = sorted(set(frame[name]))
            if wanted not in known:
                raise InputError(f"{db} has no row of the {name} {wanted!r}; it has: {', '.join(known) or 'no row at all'}")
            frame = frame[frame[name] == wanted]
    if recipe is not None:
        frame = frame[[id_.startswith(recipe) for id_ in frame["recipe_id"]]]
    total = len(frame)
    frame = frame.sort_values("task_metric", ascending=False, kind="stable", na_position="last")
    count = (0 if json else 20) if top is None else top
    frame = frame.head(count) if count else frame
    if json:
        from archsearch.recipes.snapshots import records

        print(json_module.dumps(records(frame), indent=2))
        return
    _show(frame, history=history)
    if len(frame) < total:
        print(f"{len(frame)} of {total} rows; --top 0 shows all")


@app.command(epilog="\b\nExample:\n  archsearch db export golden.db golden.parquet")
def export(
    db: Database,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .parquet or .json; one of that name is replaced.")],
    history: Annotated[
        bool, typer.Option("--history", help="All observations, also those that others took the place of.")
    ] = False,
) -> None:
    """Write a database into one file, with recipes: for pandas, a spreadsheet or a colleague's `archsearch db import`."""
    from archsearch.recipes.database import export_file

    _say(f"{db}: reading …")
    print(f"{file}: {export_file(db, file, history=history)} rows")


@app.command("import", epilog="\b\nExample:\n  archsearch db import golden.db from_a_colleague.parquet")
def import_(
    db: Database,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".csv, .parquet or .json with columns as `export` writes them.")],
    json: Json = False,
) -> None:
    """Add the rows of a file: all of them, or none if one is wrong, and then which and why. DB is made if there is none."""
    from archsearch.recipes.database import import_file

    _say(f"{file}: checking …")
    added = import_file(db, file)
    print(json_module.dumps({"file": str(file), **asdict(added)}, indent=2) if json else f"{file}: {_counts(added)}")


def _counts(added: Added) -> str:
    return f"{added.rows} rows added, {added.present} were there already; {added.recipes} new recipes"


def _renamed(text: str) -> tuple[str, str]:
    name, _, other = text.partition("=")
    if not name or not other or not other.isprintable() or len(other) > 200:
        raise InputError(f"--device {text}: expected NAME=OTHER, such as here=laptop-7")
    return name, other


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def _notes(path: Path, found: Found) -> None:
    from archsearch.recipes.observations import listed

    for line in listed(found.left_out):
        _say(f"archsearch: note: {path}: {line}")
    for device, prints in found.fingerprints.items():
        if len(prints) > 1:
            _say(
                f"archsearch: note: {path}: {device} has been {len(prints)} different machines or set-ups "
                f"({', '.join(sorted(prints))}): their figures do not compare"
            )


#: Column, its heading, its format.
_SHOWN = (
    ("task_metric", "task metric", ".2%"),
    ("relative_task_metric", "relative", ".4f"),
    ("if_inf_macs", "MACs", ".4g"),
    ("od_inf_rate_ms", "ms", ".4g"),
    ("od_total_mem_MB", "MB", ".4g"),
    ("od_inf_energy_mJ", "mJ", ".4g"),
)


def _show(frame: Any, *, history: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = [(name, heading, form) for name, heading, form in _SHOWN if frame[name].notna().any()]
    for name in ("recipe", "device", "quantisation", "data", *(heading for _, heading, _ in shown), "run"):
        table.add_column(name, no_wrap=True, justify="right" if name in [heading for _, heading, _ in shown] else "left")
    for row in frame.to_dict("records"):
        figures = [_cell(row, name, form) for name, _, form in shown]
        origin = f"{_known(row['run'])} {_known(row['point'])}" + ("" if not history or row["current"] else " (not current)")
        cells = [row["recipe_id"][:12], row["device"], row["quantisation"], _known(row["dataset"]), *figures, origin]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # whoever reads a pipe wants whole words
    console.print(table)


def _cell(row: dict[str, Any], name: str, form: str) -> str:
    """A figure, with ~ before it where it is noisy."""
    value = row[name]
    noisy = row.get(f"{name}_noisy")
    return "" if value != value else f"{'~' if noisy is True else ''}{value:{form}}"


def _known(value: Any) -> str:
    """Text for a cell; nothing for a missing value."""
    return str(value) if isinstance(value, str | int) else ""
