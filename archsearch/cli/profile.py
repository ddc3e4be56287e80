"""``archsearch profile``."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsearch.cli.options import Device, DeviceAddress, DeviceConfig, Json

if TYPE_CHECKING:
    from archsearch.profile.measurement import Measurement, Profile
    from archsearch.profile.models import Model
    from archsearch.profile.protocol import Step, Watch

EXAMPLES = """
archsearch profile runs/NAME
archsearch profile small.yaml large.yaml --threads 2
archsearch profile net.yaml --runtime pytorch-compile --json > net.json
archsearch profile net.onnx --runtime onnxruntime --threads 2
archsearch profile my_models:mobile_net --runtime openvino
archsearch profile my_models:mobile_net --width 0.02 --repeats 5
archsearch profile net.yaml --fresh                                # whatever was measured of it before
archsearch profile runs/NAME --device pi4                          # of this machine's cluster, as archsearch devices lists it
archsearch profile net.yaml --device pi4 --config conf.yaml        # as the section devices of a configuration says
archsearch profile net.yaml --device pi4 --config conf.yaml --address HEAD:6379
"""


def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|RUN...",
            help="An architecture (.yaml or .json), a run's folder (the points of its frontier), or module:function, which "
            "runs that code: it returns a torch.nn.Module with its inputs. An ONNX file (.onnx) needs --runtime onnxruntime or "
            "openvino; its external data must lie in its own folder. Several are measured side by side.",
        ),
    ],
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="What runs the model: pytorch, pytorch-compile, onnxruntime, openvino, ...")
    ] = "pytorch",
    device: Device = None,
    conf: DeviceConfig = None,
    address: DeviceAddress = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads, each on a core of its own; default: 1, or as the device is configured.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images in an input, where the model does not bring its own.")] = 1,
    width: Annotated[float, typer.Option(help="Widest interval to take, as a share of the median; else measure again.")] = 0.05,
    repeats: Annotated[int, typer.Option(help="How often to measure again what is noisy, before it is marked so.")] = 2,
    seconds: Annotated[float, typer.Option(help="Run each model at least so long in all (and 30 times).")] = 1.0,
    memory_runs: Annotated[int, typer.Option(help="Processes that measure memory; 0: leave it out.")] = 6,
    patience: Annotated[
        float, typer.Option(help="Longest wait in all for others to end and the machine to cool, in s.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(help="Of the order in which models take turns.")] = 0,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Measure all of them, side by side, whatever is kept; what is found takes its place."),
    ] = False,
    json: Json = False,
) -> None:
    """Measure how long a model takes and how much memory it needs, on this machine or a device.

    Time and memory are measured in processes of their own, pinned to their cores. The interval holds, with 95 % confidence,
    the median that another measurement would find: what differs from process to process is in it. A result whose interval
    stays wider than --width, or during which others held the cores, is marked noisy. Energy is measured where the processor
    has a counter.

    What was measured before of an architecture, on the same device with the same software and settings, is not measured
    again but shown, with its date: it is kept in ~/.cache/archsearch (ARCHSEARCH_CACHE) there. Noisy results are not kept.

    With --device each call waits for its turn there beside searches and others; nothing is trained on its node meanwhile. A
    device that is away is waited for, visibly, until it is back or Ctrl-C. Only architectures travel: module:function is
    measured on a device only if that is this machine (runner: local, no cluster).

    Exit codes: 0 done (also with noisy results), 2 bad input or a model that could not be measured, 3 no process that
    measures could be started, the device failed again and again, or it answers nonsense, 130 interrupted, also while it
    waited.
    """
    from archsearch.cli.benches import opened
    from archsearch.profile.settings import Failed, Settings, Subject

    settings = Settings(
        threads=threads or 1,
        batch=batch,
        width=width,
        repeats=repeats,
        seconds=seconds,
        memory_runs=memory_runs,
        patience=patience,
        seed=seed,
    )
    subjects = [Subject(model, runtime) for text in models for model in _models(text)]
    run = next((Path(text) for text in models if Path(text).is_dir()), None)
    with (
        _watching([subject.model.name for subject in subjects]) as (watch, say),
        opened(device, conf, address, say, run=run) as place,
    ):
        settings = replace(settings, threads=place.threads if threads is None else threads)
        found = place.bench.measure(subjects, settings, watch=watch, fresh=fresh)
    if json:
        rows = [
            {"model": subject.model.name, "runtime": runtime, **_outcome(one)}
            for subject, one in zip(subjects, found, strict=True)
        ]
        print(json_module.dumps(rows, indent=2))
    else:
        for subject, one in zip(subjects, found, strict=True):
            if not isinstance(one, Failed):
                print(_text(subject.model.name, one))
    failures = [(subject, one) for subject, one in zip(subjects, found, strict=True) if isinstance(one, Failed)]
    for subject, one in failures:
        print(f"archsearch: {subject.model.name}: {one.message}", file=sys.stderr)
    if failures:
        raise typer.Exit(2)


def _models(text: str) -> list[Model]:
    """The model of that name, or those of a run's frontier."""
    from archsearch.profile.models import architecture_model, read_model

    if not Path(text).is_dir():
        return [read_model(text)]
    from archsearch import api
    from archsearch.jobs import InputError

    run = api.load_run(text)
    archs = {point.id: point.arch for point in run.points()}
    found = [(row["id"], architecture_model(archs[row["id"]])) for row in run.frontier()]
    if not found:
        raise InputError(f"{run.path} has no trained point yet: there is nothing to measure")
    return [replace(model, name=f"point {point}: {model.name}") for point, model in found]


def _outcome(found: object) -> dict[str, object]:
    from archsearch.profile.settings import Failed

    return {"failed": found.to_json()} if isinstance(found, Failed) else {"profile": found.to_json()}  # type: ignore[attr-defined]


def _text(name: str, found: Profile) -> str:
    """A profile for people."""
    from archsearch.cli.options import size_text

    rows = [f"{name} · {found.runtime} · device {found.fingerprint}", f"  latency      {interval(found.latency)}"]
    rows.append(
        f"               fastest {found.latency.minimum:.4g} ms, p90 {found.latency.p90:.4g} ms, {found.latency.runs} runs"
    )
    for label, one in (("peak loading", found.load_memory), ("peak running", found.run_memory)):
        if one is not None:
            low, median, high = (size_text(value * 1024) for value in (one.low, one.median, one.high))
            rows.append(f"  {label} {median}  [{low}, {high}]{', noisy' if one.noisy else ''}")
    if found.load_memory is not None:
        before = size_text(1024 * (found.about.get("baseline_memory_kib") or 0))
        rows.append(f"               of the whole process, which took {before} before the model")
    energy = found.energy
    said = "no counter that can be read here" if energy is None else f"{interval(energy)}{', noisy' if energy.noisy else ''}"
    rows.append(f"  energy       {said}")
    rows.extend(f"  noisy        {why}" for why in found.about["noisy_because"])
    if (made := found.about.get("cached")) is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(made["at"]))
        rows.append(f"  from cache   measured on {made['host']}, {when}; --fresh measures again")
    if warning := found.about.get("cache_warning"):
        rows.append(f"  cache        {warning}")
    return "\n".join(rows)


def interval(one: Measurement) -> str:
    """``1.234 ms  [1.220, 1.250]``."""
    return f"{one.median:.4g} {one.unit}  [{one.low:.4g}, {one.high:.4g}]"


@contextmanager
def _watching(names: list[str]) -> Iterator[tuple[Watch, Callable[[str], None]]]:
    """Progress on stderr: a bar on a terminal, elsewhere a line for each tenth; drawn between blocks, not during one.

    The second is told what is waited for, which gets a line of its own.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = {"tenth": -1}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True, auto_refresh=False,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("starting", total=1)

        def watch(step: Step) -> None:
            text = _line(names, step)
            if console.is_terminal:
                bar.update(task, description=text, completed=step.done, total=step.total, refresh=True)
            elif (tenth := 10 * step.done // step.total) != shown["tenth"]:
                shown["tenth"] = tenth
                print(f"profile: {step.done}/{step.total} {text}", file=sys.stderr, flush=True)

        yield watch, lambda text: bar.console.print(f"profile: {text}", markup=False, highlight=False, soft_wrap=True)


def _line(names: list[str], step: Step) -> str:
    said = {
        "preparing": "writing models as files of the runtime, where that was not done before",
        "waiting": "waiting for others to end, or to cool down",
        "starting": "starting a process",
    }
    text = said.get(step.phase) or f"{step.phase} of {names[step.subject or 0]}"
    return text if step.latency is None else f"{text}: {interval(step.latency)}"
