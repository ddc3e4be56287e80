"""The run loop: asks the searcher, commits, submits, tells. The store is ahead of the cluster, never behind it.

Every change is an event. Events are folded in memory as they are made, committed in one transaction, and only then are
the jobs that they cause submitted; so a driver killed between any two instructions leaves a history from which
``RunLoop`` goes on: jobs that were asked and not ended are started again under their own ids and seeds.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from archsearch.cluster import collector
from archsearch.cluster.ledger import Ledger
from archsearch.cluster.observer import Observer
from archsearch.cluster.pruning import Pruning
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import (
    EVALUATION_STAGES,
    JSON,
    RETRIED,
    Completion,
    Event,
    EventKind,
    Executor,
    Failure,
    FailureKind,
    Job,
    Progress,
    Result,
    Searcher,
    Store,
    StoreUnavailable,
)
from archsearch.store import Artifacts, RunState, as_stored, plain

#: Seconds between two signs that the driver lives, for drivers on other hosts.
HEARTBEAT = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a driver's session ended. ``state`` is done, failed or interrupted."""

    state: str
    reason: str

    @property
    def exit_code(self) -> int:
        return {"done": 0, "failed": 3, "interrupted": 130}[self.state]


@dataclass
class Attempt:
    """An attempt that runs now: when it began and when it last showed life, on the executor's clock."""

    job: Job
    began: float
    sign: float


class RunLoop:
    """One driver's session on a run.

    Args:
        store, artifacts: the run's, opened for writing.
        wall_clock: seconds that drivers may spend on the run in all, or None.
        drain: whether running jobs may finish when a budget is used up.
        reached: called with the name of each crash point, for tests that kill the driver there.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        searcher: Searcher,
        policy: ClusterSection,
        *,
        wall_clock: float | None = None,
        drain: bool = True,
        observer: Observer | None = None,
        reached: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.store = store
        self.artifacts = artifacts
        self.searcher = searcher
        self.policy = policy
        self.wall_clock = wall_clock
        self.drain = drain
        self.observer = observer
        self.reached = reached
        self.state = RunState()
        self.ledger = Ledger()
        self.pruning = Pruning()
        self.progress: dict[int, Mapping[str, JSON]] = {}
        self.running: dict[int, Attempt] = {}
        self.waiting: list[tuple[float, Job]] = []  # (due, job): to be started again
        self.held: dict[int, Failure] = {}  # failed before anything succeeded: abandoned only once something has
        self.stopping = False
        self._events: list[Event] = []
        self._submissions: list[Job] = []
        self._asked_to_stop: float | None = None
        self._damage: str | None = None
        self._beat = time.monotonic()
        self._no_stall_before = 0.0  # no attempt can count as stalled earlier, on the executor's clock
        with collector.paused():
            for event in store.events():
                self._fold(event)

    # ------------------------------------------------------------------------------------------------------------- run
    def run(self, executor: Executor, session: Mapping[str, JSON], changes: Mapping[str, JSON] | None = None) -> Outcome:
        """Drive the run until it is done, stopped or interrupted.

        Args:
            session: what is said of this session in the history (versions, executor, host).
            changes: budgets and resources that ``resume --set`` changed, by path.
        """
        self.executor = executor
        executor.listen(self.take_progress)
        self._emit(EventKind.BUDGET, None, {"resumed": True, "session": dict(session), "set": dict(changes or {})})
        self.waiting = [(0.0, job) for job in self._unfinished()]
        self._flush()
        try:
            return self._drive()
        finally:
            collector.release()

    def _drive(self) -> Outcome:
        while True:
            self._keep_time()
            outcome = self._failing()
            if outcome is None:
                self._start()
                outcome = self._outcome()
            self._flush()
            if outcome is not None:
                self._emit(EventKind.STOPPED, None, {"state": outcome.state, "reason": outcome.reason})
                self._flush()
                return outcome
            for item in self.executor.wait(self._patience()):
                if isinstance(item, Progress):
                    self.take_progress(item)
                else:
                    self._take(item)
            if self.observer:
                self.observer.on_tick(self)

    def request_stop(self) -> None:
        """Ask for an orderly end: nothing new is submitted, running jobs write their checkpoints. Safe in a signal handler."""
        self.stopping = True

    # ------------------------------------------------------------------------------------------------------------ fold
    def _fold(self, event: Event) -> None:
        self.state.apply(event)
        self.searcher.apply(event)
        self.ledger.apply(event)
        self.pruning.apply(event)

    def _unfinished(self) -> list[Job]:
        """Jobs that were asked and have not ended, in the order in which they were asked."""
        return [replace(record.job, spec=plain(record.job.spec)) for record in self.state.open_jobs()]

    def _emit(self, kind: EventKind, job: int | None, data: Mapping[str, JSON]) -> None:
        event = as_stored(self.state.last_number + 1, self.executor.now(), kind, job, data)
        self._fold(event)
        self._events.append(event)
        if event.number % collector.OFTEN == 0:
            collector.settle()

    def _flush(self) -> None:
        """Commit what happened, then submit what it caused. Nothing is submitted that is not in the store."""
        if self._events:
            self.reached("commit.before")
            self._commit()
            self.reached("commit.after")
            events, self._events = self._events, []
            if self.observer:
                self.observer.on_events(self, events)
            for event in events:
                if event.kind in (EventKind.TOLD, EventKind.PRUNED) and event.job is not None:
                    self._drop_checkpoints(event.job)
        jobs, self._submissions = self._submissions, []
        for job in jobs:
            self.reached("submit.before")
            self.executor.submit(job)
            self.reached("submit.after")

    def _drop_checkpoints(self, job: int) -> None:
        with contextlib.suppress(StoreUnavailable):  # they only take room; the next resume finds them too
            self.artifacts.drop_checkpoints(job)

    def _commit(self) -> None:
        pause = 0.2
        while True:
            try:
                return self.store.commit(self._events)
            except StoreUnavailable as error:
                if self.stopping:
                    raise
                self._say(f"paused: {error} (trying again in {pause:.1f} s; nothing is lost meanwhile)")
                time.sleep(pause)
                pause = min(10.0, 2 * pause)

    def _say(self, text: str) -> None:
        if self.observer:
            self.observer.on_message(text)

    # ----------------------------------------------------------------------------------------------------------- start
    def _start(self) -> None:
        """Fill free slots: jobs to be started again first, then what the searcher asks for."""
        if self.stopping:
            return
        now = self.executor.now()
        for entry in sorted((entry for entry in self.waiting if entry[0] <= now), key=lambda entry: entry[1].id):
            if self.executor.capacity(self._submissions).get(entry[1].queue, 0) < 1:
                return
            self.waiting.remove(entry)
            self._launch(entry[1])
        while True:
            capacity = self.executor.capacity(self._submissions)
            jobs = self.searcher.ask(capacity) if any(capacity.values()) else []
            jobs = [job for job in jobs if capacity.get(job.queue, 0) > 0][:1]
            if not jobs:
                return
            self._emit(EventKind.ASKED, jobs[0].id, jobs[0].to_json())
            self._launch(jobs[0])

    def _launch(self, job: Job) -> None:
        attempt = job.again(self.ledger.attempts[job.id] + 1)
        self._emit(EventKind.STARTED, job.id, {"attempt": attempt.attempt})
        self.running[job.id] = Attempt(attempt, now := self.executor.now(), now)
        self._submissions.append(attempt)

    # ------------------------------------------------------------------------------------------------------------ take
    def take_progress(self, item: Progress) -> bool:
        """Take a sign of life; returns whether the job is to stop."""
        attempt = self.running.get(item.job)
        if attempt is not None and attempt.job.attempt == item.attempt:
            attempt.sign = self.executor.now()
            self.progress[item.job] = item.data
            if self._judged(attempt.job, item.data, attempt.sign - attempt.began):
                self.executor.cancel(item.job, force=False)
                self.pruning.asked_to_leave(item.job, attempt.sign)
        if self.observer:
            self.observer.on_tick(self)
        return self.stopping

    def _take(self, done: Completion) -> None:
        if self.pruning.left(done.job):
            self._drop_checkpoints(done.job)
        attempt = self.running.get(done.job)
        if attempt is None or attempt.job.attempt != done.attempt:
            return  # an attempt that was given up: its artifacts are collected later
        if isinstance(done.outcome, Result) and self._judged(attempt.job, done.outcome.metrics, done.seconds):
            return  # it ended before it could be stopped
        del self.running[done.job]
        self.progress.pop(done.job, None)
        if isinstance(done.outcome, Result):
            data = {
                "attempt": done.attempt,
                "metrics": dict(done.outcome.metrics),
                "artifacts": {name: ref.to_json() for name, ref in done.outcome.artifacts.items()},
                "seconds": done.seconds,
                "node": done.node,
            }
            self._emit(EventKind.TOLD, done.job, data)
            self._release_held()
        else:
            self._failed(attempt.job, done.outcome, done.seconds)

    def _judged(self, job: Job, figures: Mapping[str, JSON], seconds: float) -> bool:
        """Take the rungs that a job's figures say for the first time; whether the searcher gives it up after one of them."""
        for row in self.pruning.news(job.id, figures):
            self._emit(EventKind.REPORTED, job.id, {"attempt": job.attempt, **row})
            reason = self.searcher.gives_up(job.id)
            if reason is not None:
                del self.running[job.id]
                self.progress.pop(job.id, None)
                spent = {"seconds": seconds, "compute_madds": row["compute_madds"]}
                data = {"attempt": job.attempt, "reason": reason, "epoch": row["epoch"], **spent}
                self._emit(EventKind.PRUNED, job.id, data)
                return True
        return False

    def _failed(self, job: Job, failure: Failure, seconds: float) -> None:
        retry = failure.kind in RETRIED and self.ledger.losses[job.id] + 1 < self.policy.max_attempts
        hold = failure.kind not in RETRIED and failure.kind is not FailureKind.INTERRUPTED and self.ledger.told == 0
        again = retry or hold or failure.kind in (FailureKind.INTERRUPTED, FailureKind.DAMAGED)
        self._fail_event(job.id, job.attempt, failure, seconds, final=not again)
        if retry:
            delay = self.policy.backoff * 2 ** (self.ledger.losses[job.id] - 1)
            self.waiting.append((self.executor.now() + delay, job))
        elif failure.kind is FailureKind.DAMAGED:
            self._damage = failure.message
        elif hold:
            self.held[job.id] = failure
        elif failure.kind is FailureKind.INTERRUPTED and not self.stopping:
            self.waiting.append((self.executor.now(), job))

    def _fail_event(self, job: int, attempt: int, failure: Failure, seconds: float, *, final: bool) -> None:
        data = {
            "attempt": attempt,
            "kind": str(failure.kind),
            "message": failure.message,
            "traceback": failure.traceback,
            "seconds": seconds,
            "final": final,
        }
        self._emit(EventKind.FAILED, job, data)

    def _release_held(self) -> None:
        """Something has succeeded: what failed before was the candidates' own fault."""
        for job, failure in self.held.items():
            self._fail_event(job, self.ledger.attempts[job], failure, 0.0, final=True)
        self.held.clear()

    # ------------------------------------------------------------------------------------------------------------- end
    def _keep_time(self) -> None:
        now = self.executor.now()
        if time.monotonic() - self._beat > HEARTBEAT:
            self._beat = time.monotonic()
            with contextlib.suppress(StoreUnavailable):
                self.store.heartbeat()
        if self.wall_clock is not None and self.ledger.spent(now) >= self.wall_clock and self.searcher.done is None:
            self._emit(EventKind.BUDGET, None, {"exhausted": f"budget.wall_clock = {self.wall_clock:g} s used up"})
        if now > self._no_stall_before:
            self._give_up_stalled(now)
        for id_ in self.pruning.overdue(now, self.policy.grace):
            self.executor.cancel(id_, force=True)
        if self.stopping and self._asked_to_stop is None:
            self._asked_to_stop = now
            for id_ in self.running:
                self.executor.cancel(id_, force=False)
        if self.searcher.done is not None and not self.drain:
            self._cancel_running(self.searcher.done)

    def _give_up_stalled(self, now: float) -> None:
        for id_, attempt in list(self.running.items()):
            if now - attempt.sign > self.policy.stall_timeout:
                self.executor.cancel(id_, force=True)
                del self.running[id_]
                message = f"no sign of life for {now - attempt.sign:.0f} s (cluster.stall_timeout)"
                self._failed(attempt.job, Failure(FailureKind.STALLED, message), now - attempt.sign)
        # Signs of life only move on, so there is no need to look again before the oldest of them is too old.
        oldest = min((attempt.sign for attempt in self.running.values()), default=now)
        self._no_stall_before = oldest + self.policy.stall_timeout

    def _cancel_running(self, reason: str) -> None:
        """Give up what runs, but for what is done with finished points."""
        for id_, attempt in list(self.running.items()):
            if attempt.job.stage not in EVALUATION_STAGES:
                self.executor.cancel(id_, force=True)
                del self.running[id_]
                self._emit(EventKind.CANCELLED, id_, {"attempt": attempt.job.attempt, "reason": reason})
        for entry in [entry for entry in self.waiting if entry[1].stage not in EVALUATION_STAGES]:
            self.waiting.remove(entry)
            self._emit(EventKind.CANCELLED, entry[1].id, {"attempt": self.ledger.attempts[entry[1].id], "reason": reason})

    def _failing(self) -> Outcome | None:
        """The run's end if what fails is not the candidates' fault."""
        if self._damage is not None:
            return self._give_up(f"{self._damage}; restore it from a copy and resume")
        # Figures in a message (a step, a loss) do not make it another error.
        messages = Counter(re.sub(r"[\d.]+", "#", failure.message) for failure in self.held.values())
        if messages and messages.most_common(1)[0][1] >= self.policy.first_failures and len(messages) == 1:
            return self._give_up(f"the first {len(self.held)} jobs all failed with: {next(iter(self.held.values())).message}")
        failed = self.ledger.abandoned + len(self.held)
        ended = self.ledger.completed + failed
        if ended >= 10 and failed > self.policy.max_failure_share * ended:
            return self._give_up(f"{failed} of {ended} jobs failed (cluster.max_failure_share)")
        return None

    def _outcome(self) -> Outcome | None:
        if self.stopping:
            asked = self._asked_to_stop
            late = asked is not None and self.executor.now() - asked > self.policy.grace
            return Outcome("interrupted", "asked to stop") if late or not self.running else None
        if self.running or self.waiting or self._submissions:
            return None
        if self.held:
            return self._give_up(f"every job failed, the last with: {list(self.held.values())[-1].message}")
        if self.searcher.done is not None:
            return Outcome("done", self.searcher.done)
        if not any(self.executor.capacity().values()):
            return None  # no slot at the moment: the cluster is being waited for
        return Outcome("done", "nothing is left to try")

    def _give_up(self, reason: str) -> Outcome:
        for id_ in self.running:
            self.executor.cancel(id_, force=True)
        return Outcome("failed", reason)

    def _patience(self) -> float:
        """Seconds to wait for something to happen: short enough for clocks and retries to be looked at in time."""
        if self.stopping:
            return 0.05
        now = self.executor.now()
        due = min((due for due, _ in self.waiting if due > now), default=math.inf)
        if self.running:
            due = min(due, self._no_stall_before)
        if self.wall_clock is not None and self.searcher.done is None:
            due = min(due, now + self.wall_clock - self.ledger.spent(now))
        return max(0.01, min(self.executor.attention, due - now))
