"""The attempts under way: which run, which wait to be made again, which have shown no sign of life for too long.

All that happens to them becomes an event, through ``emit``; nothing is committed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain

from archsearch.cluster.ledger import Ledger
from archsearch.cluster.retries import alone, judge
from archsearch.cluster.section import ClusterSection
from archsearch.config.secrets import mask_text
from archsearch.jobs import (
    EVALUATION_STAGES,
    JSON,
    Completion,
    EventKind,
    Executor,
    Failure,
    FailureKind,
    Job,
    Progress,
    Stage,
)

#: Stages of the search itself.
SEARCHING = frozenset(Stage) - EVALUATION_STAGES


@dataclass
class Attempt:
    """An attempt that was submitted. ``job`` has the resources that it holds, ``asked`` those that were asked for. It ``began``
    to run, and last showed a ``sign`` of life, at these times of the executor's clock; None while it waits for a slot."""

    job: Job
    asked: Job
    began: float | None = None
    sign: float | None = None

    def seconds(self, now: float) -> float:
        """For how long it has held its slot."""
        return 0.0 if self.began is None else max(0.0, now - self.began)


class Attempts:
    """The attempts of one driver's session.

    ``running``: those submitted and not ended, by job. ``waiting``: jobs to be started again, by id, with the moment from which
    on. ``held``: jobs that failed before anything succeeded. ``damage``: what is damaged in the store, if a job has found that.
    """

    def __init__(
        self, ledger: Ledger, policy: ClusterSection, emit: Callable[[EventKind, int | None, Mapping[str, JSON]], None]
    ) -> None:
        self.ledger = ledger
        self.policy = policy
        self.emit = emit
        self.progress: dict[int, Mapping[str, JSON]] = {}
        self.running: dict[int, Attempt] = {}
        self.waiting: dict[int, tuple[float, Job]] = {}
        self.held: dict[int, Failure] = {}
        self.damage: str | None = None
        self._looked: float | None = None
        self._no_stall_before = 0.0  # no attempt can count as stalled earlier

    def open(self, executor: Executor, unfinished: Iterable[Job]) -> None:
        """Begin a session with the jobs that earlier ones have left."""
        self.executor = executor
        self.waiting = {job.id: (0.0, job) for job in unfinished}

    # ----------------------------------------------------------------------------------------------------------- begin
    def due(self, now: float) -> list[Job]:
        """Jobs that may be started again now, in the order in which they were asked."""
        return [self.waiting[id_][1] for id_ in sorted(self.waiting) if self.waiting[id_][0] <= now]

    def prepared(self, job: Job) -> Job:
        """The job's next attempt, with the resources that it will hold."""
        return self.executor.placed(alone(job, self.ledger)).again(self.ledger.attempts[job.id] + 1)

    def start(self, attempt: Job, asked: Job) -> None:
        """Note that an attempt, ``prepared`` from a job as it was asked, is submitted next."""
        self.waiting.pop(attempt.id, None)
        data: dict[str, JSON] = {"attempt": attempt.attempt}
        if attempt.resources != asked.resources:
            data["resources"] = asdict(attempt.resources)
        self.emit(EventKind.STARTED, attempt.id, data)
        self.running[attempt.id] = Attempt(attempt, asked)

    # ------------------------------------------------------------------------------------------------------------- end
    def sign(self, item: Progress, now: float) -> None:
        """Take a sign of life."""
        if (attempt := self.current(item)) is not None:
            attempt.began = now if attempt.began is None else attempt.began
            attempt.sign = now
            self.progress[item.job] = item.data

    def current(self, item: Completion | Progress) -> Attempt | None:
        """The attempt that an item is of, unless it was given up before."""
        attempt = self.running.get(item.job)
        return attempt if attempt is not None and attempt.job.attempt == item.attempt else None

    def prune(self, job: int, reason: str, seconds: float, figures: Mapping[str, JSON]) -> None:
        """Give up a training that the searcher expects nothing of any more."""
        attempt = self.running[job]
        self._forget(job)
        self.emit(
            EventKind.PRUNED, job, {"attempt": attempt.job.attempt, "reason": reason, **_time(attempt.job, seconds), **figures}
        )

    def take(self, done: Completion, *, stopping: bool) -> None:
        """Take the end of an attempt, unless it was given up before."""
        if (attempt := self.current(done)) is None:
            return  # its artifacts are collected later
        self._forget(done.job)
        if isinstance(done.outcome, Failure):
            return self._failed(attempt, done.outcome, done.seconds, stopping=stopping)
        data = {
            "attempt": done.attempt,
            "metrics": dict(done.outcome.metrics),
            "artifacts": {name: ref.to_json() for name, ref in done.outcome.artifacts.items()},
            **_time(attempt.job, done.seconds),
            "node": done.node,
        }
        self.emit(EventKind.TOLD, done.job, data)
        for job, failure in self.held.items():  # something has succeeded: what failed before was the candidates' own fault
            self._failure_event(job, self.ledger.attempts[job], failure, _time(attempt.job, 0.0), final=True)
        self.held.clear()

    def _failed(self, attempt: Attempt, failure: Failure, seconds: float, *, stopping: bool = False) -> None:
        job = attempt.asked
        verdict = judge(job.id, failure, self.ledger, self.policy)
        self._failure_event(job.id, attempt.job.attempt, verdict.failure, _time(attempt.job, seconds), final=verdict.final)
        if verdict.held:
            self.held[job.id] = verdict.failure
        elif failure.kind is FailureKind.DAMAGED:
            self.damage = failure.message
        elif verdict.again is not None and not stopping:
            self.waiting[job.id] = (self.executor.now() + verdict.again, job)

    def _failure_event(self, job: int, attempt: int, failure: Failure, time: Mapping[str, float], *, final: bool) -> None:
        data = {
            "attempt": attempt,
            "kind": str(failure.kind),
            "message": mask_text(failure.message),  # the address of a store, for example, with its password
            "traceback": mask_text(failure.traceback),
            **time,
            "final": final,
        }
        self.emit(EventKind.FAILED, job, data)

    def _forget(self, job: int) -> None:
        del self.running[job]
        self.progress.pop(job, None)

    # ------------------------------------------------------------------------------------------------------------ time
    def give_up_stalled(self, now: float) -> None:
        """Cancel attempts that have begun and shown no sign of life for ``stall_timeout``.

        One that waits for a slot, behind other users of the cluster, is not stalled. Nor is any while this driver itself did
        not listen: suspended, or waiting for its store.
        """
        limit, looked, self._looked = self.policy.stall_timeout, self._looked, now
        if looked is not None and now - looked > limit / 2:
            for attempt in self.running.values():
                attempt.sign = None if attempt.sign is None else attempt.sign + now - looked
            self._no_stall_before = now
        if now <= self._no_stall_before:
            return
        for id_, attempt in list(self.running.items()):
            if attempt.sign is not None and now - attempt.sign > limit:
                self.executor.cancel(id_, force=True)
                self._forget(id_)
                message = f"no sign of life for {now - attempt.sign:.0f} s (cluster.stall_timeout)"
                self._failed(attempt, Failure(FailureKind.STALLED, message), attempt.seconds(now))
        # Signs of life only move on, so there is no need to look again before the oldest of them is too old.
        oldest = min((attempt.sign for attempt in self.running.values() if attempt.sign is not None), default=now)
        self._no_stall_before = oldest + limit

    def next_due(self, now: float) -> float:
        """When a clock is to be looked at again: infinity, if nothing waits and nothing runs."""
        due = min((due for due, _ in self.waiting.values() if due > now), default=math.inf)
        return min(due, self._no_stall_before) if self.running else due

    def report(self, waiting: Mapping[int, JSON], slots: int | None) -> None:
        """Note which jobs wait for what no node has, and how many slots there are, where it is not what is known."""
        found = {job: about for job, about in self.executor.waiting().items() if job in self.running}
        for job in waiting.keys() - found.keys():
            self.emit(EventKind.REPORTED, job, {"waiting": None})
        for job, about in found.items():
            if waiting.get(job) != about:
                self.emit(EventKind.REPORTED, job, {"waiting": about})
        total = self.executor.slots()["total"]
        if slots is not None and slots != total:
            self.emit(EventKind.REPORTED, None, {"slots": total})

    # ----------------------------------------------------------------------------------------------------------- cancel
    def ask_to_stop(self) -> None:
        """Let what runs write its checkpoints and leave."""
        for job in self.running:
            self.executor.cancel(job, force=False)

    def cut_off(self) -> None:
        """End at once what runs; nothing is noted, so that the next session starts it again."""
        for job in self.running:
            self.executor.cancel(job, force=True)

    def only(self, stage: Stage) -> bool:
        """Whether something runs or waits, and all of it is of this stage."""
        jobs = chain((attempt.job for attempt in self.running.values()), (job for _, job in self.waiting.values()))
        return bool(self.running or self.waiting) and all(job.stage is stage for job in jobs)

    @property
    def latest_sign(self) -> float:
        """When a running attempt last showed a sign of life; minus infinity if none has."""
        return max((attempt.sign for attempt in self.running.values() if attempt.sign is not None), default=-math.inf)

    def cancel(self, reason: str, stages: Collection[Stage] = SEARCHING) -> None:
        """Give up for good what runs or waits of these stages; by default all but what is done with finished points."""
        now = self.executor.now()
        for id_, attempt in list(self.running.items()):
            if attempt.job.stage in stages:
                self.executor.cancel(id_, force=True)
                self._forget(id_)
                data = {"attempt": attempt.job.attempt, "reason": reason, **_time(attempt.job, attempt.seconds(now))}
                self.emit(EventKind.CANCELLED, id_, data)
        for id_, (_, job) in list(self.waiting.items()):
            if job.stage in stages:
                del self.waiting[id_]
                self.emit(EventKind.CANCELLED, id_, {"attempt": self.ledger.attempts[id_], "reason": reason})


def _time(attempt: Job, seconds: float) -> dict[str, float]:
    """What an attempt that held its slot for so long took of the cluster."""
    return {"seconds": seconds, "device_seconds": seconds * attempt.resources.devices}
