"""The Python interface: start, resume and read runs. The command line is a thin layer over this file."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import config as configuration
from archsearch.cluster.loop import Outcome, RunLoop
from archsearch.cluster.observer import Observer
from archsearch.config import Config
from archsearch.jobs import (
    EventKind,
    Executor,
    InputError,
    JobState,
    Searcher,
)
from archsearch.registry import SEARCHERS
from archsearch.report import summary, write_html, write_report
from archsearch.searchers.base import Surroundings
from archsearch.store import Artifacts, Point, RunFolder, RunState, SqlStore, create_run, open_store

if TYPE_CHECKING:
    from torch import nn

    from archsearch.data import Dataset

#: Sections, and single keys, that ``resume --set`` may change: how long and where, never what is searched.
RESUMABLE = frozenset({"budget", "resources", "cluster", "search.max_hull_points"})


@dataclass(frozen=True)
class Plan:
    """A configuration with its data set loaded and its seeds known: everything that can be checked has been."""

    config: Config
    dataset: Dataset
    searcher: Searcher


def plan(config: Config, *, directory: str = "") -> Plan:
    """Load the data and make the searcher, without writing anything.

    Args:
        directory: where a relative ``data.path`` begins; the working directory unless a run began in another.

    Raises:
        InputError: bad data, or no seed that fits.
    """
    from archsearch.data import load

    section = config["data"]
    if section.path is not None:
        section = section.model_copy(update={"path": os.path.join(directory, section.path)})
    dataset = load(section)
    around = Surroundings(
        seed=config["run"].seed,
        input=dataset.shape,
        classes=dataset.classes,
        budget=config["budget"],
        settings={name: config[name].model_dump(mode="json") for name in ("seed_train", "post_train", "weak_learner")},
        resources=config["resources"].by_work(),
    )
    searcher = SEARCHERS.get(config["search"].name)(config["search"], around)
    return Plan(config, dataset, searcher)


def read_config(source: Config | str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A configuration from what a user may hand over: a file's path, plain values, or one that is checked already."""
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return configuration.from_values(source, overrides=overrides)
    return configuration.load(source, overrides=overrides)


class Run:
    """A run on disk: its points, its frontier, its models. Reading never changes it."""

    def __init__(self, folder: RunFolder, outcome: Outcome | None = None) -> None:
        self.folder = folder
        self.outcome = outcome  # how the session that made this object ended
        with open_store(folder, write=False) as store:
            self.meta: Mapping[str, Any] = store.meta
            self.driver = store.driver()  # who runs it now, if anyone does
            self.state = RunState()
            self.session: Mapping[str, Any] = {}  # what the latest driver said of itself
            for event in store.events():
                self.state.apply(event)
                self.session = event.data.get("session", self.session) if event.kind is EventKind.BUDGET else self.session
        self.config = configuration.from_snapshot(
            self.meta["config"],
            expanded=self.meta["expanded"],
            overrides=[f"{key}={json.dumps(value)}" for key, value in self.state.settings.items()],
            strict=False,  # a secret that was not kept is not needed to look at a run
        )

    @property
    def path(self) -> Path:
        return self.folder.path

    def points(self) -> list[Point]:
        """Every trained architecture of the pool, in the order of training."""
        return self.state.points()

    def frontier(self) -> list[dict[str, Any]]:
        """The non-dominated points, cheapest first: ``{id, cost, error, stage}``."""
        frontier: list[dict[str, Any]] = self.summary()["frontier"]
        return frontier

    def summary(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        state, stopped = self.state, self.state.stopped or {}
        counts = {str(kind): number for kind, number in state.counts.items()}
        if not self.driver:  # what a killed driver left running waits to be started again
            counts[JobState.QUEUED] += counts[JobState.RUNNING]
            counts[JobState.RUNNING] = 0
        word = "running" if self.driver else stopped.get("state", "killed" if state.last_number else "new")
        return {
            "run": str(self.path),
            "state": word,
            "reason": stopped.get("reason"),
            **summary(state.points(), **frontier_settings(self.config)),
            "jobs": counts,
            "slots": {"total": self.session.get("slots", 0), "busy": counts[JobState.RUNNING]},
            "device_seconds": state.device_seconds,
            "events": state.last_number,
        }

    def load(self, point: int) -> nn.Module:
        """The network of a point with its trained weights, in evaluation mode; it takes (N, C, H, W) float images.

        Inputs are normalised as ``archsearch.data.normalise`` says. Hash and shapes are checked.

        Raises:
            InputError: no such point.
            StoreDamaged: the weights are not those that were written.
        """
        from safetensors.torch import load

        from archsearch.arch import Architecture
        from archsearch.arch.build import build

        found = {p.id: p for p in self.points()}.get(point)
        if found is None or found.weights is None:
            raise InputError(f"{self.path.name} has no point {point}. Points: {', '.join(str(p.id) for p in self.points())}.")
        model = build(Architecture.from_json(found.arch))
        root = artifacts_root(self.config, self.folder)
        model.load_state_dict(load(Artifacts(root).load(found.weights)))
        return model.eval()

    def report(self) -> list[Path]:
        """Write the run's tables, pictures and gallery into its folder."""
        return write_run_report(self.path, self.state, self.config, self.meta, self.session)


def load_run(path: str | Path) -> Run:
    """A run by its folder.

    Raises:
        InputError: no run is there.
        StoreDamaged: a byte is not what was written.
    """
    return Run(RunFolder.at(path))


def search(
    source: Config | str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
    executor: Callable[[Plan], Executor] | None = None,
) -> Run:
    """Start a search and drive it to its end.

    Args:
        source: a YAML file, a dict of sections, or a ``Config``.
        overrides: ``["search.max_hull_points=20"]``.
        run_dir: the run's folder; by default a new one below ``run.dir``.
        executor: makes a simulated executor, instead of the one that the configuration names.

    Raises:
        InputError: something is wrong with the configuration or the data; nothing was written.
    """
    config = read_config(source, overrides)
    made = plan(config)
    folder = RunFolder.at(run_dir) if run_dir is not None else new_folder(config)
    meta = {
        "name": folder.name,
        "seed": config["run"].seed,
        "dataset": {"name": made.dataset.name, "hash": made.dataset.hash, "classes": made.dataset.classes},
        "expanded": dict(config.expanded),
        "directory": os.getcwd(),
        "versions": versions(),
        "simulated": executor is not None,
    }
    with ExitStack() as stack:
        if executor is None:
            slots = stack.enter_context(_executor(made, folder, observer, reached))
        else:
            slots = stack.enter_context(contextlib.closing(executor(made)))
        create_run(folder, config_text=config.source_text, meta=meta)
        store = stack.enter_context(open_store(folder, write=True, reached=reached))
        outcome = _drive(store, slots, made, {}, observer, reached)
    return Run(folder, outcome)


def resume(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
) -> Run:
    """Go on with a run that was interrupted, killed or stopped, from its last event.

    Args:
        overrides: budgets and resources to change from now on; what is searched stays.

    Raises:
        InputError: no run is there, its data set is another one now, or an override is not allowed.
    """
    folder = RunFolder.at(path)
    settings: dict[str, Any] = {}  # what earlier sessions changed
    with open_store(folder, write=False) as past:
        meta = past.meta
        for event in past.events():
            if event.kind is EventKind.BUDGET:
                settings.update(event.data.get("set") or {})
    if meta.get("simulated"):
        raise InputError(f"{folder.path} was simulated: its networks have no weights to go on from. Start a search instead.")
    kept = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = configuration.from_snapshot(
        meta["config"], expanded=meta["expanded"], overrides=[*kept, *overrides], settable=RESUMABLE
    )
    made = plan(config, directory=meta["directory"])
    was = meta["dataset"]["hash"]
    if made.dataset.hash != was:
        raise InputError(
            f"{folder.path}: the data set has changed since the run began (hash {made.dataset.hash[:12]}, was {was[:12]}). "
            "Put the old data back, or start a new search."
        )
    now, then = versions(), meta["versions"]
    if observer and now != then:
        different = ", ".join(f"{name} {then.get(name)} -> {now[name]}" for name in now if now[name] != then.get(name))
        observer.on_message(f"note: the run began with other versions: {different}")
    with ExitStack() as stack:
        store = stack.enter_context(open_store(folder, write=True, reached=reached))
        executor = stack.enter_context(_executor(made, folder, observer, reached))
        outcome = _drive(store, executor, made, _changes(overrides), observer, reached)
    return Run(folder, outcome)


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` changes from now on, by key. A secret that was given again changes nothing and is not kept."""
    changes = {}
    for path, node in map(configuration.parse_override, overrides):
        key = ".".join(str(part) for part in path)
        if path[0] in RESUMABLE or key in RESUMABLE:
            changes[key] = configuration.plain(node)
    return changes


def _drive(
    store: SqlStore,
    executor: Executor,
    made: Plan,
    changes: Mapping[str, Any],
    observer: Observer | None,
    reached: Callable[[str], None],
) -> Outcome:
    """One driver's session, from the last event on, and the report at its end."""
    config, folder = made.config, store.folder
    budget = config["budget"]
    artifacts = Artifacts(artifacts_root(config, folder), reached=reached)
    loop = RunLoop(
        store,
        artifacts,
        made.searcher,
        config["cluster"],
        wall_clock=budget.wall_clock,
        drain=budget.when_reached == "drain",
        observer=observer,
        reached=reached,
    )
    artifacts.collect({ref.key for record in loop.state.jobs.values() for ref in record.artifacts.values()})
    session = {
        "executor": executor.name,
        "slots": executor.slots()["total"],
        "host": socket.gethostname(),
        "versions": versions(),
    }
    with _signals(loop):
        outcome = loop.run(executor, session, changes)
    if loop.state.points():
        if observer:
            observer.on_message("writing the report …")
        write_run_report(folder.path, loop.state, config, store.meta, session)
    return outcome


@contextlib.contextmanager
def _executor(made: Plan, folder: RunFolder, observer: Observer | None, reached: Callable[[str], None]) -> Iterator[Executor]:
    """The executor that the configuration names, closed at the end."""
    cluster, root = made.config["cluster"], artifacts_root(made.config, folder)
    if cluster.executor == "inline":
        from archsearch.cluster.inline import InlineExecutor

        executor: Executor = InlineExecutor(made.dataset, Artifacts(root, reached=reached))
    else:
        from archsearch.cluster import ray_environment

        say = observer.on_message if observer else lambda text: None
        say(f"starting Ray ({cluster.address}) …")
        ray_environment.prepare(cluster.address, root)
        from archsearch.cluster.ray_executor import RayExecutor

        resources = made.config["resources"].by_work()
        executor = RayExecutor(made.dataset, root, resources=resources, address=cluster.address, slots=cluster.slots, say=say)
    try:
        yield executor
    finally:
        executor.close()


@contextlib.contextmanager
def _signals(loop: RunLoop) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run in order; a second one leaves at once. Only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        if loop.stopping:
            raise KeyboardInterrupt
        loop.request_stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def new_folder(config: Config) -> RunFolder:
    """A folder below ``run.dir`` that holds no run yet: NAME, NAME-2, NAME-3..."""
    section = config["run"]
    name = section.name or "run"
    for number in range(1, 100_000):
        folder = RunFolder.at(Path(section.dir) / (name if number == 1 else f"{name}-{number}"))
        if not folder.path.exists():
            return folder
    raise InputError(f"run.dir = {section.dir} is full of runs called {name}; choose another run.name")


def artifacts_root(config: Config, folder: RunFolder) -> str:
    """Where weights lie: ``run.artifacts``, a folder of this run's name below it, or the run's own folder."""
    place = config["run"].artifacts
    return f"{place.rstrip('/')}/{folder.name}" if place else folder.url


def versions() -> dict[str, str]:
    """Versions that a run's results may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("archsearch", "torch", "numpy", "ray")}}


def frontier_settings(config: Config) -> dict[str, Any]:
    """How the run's frontier is drawn: ``cost``, ``eps``, ``band_standard_errors``."""
    section = config["search"]
    return {
        "cost": getattr(section, "cost", "madds"),
        "eps": getattr(section, "convex_hull_eps", 0.025),
        "band_standard_errors": getattr(section, "band_standard_errors", 0.0),
    }


def write_run_report(
    path: Path, state: RunState, config: Config, meta: Mapping[str, Any], session: Mapping[str, Any]
) -> list[Path]:
    """All files of ``archsearch.report`` for a run: ``report.html`` is the one to look at."""
    settings = frontier_settings(config)
    environment = {key: meta[key] for key in ("seed", "dataset", "versions") if key in meta}
    environment["latest session"] = {key: value for key, value in session.items() if value != meta.get(key)}
    files = write_report(path, state.points(), **settings)
    name = str(meta.get("name", path.name))
    page = write_html(path, state, name=name, config=config.to_yaml(), environment=environment, **settings)
    return [*files, page]
