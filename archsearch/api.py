"""The Python interface: start, resume and read runs. The command line is a thin layer over this file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archsearch import config as configuration
from archsearch.cluster.observer import Observer
from archsearch.config import Config
from archsearch.continuing import RESUMABLE, description, may_change, since
from archsearch.evaluation import Evaluation, evaluate, load_evaluation
from archsearch.exporting import Export, export
from archsearch.jobs import EventKind, Executor, InputError
from archsearch.planning import Plan, new_folder, plan, read_config, refuse_unasked, same_data
from archsearch.run import Run, artifacts_root, evaluations_in, frontier_settings, load_run, write_run_report
from archsearch.session import begin, followed, go_on, versions
from archsearch.store import RunFolder, open_store
from archsearch.tracking import Callback
from archsearch.warm_start import WarmStart, choose

__all__ = [
    "RESUMABLE",
    "Evaluation",
    "Export",
    "Plan",
    "Run",
    "artifacts_root",
    "evaluate",
    "evaluations_in",
    "export",
    "frontier_settings",
    "load_evaluation",
    "load_run",
    "new_folder",
    "plan",
    "read_config",
    "resume",
    "search",
    "start_from",
    "versions",
    "write_run_report",
]


def search(
    source: Config | str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
    warm_from: Run | str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
    executor: Callable[[Plan], Executor] | None = None,
    or_resume: bool = False,
) -> Run:
    """Start a search and drive it to its end.

    Args:
        source: a YAML file, a dict of sections, or a ``Config``.
        overrides: ``["search.max_hull_points=20"]``.
        run_dir: the run's folder; by default a new one below ``run.dir``.
        warm_from: an earlier run on the same data: the points of its pool that fit this search are in this one's from the
            start, trained, with copies of their weights. What they took counts against no budget of this run.
        callbacks: who follows the run, besides those that its section ``tracking`` names.
        observer: watches from inside the driver (the command line's display).
        executor: makes a simulated executor, instead of the one that the configuration names.
        or_resume: go on with the run in ``run_dir``, if there is one: the same call starts a search and brings it to its
            end, however often its process is killed. Budgets and resources may have changed since, what is searched may not.

    Raises:
        InputError: something is wrong with the configuration, the data or ``warm_from``; nothing was written.
        StoreDamaged: weights of ``warm_from`` are not those that were written; nothing was.
    """
    config = read_config(source, overrides)
    if or_resume and run_dir is not None and (meta := description(run_dir)) is not None:
        changes = since(meta, config)
        if observer:
            observer.on_message(f"going on with {run_dir}")
        return resume(
            run_dir, overrides=changes.kept, secrets=changes.secret, callbacks=callbacks, observer=observer, reached=reached
        )
    made = plan(config)
    if executor is None:
        _refuse_few_cores(config)
    warm = None if warm_from is None else start_from(warm_from, made, observer)
    folder = RunFolder.at(run_dir) if run_dir is not None else new_folder(config)
    simulated = executor is not None
    with followed(config, folder, callbacks, observer, simulated=simulated) as watching:
        about = {"directory": os.getcwd(), "simulated": simulated}
        outcome = begin(
            made,
            folder,
            about=about,
            store=config["run"].store,
            warm=warm,
            executor=executor,
            observer=watching,
            reached=reached,
        )
    return Run(folder, outcome)


def start_from(source: Run | str | Path, made: Plan, observer: Observer | None = None) -> WarmStart:
    """What a planned search can take of an earlier run's pool; nothing is written. Raises as ``warm_start.choose``."""
    say = observer.on_message if observer else lambda text: None
    warm = choose(source if isinstance(source, Run) else load_run(source), made.searcher, made.dataset.hash, say)
    say(str(warm))
    return warm


def resume(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    secrets: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
    join: bool = True,
) -> Run:
    """Go on with a run that was interrupted, killed or stopped, from its last event.

    Args:
        overrides: budgets, resources and tracking to change from now on; what is searched stays.
        secrets: overrides that count for this session only, and are not kept.
        join: whether the cluster that the run itself names may be joined: whoever runs it can run code here. It may not be if
            the run is a stranger's; ``overrides`` name one then.
        callbacks, observer: as for ``search``; those that were handed to an earlier session are to be handed over again.

    Raises:
        InputError: no run is there, its data set is another one now, or an override is not allowed.
    """
    folder = RunFolder.at(path)
    settings: dict[str, Any] = {}  # what earlier sessions changed
    with open_store(folder, write=False, whole=False) as past:  # it is checked when it is opened to go on
        meta = past.meta
        for event in past.events_of(EventKind.BUDGET):
            settings.update(event.data.get("set") or {})
    if meta.get("simulated"):
        raise InputError(f"{folder.path} was simulated: its networks have no weights to go on from. Start a search instead.")
    if "evaluation" in meta:
        raise InputError(f"{folder.path} is an evaluation: give its `archsearch evaluate` command again to go on with it.")
    kept = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = configuration.from_snapshot(
        meta["config"], expanded=meta["expanded"], overrides=[*secrets, *kept, *overrides], settable=RESUMABLE
    )
    if not join:
        refuse_unasked(config, overrides, folder)
    made = same_data(plan(config, directory=meta["directory"]), folder, meta)
    _refuse_few_cores(config)
    with followed(config, folder, callbacks, observer) as watching:
        outcome = go_on(made, folder, meta, changes=_changes(overrides), observer=watching, reached=reached)
    return Run(folder, outcome)


def _refuse_few_cores(config: Config) -> None:
    """
    Raises:
        InputError: the search measures on this very machine with more threads than this process has cores: no point would
            ever get a figure.
    """
    from archsearch.measured import parse_objective
    from archsearch.profile.environment import choose_cores
    from archsearch.run import objectives

    cluster, devices = config["cluster"], config["devices"].root
    if (cluster.executor == "ray" and cluster.address != "local") or config["profile"].work != "profile":
        return
    for name in sorted({parse_objective(each).device for each in objectives(config)}):
        if devices[name].runner == "local":
            try:
                choose_cores(devices[name].threads)
            except InputError as error:
                raise InputError(f"devices.{name}.{error}") from None


def _changes(overrides: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` changes from now on, by key. A secret is not kept, whether it was given again or for the first time."""
    changes = {}
    for path, node in map(configuration.parse_override, overrides):
        key = ".".join(str(part) for part in path)
        value = configuration.plain(node)
        if may_change(key) and configuration.masked(value, str(path[-1])) == value:
            changes[key] = value
    return changes
