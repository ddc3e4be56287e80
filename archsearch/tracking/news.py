"""What a run's events mean to callbacks: which method is called with what. Pure; it runs in the callbacks' thread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.frontier import Frontier, hypervolume
from archsearch.jobs import JSON, Event, EventKind, Job
from archsearch.store import Point, plain
from archsearch.tracking.callback import RunStart, TrackedJob, TrackedPoint

#: One call: a method of ``Callback`` and its arguments.
Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A point as the run's state has it, and when, where and how long it was trained."""

    point: Point
    time: float
    seconds: float
    node: str


@dataclass(frozen=True, slots=True)
class Item:
    """One event, with its job and, if it brought one, the point."""

    event: Event
    job: Job | None
    trained: Trained | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a run is called, where it lies, its configuration (masked), and the metrics that its frontier is drawn of."""

    name: str
    folder: Path
    config: Mapping[str, JSON]
    cost: str
    error: str = "val_error"


class News:
    """A fold over a session's events. Data are copied: what a callback does to them does nothing to the run."""

    def __init__(self, about: About, past: Sequence[Trained] = ()) -> None:
        self._about = about
        self._past = past
        self._frontier = Frontier()
        self._places: dict[int, tuple[float, float]] = {}  # cost and error of the points that have been on the frontier
        self._count = 0
        self._dearest = 0.0
        self._best: float | None = None

    def calls(self, item: Item) -> Iterator[Call]:
        """The calls that the next event amounts to."""
        event = item.event
        if event.kind is EventKind.BUDGET and "session" in event.data:
            yield "on_start", (self._start(event),)
        elif item.job is not None:
            yield from self._of_job(event, item.job)
            if item.trained is not None:
                yield "on_point", (self._point(item.trained),)

    def _start(self, event: Event) -> RunStart:
        about = self._about
        imported = sum(trained.point.origin is not None for trained in self._past)  # the first events of a warm start
        points = tuple(self._point(trained) for trained in self._past)
        self._past = ()
        config, session = plain(about.config), plain(event.data["session"])
        resumed = event.number > 1 + imported
        return RunStart(about.name, about.folder, resumed, points, about.cost, about.error, config, session, event.time)

    def _of_job(self, event: Event, job: Job) -> Iterator[Call]:
        data = event.data
        attempt = 0 if event.kind is EventKind.ASKED else int(data.get("attempt") or 0)
        subject = TrackedJob(job.id, str(job.stage), job.work, job.parent, attempt, event.time)
        if event.kind is EventKind.ASKED:
            yield "on_job_asked", (subject,)
        elif event.kind is EventKind.STARTED:
            yield "on_job_started", (subject,)
        elif event.kind is EventKind.TOLD:
            yield "on_job_told", (subject, plain(data["metrics"]), float(data["seconds"]), str(data["node"]))
        elif event.kind is EventKind.FAILED:
            yield "on_job_failed", (subject, str(data["kind"]), str(data["message"]), bool(data["final"]))
        elif event.kind in (EventKind.CANCELLED, EventKind.PRUNED):
            yield "on_job_cancelled", (subject, str(data.get("reason") or event.kind))

    def _point(self, trained: Trained) -> TrackedPoint:
        point, metrics = trained.point, plain(trained.point.metrics)
        about = self._about
        cost, error = (_figure(metrics, key) for key in (about.cost, about.error))
        self._count += 1
        if cost is not None and error is not None:
            self._frontier.add(point.id, cost, error)
            self._places[point.id] = (cost, error)
            self._dearest = max(self._dearest, cost)
            self._best = error if self._best is None else min(self._best, error)
        front = self._frontier.front()
        if len(self._places) > 2 * len(front) + 100:
            self._places = {id_: self._places[id_] for id_ in front}
        return TrackedPoint(
            id=point.id,
            number=self._count,
            stage=str(point.stage),
            parent=point.parent,
            cost=cost,
            error=error,
            standard_error=_figure(metrics, f"{about.error.removesuffix('_error')}_standard_error"),
            best_error=self._best,
            frontier=tuple(front),
            hypervolume=self._share([self._places[id_] for id_ in front]),
            time=trained.time,
            seconds=trained.seconds,
            node=trained.node,
            arch=plain(point.arch),
            metrics=metrics,
        )

    def _share(self, corners: list[tuple[float, float]]) -> float:
        """Share of the box up to (dearest cost, error 1) that is dominated. The dearest point bounds it, and adds nothing
        itself until a dearer one comes."""
        if self._dearest <= 0.0:
            return 0.0
        return hypervolume([(cost / self._dearest, error) for cost, error in corners], [1.0, 1.0])


def _figure(metrics: Mapping[str, JSON], key: str) -> float | None:
    """A metric if it is a finite number."""
    value = metrics.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None
