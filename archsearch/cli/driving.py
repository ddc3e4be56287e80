"""What ``search``, ``resume`` and ``evaluate`` share: the display while a run goes, and what is said at its end."""

from __future__ import annotations

import contextlib
import json as json_module
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console

from archsearch.cli.display import observer as make_observer

if TYPE_CHECKING:
    from archsearch.api import Run
    from archsearch.cluster.loop import Outcome
    from archsearch.cluster.observer import Observer
    from archsearch.config import Config


def flag_overrides(
    *, seed: int | None = None, seeds: int | None = None, address: str | None = None, executor: str | None = None
) -> list[str]:
    """The flags that are short for a key of the configuration."""
    flags = {"run.seed": seed, "evaluation.seeds": seeds, "cluster.address": address, "cluster.executor": executor}
    return [f"{key}={json_module.dumps(value)}" for key, value in flags.items() if value is not None]


def load_named(conf: Path, overrides: list[str]) -> Config:
    """A checked configuration whose run has a name: its own, else that of the file."""
    from archsearch import config as configuration

    named = any(text.partition("=")[0].strip() == "run.name" for text in overrides)
    if not named and configuration.load(conf)["run"].name is None:
        overrides = [f"run.name={conf.stem}", *overrides]
    return configuration.load(conf, overrides=overrides)


def drive(start: Callable[[Observer], Run], *, title: str, json: bool) -> None:
    """Run to the end, show the result, leave with the exit code that says how it ended."""
    with watched(title) as watching:
        run = start(watching)
    resume = f"archsearch resume {shlex.quote(str(run.path))}"
    if json:
        print(json_module.dumps({**run.summary(), "resume": resume}, indent=2))
    else:
        show_end(run)
    leave(run.outcome, f"go on with:  {resume}")


@contextlib.contextmanager
def watched(title: str) -> Iterator[Observer]:
    """The display of what is driven in the block."""
    # Ray's threads print to stdout, where the result alone belongs.
    with contextlib.redirect_stdout(sys.stderr), make_observer(title) as watching:
        yield watching


def leave(outcome: Outcome | None, how_to_go_on: str) -> NoReturn:
    """Leave with the exit code that says how a session ended; say why, and how to go on, if it was not done."""
    assert outcome is not None
    if outcome.state != "done":
        print_error(f"{outcome.state}: {outcome.reason}\nnothing that finished is lost; {how_to_go_on}")
    raise typer.Exit(outcome.exit_code)


def show_end(run: Run) -> None:
    """The frontier as a table, the best point, the files."""
    from archsearch.api import frontier_settings
    from archsearch.report import frontier_table

    console = Console()
    points = run.points()
    if not points:
        console.print("no point was trained")
        return
    console.print(frontier_table(points, **frontier_settings(run.config)))
    lines = [("files", str(run.path)), ("picture", str(run.path / "convex_hull.png"))]
    if (devices := run.path / "device_frontiers.png").exists():
        lines.append(("devices", str(devices)))
    if (best := run.summary()["best"]) is not None:  # before anything is measured there is none
        load = f'python -c "import archsearch; print(archsearch.load_run({str(run.path)!r}).load({best["id"]}))"'
        lines.append(("best model", load))
    for name, text in lines:
        console.print(f"{name:<11}{text}", highlight=False, soft_wrap=True, markup=False)


def print_error(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
