"""One driver's session: the executor that a configuration names, and the run loop between it and the plan."""

from __future__ import annotations

import contextlib
import math
import platform
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

from archsearch import config as configuration
from archsearch.cluster.loop import Outcome, RunLoop
from archsearch.cluster.observer import Observer
from archsearch.config import Config
from archsearch.jobs import ArchsearchError, Executor, Searcher, StoreDamaged
from archsearch.planning import Plan
from archsearch.run import artifacts_root, evaluations_in, frontier_settings, write_run_report
from archsearch.searchers.base import FrontierSearcher
from archsearch.store import (
    Artifacts,
    Retention,
    RunFolder,
    SqlStore,
    create_run,
    open_store,
    refuse_present,
    refuse_unreachable,
)
from archsearch.tracking import About, Callback, tracked
from archsearch.warm_start import WarmStart

#: Seconds within which a second signal to stop is the first one, told twice.
SAME_SIGNAL = 1.0


def begin(
    made: Plan,
    folder: RunFolder,
    *,
    about: Mapping[str, Any],
    store: str | None = None,
    warm: WarmStart | None = None,
    executor: Callable[[Plan], Executor] | None = None,
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Make a run's folder and drive the run to its end. Nothing is written before the executor stands.

    Args:
        about: what else the run's description says, such as the directory in which a relative ``data.path`` begins.
        store: URL of the PostgreSQL database that gets the run's log; without it, it is a file in the folder.
        warm: what the run takes from an earlier one; its weights are copied before the run exists.
        executor: makes a simulated executor, instead of the one that the configuration names.

    Raises:
        InputError: the folder holds a run already.
    """
    config = made.config
    meta = {
        "id": uuid.uuid4().hex,
        "name": folder.name,
        "seed": config["run"].seed,
        "dataset": {"name": made.dataset.name, "hash": made.dataset.hash, "classes": made.dataset.classes},
        "expanded": dict(config.expanded),
        "versions": versions(),
        **({"warm_from": warm.describe()} if warm else {}),
        **about,
    }
    refuse_present(folder)
    refuse_unreachable(store)
    if (root := artifacts_root(config, folder)) != folder.url:
        Artifacts(root).claim(meta["id"], new=True)
    text = configuration.without(config.source_text, "run.store")  # the run's folder says where; passwords are not kept
    with contextlib.ExitStack() as stack:
        if executor is None:
            slots = stack.enter_context(open_executor(made, folder, observer, reached))
        else:
            slots = stack.enter_context(contextlib.closing(executor(made)))
        say = observer.on_message if observer else lambda text: None
        events = warm.copy(Artifacts(root, reached=reached), say) if warm else []
        reached("create.before")
        create_run(folder, config_text=configuration.without_secrets(text), meta=meta, events=events, store=store)
        reached("create.after")
        log = stack.enter_context(open_store(folder, write=True, reached=reached))
        return drive(log, slots, made, {}, observer, reached)


def go_on(
    made: Plan,
    folder: RunFolder,
    meta: Mapping[str, Any],
    *,
    changes: Mapping[str, Any],
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Drive a run that exists, from its last event to its end.

    Args:
        meta: the run's description.
        changes: budgets and resources that change from now on, by key.

    Raises:
        StoreBusy: another driver holds it.
    """
    now, then = versions(), meta["versions"]
    if observer and now != then:
        different = ", ".join(f"{name} {then.get(name)} -> {now[name]}" for name in now if now[name] != then.get(name))
        observer.on_message(f"note: the run began with other versions: {different}")
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_store(folder, write=True, reached=reached))
        executor = stack.enter_context(open_executor(made, folder, observer, reached))
        return drive(store, executor, made, changes, observer, reached)


def drive(
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
    if artifacts.url != folder.url:
        artifacts.claim(store.meta["id"])
    with _own_events(folder):
        loop = RunLoop(
            store,
            artifacts,
            made.searcher,
            config["cluster"],
            retention=_retention(config, made.searcher),
            disk=None if budget.disk_gb is None else budget.disk_gb * 1e9,
            wall_clock=budget.wall_clock,
            drain=budget.when_reached == "drain",
            resources=config["resources"].by_stage(),
            devices_wait=config["profile"].wait,
            observer=observer,
            reached=reached,
        )
    artifacts.collect(loop.state.artifact_keys())
    session = {
        "executor": executor.name,
        "slots": executor.slots()["total"],
        "host": socket.gethostname(),
        "processor": processor(),
        "versions": versions(),
    }
    with stop_on_signals(loop.request_stop):
        outcome = loop.run(executor, session, changes)
    if loop.state.points():
        if observer:
            observer.on_message("writing the report …")
        files = write_run_report(folder.path, loop.state, config, store.meta, session, evaluations=evaluations_in(folder))
        if observer:
            observer.on_report(files)
    return outcome


def _retention(config: Config, searcher: Searcher) -> Retention | None:
    keep = config["run"].keep
    if keep == "all" or not isinstance(searcher, FrontierSearcher):
        return None
    return Retention(keep, searcher.kept)


def followed(
    config: Config, folder: RunFolder, callbacks: Sequence[Callback], observer: Observer | None, *, simulated: bool = False
) -> AbstractContextManager[Observer | None]:
    """The observer of a session that ``callbacks`` follow, and those that the configuration names; see ``tracked``.

    A simulation has no others than ``callbacks``: nobody wants made-up results among the real ones.
    """
    named = [] if simulated else config["tracking"].made()
    settings = frontier_settings(config)
    about = About(folder.name, folder.path, config.to_json(), settings["cost"], settings["error"])
    return tracked([*named, *callbacks], about, observer)


@contextlib.contextmanager
def open_executor(
    made: Plan, folder: RunFolder, observer: Observer | None, reached: Callable[[str], None]
) -> Iterator[Executor]:
    """The executor that the configuration names, closed at the end."""
    cluster, root = made.config["cluster"], artifacts_root(made.config, folder)
    if cluster.executor == "inline":
        from archsearch.cluster.inline import InlineExecutor

        artifacts = Artifacts(root, reached=reached)
        executor: Executor = InlineExecutor(made.dataset, artifacts, devices=made.config["devices"])
    else:
        from archsearch.cluster import ray_environment

        say = observer.on_message if observer else lambda text: None
        say(f"starting Ray ({cluster.address}) …")
        ray_environment.prepare(cluster.address, root)
        from archsearch.cluster.ray_executor import RayExecutor

        resources = made.config["resources"].by_stage()
        devices = made.config["devices"]
        executor = RayExecutor(made.dataset, root, resources=resources, policy=cluster, devices=devices, say=say)
    try:
        yield executor
    finally:
        executor.close()


@contextlib.contextmanager
def _own_events(folder: RunFolder) -> Iterator[None]:
    """
    Raises:
        StoreDamaged: the checksums of the run's events are right, but they do not say what archsearch's do.
    """
    try:
        yield
    except ArchsearchError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreDamaged(f"{folder.path}: its events are none that archsearch writes ({error!r})") from error


@contextlib.contextmanager
def stop_on_signals(request_stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end what runs in the block in order; a second one leaves at once. Only the main thread can listen.

    What comes within a moment is the first one again: whoever ends a group of processes tells its driver twice, once itself
    and once through its parent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first = math.inf

    def stop(number: int, frame: Any) -> None:
        nonlocal first
        first = min(first, time.monotonic())
        if time.monotonic() - first > SAME_SIGNAL:
            raise KeyboardInterrupt
        request_stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processor() -> str:
    """The kind of this machine's processor: on the same kind, the same training gives the same weights."""
    from archsearch.profile.environment import machine

    found = machine()
    return f"{found['cpu']}, {found['machine']}, features {found['cpu_flags']}"


def versions() -> dict[str, str]:
    """Versions that a run's results may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("archsearch", "torch", "numpy", "ray")}}
