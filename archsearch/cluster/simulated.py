"""The simulated executor: slots whose jobs take only virtual time. Run loop, store and searcher are the real ones."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from overrides import overrides

from archsearch.cluster.devices_section import PREFIX, device_of
from archsearch.cluster.outcomes import Forecast, Outcomes
from archsearch.jobs import JSON, Completion, Executor, Failure, FailureKind, Job, Progress, Result

#: Virtual seconds after which every running job shows a sign of life.
ROLL_CALL = 30.0

#: The node that simulated jobs are said to have run on.
NODE = "simulated"


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    began: float
    forecast: Forecast


class SimulatedExecutor(Executor):
    """``slots`` slots on a virtual clock, which jumps from one completion to the next; beside them ``devices``, each of which
    measures for one job at a time.

    With ``charge`` the clock also runs, in real time, while the driver works between two calls of ``wait``: slots stay idle
    and completions queue up for as long as it takes to ask and to commit. Without it the driver takes no time, and a simulation
    is a function of its seeds.

    Attributes:
        busy_seconds: virtual time that slots were held by attempts that have ended.
        driver_seconds: real time that the driver has worked, forecasts not counted.
        driver_cpu_seconds: the share of it in which its thread had a processor.
    """

    name: ClassVar[str] = "simulated"
    attention: ClassVar[float] = math.inf

    def __init__(
        self, outcomes: Outcomes, slots: int, *, start: float = 0.0, charge: bool = False, devices: Iterable[str] = ()
    ) -> None:
        self.busy_seconds = 0.0
        self.driver_seconds = self.driver_cpu_seconds = 0.0
        self.start = start
        self._outcomes = outcomes
        self._slots = slots
        self._charge = charge
        self._devices = tuple(PREFIX + name for name in devices)
        self._clock = start
        self._left = time.perf_counter()  # when the driver was last given control
        self._left_cpu = time.thread_time()
        self._last_call = start
        self._running: dict[int, _Running] = {}
        #: heap of (when, job, attempt, rungs passed then; 0: it ends); may name attempts that were cancelled
        self._ends: list[tuple[float, int, int, int]] = []
        self._stopped: list[Completion] = []
        self._held: list[tuple[float, float]] = []  # from when until when each attempt that ended held its slot

    @property
    def busy_share(self) -> float:
        """Share of all slot time since the start in which a job held the slot."""
        held = self.busy_seconds + sum(self.now() - running.began for running in self._in_slots())
        span = self.now() - self.start
        return held / (span * self._slots) if span > 0 else 0.0

    def busy_between(self, start: float, end: float) -> float:
        """Share of all slot time between two moments, up to now, in which an attempt held the slot."""
        spans = [*self._held, *((running.began, min(self.now(), end)) for running in self._in_slots())]
        return sum(max(0.0, min(until, end) - max(since, start)) for since, until in spans) / ((end - start) * self._slots)

    @overrides
    def listen(self, listener: Callable[[Progress], bool]) -> None:
        """Signs of life come with ``wait``. A driver's session begins here, and so does its working time."""
        self._left, self._left_cpu = time.perf_counter(), time.thread_time()

    @overrides
    def submit(self, job: Job) -> None:
        began, paused, paused_cpu = self.now(), time.perf_counter(), time.thread_time()
        forecast = self._outcomes.forecast(job)
        self._running[job.id] = _Running(job, began, forecast)
        heapq.heappush(self._ends, (began + forecast.seconds, job.id, job.attempt, 0))
        for passed, row in enumerate(_rungs(forecast), 1):
            share = row["epoch"] / job.spec["train"]["epochs"]
            heapq.heappush(self._ends, (began + share * forecast.seconds, job.id, job.attempt, passed))
        self._left += time.perf_counter() - paused  # forecasting is no work of the driver's
        self._left_cpu += time.thread_time() - paused_cpu

    @overrides
    def wait(self, timeout: float) -> list[Completion | Progress]:
        now = self.now()
        self.driver_seconds += time.perf_counter() - self._left
        self.driver_cpu_seconds += time.thread_time() - self._left_cpu
        self._drop_cancelled()
        if not self._stopped:
            due = min(self._ends[0][0] if self._ends else math.inf, now + timeout)
            now = max(now, due) if due < math.inf else now
        self._clock = now
        items: list[Completion | Progress] = [*self._stopped]
        self._stopped.clear()
        while self._ends and self._ends[0][0] <= now:
            _, id_, attempt, passed = heapq.heappop(self._ends)
            running = self._running.get(id_)
            if running is None or running.job.attempt != attempt:
                continue
            if passed:
                items.append(Progress(id_, attempt, {"rungs": _rungs(running.forecast)[:passed]}))
            else:
                seconds = running.forecast.seconds
                self._ended(id_, seconds)
                items.append(Completion(id_, attempt, running.forecast.outcome, seconds, NODE))
        if not items or now - self._last_call >= ROLL_CALL:
            self._last_call = now
            items += [Progress(running.job.id, running.job.attempt, {}) for running in self._running.values()]
        self._left, self._left_cpu = time.perf_counter(), time.thread_time()
        return items

    def _drop_cancelled(self) -> None:
        """So that the clock does not jump to the end of an attempt that was cancelled."""
        while self._ends:
            _, id_, attempt, _ = self._ends[0]
            running = self._running.get(id_)
            if running is not None and running.job.attempt == attempt:
                return
            heapq.heappop(self._ends)

    def _in_slots(self) -> Iterator[_Running]:
        """What holds a slot while it runs."""
        return (running for running in self._running.values() if device_of(running.job) is None)

    def _ended(self, job: int, seconds: float) -> None:
        running = self._running.pop(job)
        if device_of(running.job):
            return
        began = running.began
        self._held.append((began, began + seconds))
        self.busy_seconds += seconds

    @overrides
    def cancel(self, job: int, *, force: bool) -> None:
        running = self._running.get(job)
        if running is None:
            return
        seconds = self.now() - running.began
        self._ended(job, seconds)
        if not force:
            failure = Failure(FailureKind.INTERRUPTED, "asked to stop")
            self._stopped.append(Completion(job, running.job.attempt, failure, seconds, NODE))

    @overrides
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        measuring: Counter[str] = Counter()
        if self._devices:
            jobs = chain((running.job for running in self._running.values()), planned)
            measuring = Counter(job.queue for job in jobs if device_of(job))
        free = max(0, self._slots + measuring.total() - len(self._running) - len(planned))
        return {"train": free, "search": free} | {queue: max(0, 1 - measuring[queue]) for queue in self._devices}

    @overrides
    def slots(self) -> dict[str, int]:
        return {"total": self._slots, "busy": sum(1 for _ in self._in_slots())}

    @overrides
    def now(self) -> float:
        """The virtual clock; seconds since its start, which is 0 unless another was given."""
        return self._clock + (time.perf_counter() - self._left if self._charge else 0.0)

    @overrides
    def close(self) -> None:
        self._running.clear()
        self._ends.clear()


def _rungs(forecast: Forecast) -> Sequence[Mapping[str, JSON]]:
    """What the attempt will say on its way; one that fails says nothing."""
    return forecast.outcome.metrics.get("rungs", ()) if isinstance(forecast.outcome, Result) else ()
