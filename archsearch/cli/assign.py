"""``archsearch assign``."""

from __future__ import annotations

import json as json_module
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.cli.options import Device, DeviceAddress, DeviceConfig, Json

if TYPE_CHECKING:
    from archsearch.profile.assignment.driver import Estimation, Problem
    from archsearch.profile.assignment.encoding import Encoding
    from archsearch.profile.assignment.evaluation import Evaluation
    from archsearch.profile.protocol import Step

EXAMPLES = """
archsearch assign net.yaml --backends onednn,channels_last,native --budget 20 --resume net.jsonl
archsearch assign net.onnx --runtime onnxruntime --backends onnxruntime,openvino --budget 16
archsearch assign my_models:mobile_net --mode index --budget 100 --picture front.png
archsearch assign net.yaml --device pi4 --config conf.yaml --budget 20 --resume net-on-pi4.jsonl
archsearch assign --table mobilenetv2.json --budget 8
archsearch assign --table mobilenetv2.json --estimator hlps --budget 16 --seed 3 --picture front.png
archsearch assign --table mobilenetv2.json --estimator brute --json > front.json
archsearch assign --table big.json --partial --budget 200 --resume big.jsonl    # the same again goes on after a kill
"""

#: Seconds between lines of progress.
PATIENCE = 2.0


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="What to measure: an architecture (.yaml or .json), an ONNX file (.onnx, with --runtime onnxruntime), or "
            "module:function, which runs that code.",
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="RECORDED.json", help="Measure nothing: times and memories are those recorded here.")
    ] = None,
    backends: Annotated[
        str | None, typer.Option(metavar="A,B[,C]", help="Backends to choose among; default: all that the runtime has here.")
    ] = None,
    runtime: Annotated[str, typer.Option(metavar="NAME", help="What runs the model: pytorch, onnxruntime, ...")] = "pytorch",
    device: Device = None,
    conf: DeviceConfig = None,
    address: DeviceAddress = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the runtime; default: 1, or as the device is configured.")
    ] = None,
    estimator: Annotated[
        str,
        typer.Option(metavar="NAME", help="brute, random, hlps, nsga2 or structured, see above; or one that a plug-in adds."),
    ] = "structured",
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Assignments that may be evaluated; default: a quarter of them, at most 100; brute all."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="name|index",
            help="What is given a backend: all operations of a name, or of a name and a data size; default: name. A table has "
            "one already.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed asks for the same assignments.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Record each evaluation in this file at once; where it exists, go on from it."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Ids may be missing from the table; one asked for cannot run.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the front, and regret, into this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Find which operations to run on which backend: the front of time (ms) and memory (KiB), without trying every assignment.

    \b
    structured  learns what each operation costs on each backend, and each change of backend along the graph,
                as it measures, and asks where the largest gain is to be expected; the default
    hlps        hybrid local Pareto search, as in Samsung ONE: around the points of the front
    nsga2       a genetic algorithm, by pymoo (pip install -e '.[nsga2]')
    random      at random, none twice
    brute       every assignment in turn

    An assignment that cannot run counts, is recorded as infeasible and stops nothing. What may be on the front as far as the
    intervals tell is measured again at the end, and those second figures are shown. From a table of all assignments the end
    also tells the regret: how much of the hypervolume of the true front is missing.

    With --device each assignment is a job of its own in the device's queue, where searches and others have their turns too; a
    device that is away is waited for, visibly, until it is back or Ctrl-C. Only architectures travel: module:function is
    measured on a device only if that is this machine (runner: local, no cluster).

    Exit codes: 0 done, 2 bad input, 3 not one assignment could run, no process that measures could be started, or the
    device failed again and again, 130 interrupted, also while it waited (see --resume).
    """
    from archsearch.cli.benches import opened
    from archsearch.jobs import InputError
    from archsearch.profile.assignment.driver import TableProblem, assign, make_estimator
    from archsearch.profile.assignment.encoding import checked_mode
    from archsearch.profile.assignment.evaluation import regret_curve
    from archsearch.profile.assignment.live import ModelProblem
    from archsearch.profile.assignment.picture import check_picture, draw
    from archsearch.profile.assignment.tables import read_table, source_of
    from archsearch.profile.models import read_model
    from archsearch.profile.settings import Settings
    from archsearch.registry import ESTIMATORS

    if (model is None) == (table is None):
        raise InputError("expected a MODEL to measure or --table RECORDED.json to look up, one of them")
    wanted_mode = None if mode is None else checked_mode(mode)
    if picture is not None:
        check_picture(picture)
    idle = {"device": device, "backends": backends, "threads": threads, "config": conf, "address": address}
    if table is not None and (given := [name for name, value in idle.items() if value is not None]):
        raise InputError(f"--table measures nothing, so there is nothing for --{given[0]} to do")
    if partial and table is None:
        raise InputError("--partial says what may be missing from a --table, and there is none")
    ESTIMATORS.get(estimator)  # complains before a device is waited for
    everything: list[Evaluation] = []
    problem: Problem
    with ExitStack() as stack:
        progress = _Progress(resume)
        if table is not None:
            recorded = read_table(table, partial=partial)
            if wanted_mode not in (None, recorded.encoding.mode):
                raise InputError(f"--mode {mode}: {table} was recorded in mode {recorded.encoding.mode}; leave --mode away")
            problem = TableProblem(recorded, source_of(table))
            everything = list(recorded.evaluations.values()) if recorded.complete else []
        else:
            read = read_model(str(model))
            place = stack.enter_context(opened(device, conf, address, _say))
            settings = Settings(threads=threads or place.threads)
            names = None if backends is None else [each.strip() for each in backends.split(",")]
            problem = ModelProblem(read, runtime, names, wanted_mode or "name", settings, place.bench, watch=progress.step)
        encoding = problem.encoding
        wanted = min(encoding.size, budget or _default_budget(encoding.size, estimator))
        make_estimator(estimator, encoding, seed)  # complains before anything is measured
        stack.enter_context(progress)
        done = assign(problem, estimator, wanted, seed=seed, log=resume, watch=progress)
    curve = regret_curve(done.evaluations, everything) if any(each.feasible for each in everything) else []
    about = {"estimator": estimator, "seed": seed, "space": encoding.size}
    if json:
        print(json_module.dumps(_as_json(encoding, done, about, curve), indent=2))
    else:
        _show(encoding, done, curve)
    if picture is not None:  # last: what was measured is told, whatever becomes of it
        draw(picture, done, title=f"{Path(str(table or model)).name}: {estimator}"[-60:], everything=everything, curve=curve)
        if not json:
            print(f"picture    {picture}")
    if not any(each.feasible for each in done.evaluations):
        print(f"not one of {len(done.evaluations)} assignments could run: {done.evaluations[-1].error}", file=sys.stderr)
        raise typer.Exit(3)


def _default_budget(size: int, estimator: str) -> int:
    return size if estimator == "brute" else max(1, min(size // 4, 100))


def _say(text: str) -> None:
    print(f"assign: {text}", file=sys.stderr, flush=True)


class _Progress:
    """Lines on stderr while it goes: the first after two seconds, then every two as assignments are evaluated, and every ten
    while one is measured; and how to go on when it is stopped."""

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._said = time.monotonic()
        self._failed = 0
        self._where = ""
        self._silent = True

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from archsearch.profile.process import DeviceGone

        if kind is not None and issubclass(kind, (KeyboardInterrupt, DeviceGone)):
            kept = (
                f"what was evaluated is in {self._log}; the same command goes on"
                if self._log
                else "nothing was kept; see --resume"
            )
            print(f"interrupted: {kept}", file=sys.stderr)

    def __call__(self, evaluation: Evaluation, where: str) -> None:
        self._failed += not evaluation.feasible
        self._where = where + (f", {self._failed} could not run" if self._failed else "")
        self._tell(PATIENCE, self._where)

    def step(self, step: Step) -> None:
        """One of the measurement that goes on."""
        phase = "waiting for others to end" if step.phase == "waiting" else step.phase
        what = f"step {step.done} of {step.total} of a measurement ({phase})"
        self._tell(PATIENCE if self._silent else 5 * PATIENCE, f"{self._where}; {what}" if self._where else what)

    def _tell(self, patience: float, text: str) -> None:
        if time.monotonic() - self._said >= patience:
            self._said, self._silent = time.monotonic(), False
            _say(text)


def _as_json(encoding: Encoding, done: Estimation, about: dict[str, Any], curve: list[float]) -> dict[str, Any]:
    from archsearch.profile.assignment.tables import encoding_json, solutions_json

    head = encoding_json(encoding)
    head.pop("graph", None)
    failed = [each.to_json() for each in done.evaluations if not each.feasible]
    counts = {"evaluated": len(done.evaluations), "infeasible": failed, **about}
    regret = {"regret": curve[-1], "regret_curve": curve} if curve else {}
    again = {} if done.survived is None else {"measured_again": len(done.again), "survived": done.survived}
    return {**head, **counts, **solutions_json(encoding, done.front), **regret, **again}


def _show(encoding: Encoding, done: Estimation, curve: list[float]) -> None:
    from rich.console import Console
    from rich.table import Table

    from archsearch.measured import backends_in_words

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "time (ms)", "memory (MiB)", "assignment"):
        table.add_column(name, justify="left" if name == "assignment" else "right")
    for each in done.front:
        table.add_row(
            str(each.id), f"{each.time:.4g}", f"{each.memory / 1024:.4g}", backends_in_words(encoding.described(each.id))
        )
    console.print(table)
    failed = sum(not each.feasible for each in done.evaluations)
    resumed = f", {done.resumed} of them recorded before" if done.resumed else ""
    lines = [f"evaluated  {len(done.evaluations)} of {encoding.size_text} assignments{resumed}; {failed} could not run"]
    if curve:
        lines.append(f"regret     {curve[-1]:.2%} of the true front's hypervolume is missing")
    if done.survived is not None:
        lines.append(
            f"again      {len(done.again)} were measured again; {done.survived} of the front as it was are still on it"
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
