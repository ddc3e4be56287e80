"""The run loop: asks the searcher, commits, submits, tells. The store is ahead of the cluster, never behind it.

Every change is an event. Events are folded in memory as they are made, committed in one transaction, and only then are
the jobs that they cause submitted; so a driver killed between any two instructions leaves a history from which
``RunLoop`` goes on: jobs that were asked and not ended are started again under their own ids and seeds.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from archsearch.cluster import collector
from archsearch.cluster.attempts import Attempts
from archsearch.cluster.devices_section import PREFIX
from archsearch.cluster.ledger import Ledger
from archsearch.cluster.observer import Observer
from archsearch.cluster.pruning import Pruning
from archsearch.cluster.retries import failing
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import (
    JSON,
    Completion,
    Event,
    EventKind,
    Executor,
    Job,
    Progress,
    Resources,
    Result,
    Searcher,
    Stage,
    Store,
    StoreUnavailable,
)
from archsearch.store import Artifacts, Retention, RunState, as_stored, plain

#: Seconds between two signs that the driver lives, for drivers on other hosts.
HEARTBEAT = 10.0

#: Seconds between two looks at what the cluster has: what changed is noted, for ``status``.
REPORT = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a driver's session ended. ``state`` is done, failed or interrupted."""

    state: str
    reason: str

    @property
    def exit_code(self) -> int:
        return {"done": 0, "failed": 3, "interrupted": 130}[self.state]


class RunLoop:
    """One driver's session on a run.

    Args:
        store, artifacts: the run's, opened for writing.
        retention: says which artifacts are to be dropped.
        disk: bytes of artifacts after which nothing new is tried, or None.
        wall_clock: seconds that drivers may spend on the run in all, or None.
        drain: whether running jobs may finish when a budget is used up.
        resources: what jobs of a stage hold, for those whose resources ``resume --set`` changes.
        devices_wait: seconds without a sign of life after which measurements are not waited for, if nothing else is to be done.
        reached: called with the name of each crash point, for tests that kill the driver there.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        searcher: Searcher,
        policy: ClusterSection,
        *,
        retention: Retention | None = None,
        disk: float | None = None,
        wall_clock: float | None = None,
        drain: bool = True,
        resources: Mapping[Stage, Resources] | None = None,
        devices_wait: float = math.inf,
        observer: Observer | None = None,
        reached: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.store = store
        self.artifacts = artifacts
        self.searcher = searcher
        self.policy = policy
        self.retention = retention
        self.disk = disk
        self.wall_clock = wall_clock
        self.drain = drain
        self.resources = resources or {}
        self.devices_wait = devices_wait
        self.observer = observer
        self.reached = reached
        self.state = RunState()
        self.ledger = Ledger()
        self.attempts = Attempts(self.ledger, policy, self._emit)
        self.running, self.progress = self.attempts.running, self.attempts.progress
        self.pruning = Pruning()
        self.stopping = False
        self._events: list[Event] = []
        self._submissions: list[Job] = []
        self._asked_to_stop: float | None = None
        self._waits_since: float | None = None  # since when nothing but devices is waited for
        self._beat = self._reported = time.monotonic()
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
        self.attempts.open(executor, self._unfinished())
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
                self._give_up_devices()
                outcome = self._outcome()
            self._flush()
            self._collect()
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
        """Jobs that were asked and have not ended, in the order in which they were asked; with the resources that are set now,
        if ``resume --set`` has ever changed any."""
        jobs = [replace(record.job, spec=plain(record.job.spec)) for record in self.state.open_jobs()]
        if not any(path.partition(".")[0] == "resources" for path in self.state.settings):
            return jobs
        return [replace(job, resources=self.resources.get(job.stage, job.resources)) for job in jobs]

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

    def _collect(self) -> None:
        """Drop what nothing needs any more: first said in the history, so that no kill leaves a name without its artifact."""
        if self.retention is not None and (found := self.retention.due(self.state)):
            self._emit(EventKind.COLLECTED, None, {"keys": sorted(found), "bytes": sum(found.values())})
            self._flush()
            self.reached("collect")
            with contextlib.suppress(StoreUnavailable):  # the next resume finds them too
                self.artifacts.drop(list(found))

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
        full: list[tuple[str, Resources]] = []  # what has no room just now
        for job in self.attempts.due(self.executor.now()):
            if (job.queue, job.resources) not in full and not self._submit(job):
                full.append((job.queue, job.resources))
        queues: set[str] = set()  # whose next job has no room just now
        while True:
            capacity = self.executor.capacity(self._submissions)
            capacity |= dict.fromkeys(queues, 0)
            jobs = self.searcher.ask(capacity) if any(capacity.values()) else []
            jobs = [job for job in jobs if capacity.get(job.queue, 1) > 0][:1]  # an unknown queue the executor refuses
            if not jobs:
                return
            if not self._submit(jobs[0], new=True):
                queues.add(jobs[0].queue)

    def _submit(self, job: Job, *, new: bool = False) -> bool:
        """Have a job submitted with the next commit, if there is room for it."""
        attempt = self.attempts.prepared(job)
        if not self.executor.room(attempt, self._submissions):
            return False
        if new:
            self._emit(EventKind.ASKED, job.id, job.to_json())
        self.attempts.start(attempt, job)
        self._submissions.append(attempt)
        return True

    # ------------------------------------------------------------------------------------------------------------ take
    def take_progress(self, item: Progress) -> bool:
        """Take a sign of life; returns whether the job is to stop."""
        now = self.executor.now()
        self.attempts.sign(item, now)
        if "paused" in item.data:
            self._say(f"job {item.job} paused: {item.data['paused']}")
        attempt = self.attempts.current(item)
        if attempt is not None and self._judged(attempt.job, item.data, attempt.seconds(now)):
            self.executor.cancel(item.job, force=False)
            self.pruning.asked_to_leave(item.job, now)
        if self.observer:
            self.observer.on_tick(self)
        return self.stopping

    def _take(self, done: Completion) -> None:
        if self.pruning.left(done.job):
            self._drop_checkpoints(done.job)
        self._waits_since = None
        attempt = self.attempts.current(done)
        figures = done.outcome.metrics if isinstance(done.outcome, Result) else {}
        if attempt is not None and self._judged(attempt.job, figures, done.seconds):
            return  # it ended before it could be stopped
        self.attempts.take(done, stopping=self.stopping)

    def _judged(self, job: Job, figures: Mapping[str, JSON], seconds: float) -> bool:
        """Take the rungs that a job's figures say for the first time; whether the searcher gives it up after one of them."""
        for row in self.pruning.news(job.id, figures):
            self._emit(EventKind.REPORTED, job.id, {"attempt": job.attempt, **row})
            reason = self.searcher.gives_up(job.id)
            if reason is not None:
                figures = {"epoch": row["epoch"], "compute_madds": row["compute_madds"]}
                self.attempts.prune(job.id, reason, seconds, figures)
                return True
        return False

    # ------------------------------------------------------------------------------------------------------------- end
    def _keep_time(self) -> None:
        now = self.executor.now()
        if time.monotonic() - self._beat > HEARTBEAT:
            self._beat = time.monotonic()
            with contextlib.suppress(StoreUnavailable):
                self.store.heartbeat()
        if self.wall_clock is not None and self.ledger.spent(now) >= self.wall_clock and self.searcher.done is None:
            self._emit(EventKind.BUDGET, None, {"exhausted": f"budget.wall_clock = {self.wall_clock:g} s used up"})
        if self.disk is not None and self.state.artifact_bytes >= self.disk and self.searcher.done is None:
            limit, used = self.disk / 1e9, self.state.artifact_bytes / 1e9
            self._emit(EventKind.BUDGET, None, {"exhausted": f"budget.disk_gb = {limit:g} used up ({used:.3g} GB of weights)"})
        self.attempts.give_up_stalled(now)
        for id_ in self.pruning.overdue(now, self.policy.grace):
            self.executor.cancel(id_, force=True)
        if time.monotonic() - self._reported > REPORT:
            self._reported = time.monotonic()
            self.attempts.report(self.state.waiting, self.state.slots)
        if self.stopping and self._asked_to_stop is None:
            self._asked_to_stop = now
            self.attempts.ask_to_stop()
        if self.searcher.done is not None and not self.drain:
            self.attempts.cancel(self.searcher.done)

    def _give_up_devices(self) -> None:
        """Go on without measurements that do not come, once nothing else is left to do."""
        now = self.executor.now()
        if self._waits_since is None or self.stopping or not self.attempts.only(Stage.PROFILE):
            self._waits_since = now if self.attempts.only(Stage.PROFILE) else None
            return
        self._waits_since = max(self._waits_since, self.attempts.latest_sign)
        if now - self._waits_since >= self.devices_wait:
            reason = f"no device gave a sign of life for {self.devices_wait:g} s (profile.wait)"
            self._emit(EventKind.BUDGET, None, {"unmeasured": reason})
            self.attempts.cancel(reason, {Stage.PROFILE})

    def _failing(self) -> Outcome | None:
        """The run's end if what fails is not the candidates' fault."""
        damage, held = self.attempts.damage, self.attempts.held
        reason = failing(held.values(), self.ledger, self.policy)
        if damage is not None:
            reason = f"{damage}; restore it from a copy and resume"
        return None if reason is None else self._give_up(reason)

    def _outcome(self) -> Outcome | None:
        if self.stopping:
            asked = self._asked_to_stop
            late = asked is not None and self.executor.now() - asked > self.policy.grace
            return Outcome("interrupted", "asked to stop") if late or not self.running else None
        if self.running or self.attempts.waiting or self._submissions:
            return None
        if self.attempts.held:
            return self._give_up(f"every job failed, the last with: {list(self.attempts.held.values())[-1].message}")
        if self.searcher.done is not None:
            return Outcome("done", self.searcher.done)
        if not any(free for queue, free in self.executor.capacity().items() if not queue.startswith(PREFIX)):
            return None  # no slot at the moment: the cluster is being waited for
        return Outcome("done", "nothing is left to try")

    def _give_up(self, reason: str) -> Outcome:
        self.attempts.cut_off()
        return Outcome("failed", reason)

    def _patience(self) -> float:
        """Seconds to wait for something to happen: short enough for clocks and retries to be looked at in time."""
        if self.stopping:
            return 0.05
        now = self.executor.now()
        due = self.attempts.next_due(now)
        if self._waits_since is not None:
            due = min(due, self._waits_since + self.devices_wait)
        if self.wall_clock is not None and self.searcher.done is None:
            due = min(due, now + self.wall_clock - self.ledger.spent(now))
        return max(0.01, min(self.executor.attention, due - now))
