"""``archsearch simulate``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import Json, Set

EXAMPLES = """
archsearch simulate confs/petridish_digits.yaml --slots 64
archsearch simulate confs/petridish_digits.yaml --slots 1000 --failures 0.01 --set search.max_hull_points=5000
archsearch simulate confs/petridish_digits.yaml --slots 8 --from runs/petridish_digits --run-dir runs/on_eight_slots
"""


def command(
    conf: Annotated[Path, typer.Argument(metavar="CONF", help="The configuration, a YAML file.")],
    slots: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")],
    recorded: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Draw durations and errors from this run; default: a made-up law."),
    ] = None,
    failures: Annotated[
        float, typer.Option(help="Share of the attempts that are lost; with --from, those of that run are.")
    ] = 0.0,
    charge: Annotated[
        bool, typer.Option("--charge-driver", help="Let the virtual clock run on while the driver asks and commits.")
    ] = False,
    run_dir: Annotated[
        Path | None, typer.Option(help="Keep the simulated run in this folder; default: nothing is kept.")
    ] = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Drive a search in virtual time: how long it would take, and how busy so many slots would be.

    The driver, the store and the searcher are the real ones; nothing is trained, so the errors are made up (or, with --from,
    drawn from jobs of nearly the same size) and the run has no weights. The same seed gives the same history.

    Exit codes: 0 done, 2 bad input, 3 stopped by failures, 130 interrupted.
    """
    from archsearch.cli.display import observer
    from archsearch.simulation import simulate

    with tempfile.TemporaryDirectory() as scratch:
        with contextlib.redirect_stdout(sys.stderr), observer(f"{conf} (simulated)") as watching:
            done = simulate(
                conf,
                slots=slots,
                run_dir=run_dir or Path(scratch) / conf.stem,
                recorded=recorded,
                failure_share=failures,
                charge=charge,
                overrides=set_ or (),
                observer=watching,
            )
        outcome = done.run.outcome
        assert outcome is not None
        figures = {
            "slots": slots,
            "from": None if recorded is None else str(recorded),
            "seconds": done.seconds,
            "busy_share": done.busy_share,
            "driver_seconds": done.driver_seconds,
        }
        if json:
            place = {"run": None if run_dir is None else str(done.run.path)}
            print(json_module.dumps({**done.run.summary(), **place, "simulated": figures}, indent=2))
        else:
            from rich.console import Console

            from archsearch.api import frontier_settings
            from archsearch.cli.display import clock
            from archsearch.report import frontier_table

            console, points = Console(), done.run.points()
            console.print(frontier_table(points, **frontier_settings(done.run.config)) if points else "no point was trained")
            jobs = done.run.state.counts
            ended = ", ".join(f"{number} {state}" for state, number in jobs.items() if number)
            console.print(f"jobs       {ended}", highlight=False)
            console.print(
                f"simulated  {clock(done.seconds)} on {slots} slots, busy {done.busy_share:.1%} of the time; "
                f"the driver worked for {done.driver_seconds:.1f} s",
                highlight=False,
                soft_wrap=True,
            )
            if run_dir is not None:
                console.print(f"files      {done.run.path}", highlight=False, soft_wrap=True, markup=False)
    if outcome.state != "done":
        from archsearch.cli.driving import print_error

        print_error(f"{outcome.state}: {outcome.reason}")
    raise typer.Exit(outcome.exit_code)
