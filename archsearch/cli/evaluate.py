"""``archsearch evaluate``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Address, Executor, Json, Set

EXAMPLES = """
archsearch evaluate runs/petridish_digits
archsearch evaluate runs/petridish_digits --top 3 --seeds 5
archsearch evaluate runs/petridish_digits --points 4,17 --name wide --set evaluation.cell_count_scale=4
archsearch evaluate runs/petridish_cifar10 --set evaluation.train.epochs=600 --address auto
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    top: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the N points of the frontier with the lowest errors; default: all of it."),
    ] = None,
    points: Annotated[
        str | None, typer.Option(metavar="ID,...", help="These points of the pool instead of the frontier.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the evaluation: its folder in RUN/evaluations. Another name begins another one.")
    ] = "final",
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Trainings of each model, each with its own seed (evaluation.seeds).")
    ] = None,
    set_: Set = None,
    address: Address = None,
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Train models of a run's frontier long and from scratch, and measure their test error over seeds.

    Each model is trained with more cells (evaluation.cell_count_scale, at most evaluation.n_cells), an auxiliary tower and
    the settings of the configuration's section `evaluation`, once for each seed, and measured on the test split. Ends with
    a table: mean test errors with 95 % intervals over seeds, and the frontier that they make. Tables, picture and weights
    lie in RUN/evaluations/NAME.

    The same command again goes on after Ctrl-C or a kill: what has finished is kept, a training goes on from its
    checkpoint. Exit codes as for `archsearch search`.
    """
    from archsearch import api
    from archsearch.cli.driving import flag_overrides, leave, watched

    chosen = None if points is None else _ids(points)
    overrides = [*(set_ or []), *flag_overrides(address=address, executor=executor, seeds=seeds)]
    with watched(f"{run}: evaluation {name}") as observer:
        found = api.evaluate(run, points=chosen, top=top, name=name, overrides=overrides, observer=observer, join=False)
    again = "give the same command again to go on"
    if json:
        print(json_module.dumps(found.summary(), indent=2))
    else:
        _show(found)
    leave(found.outcome, again)


def _ids(text: str) -> list[int]:
    """``"4,17"`` as numbers.

    Raises:
        InputError: something else stands there.
    """
    from archsearch.jobs import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--points {text}: expected numbers of points, such as --points 4,17") from None


def _show(found: object) -> None:
    from rich.console import Console

    from archsearch.api import Evaluation
    from archsearch.report.evaluation import evaluation_table

    assert isinstance(found, Evaluation)
    console, summary = Console(), found.summary()
    console.print(evaluation_table(summary))
    lines = [("files", str(found.path)), ("picture", str(found.path / "evaluation.png"))]
    if summary["best"] is not None:
        call = f"archsearch.load_evaluation({str(found.path.parent.parent)!r}, {found.path.name!r}).load({summary['best']})"
        lines.append(("best model", f'python -c "import archsearch; print({call})"'))
    for name, text in lines:
        console.print(f"{name:<11}{text}", highlight=False, soft_wrap=True, markup=False)
