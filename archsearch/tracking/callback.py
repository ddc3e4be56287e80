"""The face of those who follow a run from outside: loggers, dashboards, notebooks. They see plain data, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from archsearch.config import Section
from archsearch.jobs import JSON


@dataclass(frozen=True, slots=True)
class TrackedJob:
    """A job. ``attempt`` counts from 1 (0: not started yet), ``time`` is that of the news in seconds since the epoch,
    ``parent`` the job that it came from."""

    id: int
    stage: str
    work: str
    parent: int | None
    attempt: int
    time: float


@dataclass(frozen=True, slots=True)
class TrackedPoint:
    """A trained architecture that has joined the pool.

    Attributes:
        id: that of the job that trained it; jobs end in any order.
        number: 1 for the first point of the pool, then without a gap, also across resumes: the step of a logger.
        parent: the point that it grew from.
        cost, error, standard_error: as the run's frontier has them (``RunStart`` names the metrics), errors as shares; None
            where not measured.
        best_error: the lowest error of the pool so far.
        frontier: ids of the points that no other dominates by now, cheapest first.
        hypervolume: share, 0 to 1, that the frontier dominates of the box from nothing to (the dearest cost so far, error 1).
            That is the accuracy that a budget drawn from that range of costs buys on average; it never falls. The box grows
            with the pool: use ``archsearch runs compare`` to compare two runs.
        time: seconds since the epoch. ``seconds``: how long its attempts held a slot. ``node``: where the last one ran.
        arch: its description, as ``Architecture.from_json`` takes it.
        metrics: all that its training told, with ``curve`` as [[epoch, training loss, validation error], ...].
    """

    id: int
    number: int
    stage: str
    parent: int | None
    cost: float | None
    error: float | None
    standard_error: float | None
    best_error: float | None
    frontier: tuple[int, ...]
    hypervolume: float
    time: float
    seconds: float
    node: str
    arch: Mapping[str, JSON]
    metrics: Mapping[str, JSON]

    @property
    def on_frontier(self) -> bool:
        """Whether nothing dominated it when it joined."""
        return self.id in self.frontier


@dataclass(frozen=True, slots=True)
class RunStart:
    """A driver's session begins.

    Attributes:
        name, folder: the run's; what a callback keeps of this run alone belongs into ``folder``.
        resumed: whether there was a session before.
        points: the pool so far, in order, with what was taken from an earlier run (``warm_from``). They are not announced
            again by ``on_point``: a callback that writes them down replaces what it wrote in earlier sessions, since the last
            of it may be missing after a kill.
        cost, error: the metrics that ``TrackedPoint.cost`` and ``.error`` are: ``madds`` and ``val_error``, for instance.
        config: all sections with defaults filled in and secrets masked.
        session: ``executor``, ``slots``, ``host`` and ``versions``.
        time: seconds since the epoch.
    """

    name: str
    folder: Path
    resumed: bool
    points: tuple[TrackedPoint, ...]
    cost: str
    error: str
    config: Mapping[str, JSON] = field(repr=False)
    session: Mapping[str, JSON] = field(repr=False)
    time: float


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A session has ended: ``state`` is done, failed, interrupted, or crashed (the driver left with an error)."""

    state: str
    reason: str


class Callback:
    """Follows a run; override what you need. Hand an instance to ``archsearch.search(conf, callbacks=[...])``, or register
    the class as an entry point ``archsearch.callback`` and name it in the section ``tracking``:

    >>> class Print(archsearch.Callback):
    ...     def on_point(self, point):
    ...         print(point.number, point.cost, point.error, point.on_frontier)

    ``open`` and ``close`` are called by the thread that starts the search. All others are called one after another by one
    thread of their own, so that a slow callback never holds the search up; at the end the run waits for them, up to a
    minute. An error in a callback is reported once and ends nothing. News come in the order of the run's events, and after a
    resume they go on where the history does, so that nothing is told twice.

    ``config``: what ``tracking.NAME`` says, checked by ``Config``, a pydantic model made with ``archsearch.config.Section``.
    """

    Config: ClassVar[type[Section]] = Section
    name: str = ""  # what messages call it; by default its class

    def __init__(self, config: Section | None = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def open(self) -> None:
        """Take what is needed, before the run begins and before anything is written.

        Raises:
            InputError: something is missing; the search does not start (exit code 2).
        """

    def close(self) -> None:
        """Let go of what ``open`` took. Called in any case, last."""

    def on_start(self, start: RunStart) -> None:
        """A search has begun or goes on. A callback that raises here is left out of this session."""

    def on_job_asked(self, job: TrackedJob) -> None:
        """The searcher wants this job."""

    def on_job_started(self, job: TrackedJob) -> None:
        """An attempt at it was started."""

    def on_job_progress(self, job: int, attempt: int, figures: Mapping[str, JSON]) -> None:
        """What a running attempt says of itself (``step``, ``steps``, ``val_error``...): the latest, at most twice a second."""

    def on_job_told(self, job: TrackedJob, metrics: Mapping[str, JSON], seconds: float, node: str) -> None:
        """It has a result. That of a training is also announced as a point."""

    def on_job_failed(self, job: TrackedJob, kind: str, message: str, final: bool) -> None:
        """An attempt failed. ``kind`` as in ``archsearch.jobs.FailureKind``; ``final``: the job is not tried again."""

    def on_job_cancelled(self, job: TrackedJob, reason: str) -> None:
        """It was given up."""

    def on_point(self, point: TrackedPoint) -> None:
        """A trained architecture has joined the pool."""

    def on_report(self, files: Sequence[Path]) -> None:
        """The run's report was written."""

    def on_end(self, end: RunEnd) -> None:
        """The session has ended, in whatever way. The last news."""
