"""A callback that writes down what it is told, and the small search to follow."""

from __future__ import annotations

import threading
from typing import Any

import archsearch
from archsearch.cluster.observer import Observer

CONFIG: dict[str, Any] = {
    "run": {"seed": 5},
    "data": {"name": "digits", "max_train": 200},
    "search": {"init_node_ch": [2, 3], "max_hull_points": 5, "band_standard_errors": 3, "test_frontier": False},
    "seed_train": {"epochs": 4, "batch_size": 50, "optimizer": "adamw", "lr": 0.05, "tensorwatch_stats": False},
    "post_train": {"epochs": 4, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "cluster": {"executor": "inline"},
}


def config(**changes: Any) -> dict[str, Any]:
    """The small configuration; ``config(search={"max_hull_points": 3})`` changes single keys."""
    return {name: {**CONFIG.get(name, {}), **changes.get(name, {})} for name in {**CONFIG, **changes}}


class Recording(archsearch.Callback):
    """Keeps (method, arguments) in order, and the threads that called."""

    def __init__(self, config=None):
        super().__init__(config)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.threads: set[str] = set()

    def told(self, method: str) -> list[tuple[Any, ...]]:
        return [arguments for name, arguments in self.calls if name == method]

    @property
    def points(self):
        return [point for (point,) in self.told("on_point")]


def _recorder(name: str):
    def method(self, *arguments):
        self.calls.append((name, arguments))
        self.threads.add(threading.current_thread().name)

    return method


METHODS = [name for name in vars(archsearch.Callback) if name.startswith("on_")]
for name in [*METHODS, "open", "close"]:
    setattr(Recording, name, _recorder(name))


class Heard(Observer):
    """Stands in the display's place."""

    def __init__(self):
        self.messages: list[str] = []
        self.reports: list[Any] = []

    def on_events(self, loop, events): ...

    def on_tick(self, loop): ...

    def on_message(self, text):
        self.messages.append(text)

    def on_report(self, files):
        self.reports.append(files)
