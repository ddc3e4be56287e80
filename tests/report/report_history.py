"""A run's events made up for the tests of its report: two nodes, a failure, a pause, and whatever names a test wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.arch import Architecture, Edge, cost, grow_node, seed_architecture
from archsearch.jobs import Event, EventKind, FailureKind, Job, Stage
from archsearch.store import RunState


class History:
    """Events in order; every method is something that happens to a job."""

    def __init__(self) -> None:
        self.state = RunState()
        self.jobs = 0

    def add(self, kind: EventKind, time: float, job: int | None = None, /, **data: Any) -> None:
        self.state.apply(Event(self.state.last_number + 1, time, kind, job, data))

    def start(self, stage: Stage, at: float, *, spec: Mapping[str, Any], parent: int | None = None) -> int:
        self.jobs += 1
        self.add(EventKind.ASKED, at, self.jobs, **Job(self.jobs, stage, "train", spec, 0, parent=parent).to_json())
        self.add(EventKind.STARTED, at, self.jobs, attempt=1)
        return self.jobs

    def end(self, job: int, at: float, metrics: Mapping[str, Any], *, node: str = "a", seconds: float = 1.0) -> None:
        self.add(EventKind.TOLD, at, job, attempt=1, metrics=dict(metrics), artifacts={}, seconds=seconds, node=node)

    def train(
        self,
        arch: Architecture,
        error: float,
        start: float,
        end: float,
        *,
        parent: int | None = None,
        node: str = "a",
        **more: Any,
    ) -> int:
        stage = Stage.SEED_TRAINED if parent is None else Stage.SEARCH_TRAINED
        job = self.start(stage, start, spec={"arch": arch.to_json()}, parent=parent)
        price = cost(arch)
        curve = [[epoch, 2.0 / epoch, error * (1 + 3 / epoch)] for epoch in (1, 2, 3, 4)]
        metrics = {"val_error": error, "val_standard_error": 0.01, "madds": price.madds, "params": price.params, "curve": curve}
        self.end(job, end, {**metrics, "epochs": 4, "best_epoch": 4, **more}, node=node, seconds=end - start)
        return job


def seed(channels: int) -> Architecture:
    return seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels)


def grown(arch: Architecture, op: str = "sep_conv_3x3") -> Architecture:
    return grow_node(arch, {name: [Edge("s0", op), Edge("s1", op)] for name in arch.cells})


def example(hostile: str = "") -> RunState:
    """Points 1 and 2 are seeds, 4 grew from 1 and 6 from 4; 7 is dominated; job 8 was given up. ``hostile`` stands in every
    text that a stranger's run could set."""
    history = History()
    first = seed(2)
    history.train(first, 0.40, 100.0, 110.0, node=f"a{hostile}", **{f"note{hostile}": 1.5})
    history.train(seed(8), 0.20, 100.0, 112.0, node="b", test_error=0.22, test_standard_error=0.02)
    search = history.start(Stage.SEARCH, 112.0, spec={"arch": first.to_json()}, parent=1)
    history.end(search, 113.0, {"ranked": {}}, node="b")
    second = grown(first)
    history.train(second, 0.15, 113.0, 120.0, parent=search, node="b")  # 4
    search = history.start(Stage.SEARCH, 120.0, spec={"arch": second.to_json()}, parent=4)
    history.end(search, 121.0, {"ranked": {}}, node="b")
    history.train(grown(second, "dil_conv_5x5"), 0.05, 1e6, 1e6 + 8, parent=search, node="b")  # 6, in a later session
    odd = {"family": f"mine{hostile}", "text": hostile}
    strange = history.start(Stage.SEED_TRAINED, 1e6, spec={"arch": odd})
    metrics = {"val_error": 0.5, "madds": 1e6, "val_loss": float("nan"), f"x{hostile}": 3}
    history.end(strange, 1e6 + 6, metrics, node=f"a{hostile}", seconds=6.0)
    lost = history.start(Stage.SEARCH, 1e6 + 8, spec={"arch": odd}, parent=6)
    failure = {"kind": str(FailureKind.EXCEPTION), "message": hostile, "traceback": hostile, "final": True}
    history.add(EventKind.FAILED, 1e6 + 9, lost, attempt=1, seconds=1.0, node="b", **failure)
    history.add(EventKind.STOPPED, 1e6 + 10, None, state="done", reason=f"budget used up{hostile}")
    return history.state
