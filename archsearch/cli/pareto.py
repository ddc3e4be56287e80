"""``archsearch pareto``."""

from __future__ import annotations

import json as json_module
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import Json, printable

if TYPE_CHECKING:
    from archsearch.recipes.selection import Selection

EXAMPLES = """
archsearch pareto golden.db --device pi4
archsearch pareto golden.db --device pi4 --x od_total_mem_MB --where "latency_ms<5" --picture front.png
archsearch pareto recipes.csv --device pi4 --method fuzzy --top 10 --sort paretoness
archsearch pareto recipes.parquet --device pi4 --x od_inf_rate_ms --x od_inf_energy_mJ --eps 0.05 --json
archsearch pareto golden.db --device pi4 --device jetson                              # the worse of both counts
archsearch pareto golden.db --x od_inf_rate_ms@pi4 --x od_inf_rate_ms@jetson          # each is a metric of its own
"""

#: Seconds after which a step says that it is under way.
PATIENCE = 2.0

#: Letters of a long id that the table shows.
SHORT = 12


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DB|CSV|PARQUET|JSON",
            help="A golden database (SQLite file or PostgreSQL URL), or a file exported from one.",
        ),
    ],
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME", help="Compare on this device; of several the worst value counts."),
    ] = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="METRIC",
            help="What recipes cost; may be repeated, METRIC@DEVICE is of one.  [default: od_inf_rate_ms]",
        ),
    ] = None,
    y: Annotated[str, typer.Option("--y", metavar="METRIC", help="What they are good for.")] = "relative_task_metric",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="'NAME<NUMBER'", help="Only recipes within this limit; may be repeated. Also <=, >, >=."
        ),
    ] = None,
    maximise: Annotated[
        list[str] | None,
        typer.Option(
            "--maximise", metavar="METRIC", help="More of this is better; by itself that goes for metrics of the task."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="exact|fuzzy", help="The front; or the --top best by paretoness, see above.")
    ] = "exact",
    eps: Annotated[float, typer.Option(help="Also what is at most this share behind one of the front, 0.05 for 5 %.")] = 0.0,
    sort: Annotated[str, typer.Option(metavar="ORDER", help="See above.")] = "metric_custom_best_to_worst",
    top: Annotated[int | None, typer.Option(metavar="N", help="At most so many recipes.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw all recipes, the front, and the fuzzy ranking as colour.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the recipes that are worth their cost: the front of a cost and the task's metric, or of more than two metrics.

    Columns may be called as a search calls them: latency_ms, peak_memory_mb, energy_mj, madds, accuracy.

    \b
    exact  what no other recipe beats in all metrics
    fuzzy  the first by paretoness: an estimate of how likely another recipe is to beat one in all
           metrics at once, so that what stands alone is ranked before what stands in a crowd

    \b
    --sort metric_custom_best_to_worst     by the first --x
           metric_accuracy_best_to_worst   by --y
           angular_custom_to_accuracy      by the angle from one to the other
           paretoness                      as fuzzy ranks

    The knee, where a little more of one metric costs the most of the others, is marked.

    Exit codes: 0 done, 2 bad input or no recipe is left.
    """
    from archsearch.jobs import InputError
    from archsearch.recipes.metrics import ACCURACY, in_words
    from archsearch.recipes.ranking import METHODS, SORTS, check_choice, checked_top
    from archsearch.recipes.selection import select_recipes

    check_choice("--method", method, METHODS)
    check_choice("--sort", sort, SORTS)
    if method == "fuzzy" or top is not None:
        checked_top(top, "--top")
    if picture is not None and (picture.suffix.lower() != ".png" or not picture.absolute().parent.is_dir()):
        raise InputError(f"--picture {picture}: expected a name that ends in .png, in a folder that is there")
    from archsearch.recipes.frames import read_recipes

    with _said(f"reading {source}"):
        frame = read_recipes(source)
    if "dataset_hash" in frame.columns and (sets := frame["dataset_hash"].nunique()) > 1:
        print(f"note: the rows are of {sets} data sets; {ACCURACY} is relative to the best of each", file=sys.stderr)
    with _said(f"comparing {len(frame)} rows"):
        found = select_recipes(
            frame,
            [*(x or ["od_inf_rate_ms"]), y],
            devices=device or (),
            where=where or (),
            maximise=maximise or (),
            method=method,
            eps=eps,
            top=top,
            sort_by=sort,
        )
    left_out = in_words(found.left_out, len(found.ids) + sum(found.left_out.values())) if found.left_out else ""
    if not found.ids:
        raise InputError(f"{source}: no recipe is left to compare: {left_out or 'there are no rows'}")
    if left_out:
        print(left_out, file=sys.stderr)
    if picture is not None:
        with _said(f"drawing {picture}"):
            _draw(picture, found, source)
    about = {"source": source, "method": method, "sort_by": sort, "eps": eps, "where": list(where or ())}
    if json:
        print(json_module.dumps(_as_json(found, about, picture), indent=2))
    else:
        _show(found)
        if picture is not None:
            print(f"picture    {picture}")


@contextmanager
def _said(step: str) -> Iterator[None]:
    """Says on stderr that a step is under way, if it takes long."""
    timer = threading.Timer(PATIENCE, lambda: print(f"pareto: {step} ...", file=sys.stderr, flush=True))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _as_json(found: Selection, about: dict[str, Any], picture: Path | None) -> dict[str, Any]:
    recipes = []
    for i in found.chosen.tolist():
        entry: dict[str, Any] = {"recipe_id": found.ids[i]}
        entry |= {"quantisation": _text(found.quantisations[i])} if found.quantisations else {}
        entry |= dict(zip(found.metrics, found.values[i].tolist(), strict=True))
        entry |= {} if found.paretoness is None else {"paretoness": float(found.paretoness[i])}
        recipes.append({**entry, "front": bool(found.front[i]), "knee": i == found.knee})
    counts = {"compared": len(found.ids), "left_out": dict(found.left_out), "front": int(found.front.sum())}
    head = {"devices": list(found.devices), "metrics": list(found.metrics), "maximised": list(found.bigger)}
    return {**about, **head, **counts, "recipes": recipes, "picture": None if picture is None else str(picture)}


def _show(found: Selection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    named = ["quantisation"] if found.quantisations else []
    for name in ("", "recipe", *named):
        table.add_column(name, no_wrap=True)
    for name in (*found.metrics, *([] if found.paretoness is None else ["paretoness"])):
        table.add_column(_folded(name), justify="right")
    table.add_column("")
    for place, i in enumerate(found.chosen.tolist(), 1):
        texts = [_text(found.quantisations[i])] if found.quantisations else []
        figures = [f"{value:.4g}" for value in found.values[i].tolist()]
        share = [] if found.paretoness is None else [f"{found.paretoness[i]:.3g}"]
        marks = ["knee"] if i == found.knee else [] if found.front[i] else ["behind"]
        cells = [str(place), _short(found.ids[i]), *texts, *figures, *share, *marks]
        table.add_row(*(Text(printable(cell)) for cell in cells))  # ids and names are a stranger's: no markup either
    console.print(table)
    on = f" on {', '.join(found.devices)}" if found.devices else ""
    counts = f"{len(found.ids)} recipes{on}; {int(found.front.sum())} on the front, {len(found.chosen)} shown"
    console.print(printable(f"compared   {counts}"), highlight=False, soft_wrap=True, markup=False)


def _draw(path: Path, found: Selection, source: str) -> None:
    from archsearch.jobs import InputError
    from archsearch.report.recipes_picture import recipes_picture
    from archsearch.store.durable import write_durably

    on = f" on {', '.join(found.devices)}" if found.devices else ""
    payload = recipes_picture(
        found.values[:, 0],
        found.values[:, -1],
        labels=(found.metrics[0], found.metrics[-1]),
        title=printable(f"{len(found.ids)} recipes{on}")[:80],
        front=found.front,
        chosen=found.chosen.tolist(),
        paretoness=found.paretoness,
        knee=found.knee,
        steps=len(found.metrics) == 2,
        bigger=(found.bigger[0], found.bigger[-1]),
    )
    try:
        write_durably(path.absolute(), payload)
    except OSError as error:
        raise InputError(f"--picture {path} cannot be written: {error}") from error


def _short(id_: Any) -> str:
    text = str(id_)
    return text if len(text) <= SHORT + 4 else text[:SHORT]


def _folded(name: str) -> str:
    """A long name on two lines, so that a table of three metrics fits a terminal."""
    breaks = [i for i, letter in enumerate(name, 1) if letter in "_@" and i < len(name)]
    if len(name) <= SHORT + 4 or not breaks:
        return name
    middle = min(breaks, key=lambda i: abs(2 * i - len(name)))
    return f"{name[:middle]}\n{name[middle:]}"


def _text(value: Any) -> str:
    """A cell; empty where nothing is known (NaN is not equal to itself)."""
    return "" if value is None or value != value else str(value)
