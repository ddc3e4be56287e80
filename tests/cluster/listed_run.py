"""Runs whose searcher has a list of jobs: for tests of what becomes of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_run import history

from archsearch import config as configuration
from archsearch.api import load_run
from archsearch.cluster.inline import InlineExecutor
from archsearch.cluster.loop import Outcome, RunLoop
from archsearch.cluster.observer import Observer
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import EventKind, Executor, Job, Searcher, Stage
from archsearch.store import Artifacts, create_run, open_store


class Listed(Searcher):
    """Asks for a list of specs, in order; each is that of a ``test_steps`` job, or a job whose id is still to be given."""

    def __init__(self, specs: Sequence[dict[str, Any] | Job]) -> None:
        self.jobs = [s if isinstance(s, Job) else Job(0, Stage.COMPAT, "test_steps", s, seed=1) for s in specs]
        self.asked = 0
        self.told: list[int] = []

    def ask(self, capacity):
        if self.asked >= len(self.jobs) or not capacity["train"]:
            return []
        return [replace(self.jobs[self.asked], id=self.asked + 1)]

    def apply(self, event):
        self.asked += event.kind is EventKind.ASKED
        if event.kind is EventKind.TOLD:
            self.told.append(event.job)

    @property
    def done(self):
        return None if self.asked < len(self.jobs) else "all asked"


class Notes(Observer):
    def __init__(self, on_tick=lambda loop: None):
        self.messages: list[str] = []
        self.tick = on_tick

    def on_events(self, loop, events): ...

    def on_tick(self, loop):
        self.tick(loop)

    def on_message(self, text):
        self.messages.append(text)


class Bench:
    """A run folder, and sessions on it."""

    def __init__(self, path: Path, digits: Any) -> None:
        self.path = path
        self.digits = digits
        config = configuration.from_values({"data": {"name": "digits"}})
        create_run(path, config_text=config.source_text, meta={"seed": 0, "expanded": dict(config.expanded)})

    def session(self, specs, *, executor=None, observer=None, wrap=lambda store: store, wall_clock=None, drain=True, **policy):
        policy = ClusterSection(**{"backoff": 0.01, **policy})
        artifacts = Artifacts(str(self.path))
        with open_store(self.path, write=True) as store:
            loop = RunLoop(wrap(store), artifacts, Listed(specs), policy, wall_clock=wall_clock, drain=drain, observer=observer)
            self.loop = loop
            made = executor or InlineExecutor(self.digits, artifacts)
            return loop.run(made, {"test": True, "slots": made.slots()["total"]}), loop

    def events(self, kind: EventKind) -> list[tuple[int | None, Any]]:
        """Job and data of the committed events of a kind."""
        return [(job, data) for _, each, job, data in history(self.path) if each is kind]


class Session:
    """A session of a bench in a thread of its own, while the test breaks things."""

    def __init__(self, bench: Bench, specs: Sequence[dict[str, Any] | Job], executor: Executor, **policy: Any) -> None:
        self.bench = bench
        self._result: list[tuple[Outcome, RunLoop] | BaseException] = []

        def body() -> None:
            try:
                self._result.append(bench.session(specs, executor=executor, **policy))
            except BaseException as error:
                self._result.append(error)

        self._thread = threading.Thread(target=body)
        self._thread.start()

    def summary(self) -> dict[str, Any]:
        """What ``archsearch status --json`` would print now."""
        return load_run(self.bench.path).summary()

    def stop(self) -> None:
        """End it, wherever it stands."""
        if self._thread.is_alive():
            self.bench.loop.request_stop()
            self._thread.join(30)

    def end(self, timeout: float = 120) -> tuple[Outcome, RunLoop]:
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.stop()
            raise AssertionError(f"not done within {timeout} s: {self.summary()}")
        if isinstance(self._result[0], BaseException):
            raise self._result[0]
        return self._result[0]


def until(condition: Callable[[], Any], timeout: float = 60.0, what: str = "") -> Any:
    """What the condition gives, once it gives anything."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time {what}"
        time.sleep(0.1)
    return found
