"""The inline executor: one job after another in this process. The reference for every other executor."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from overrides import overrides

from archsearch.cluster.context import AttemptContext, perform
from archsearch.cluster.device_measure import Cancel, Told, measure, no_data
from archsearch.cluster.devices_section import PREFIX, DevicesSection, device_of
from archsearch.jobs import JSON, Completion, Executor, Job, Progress
from archsearch.store import Artifacts


class InlineExecutor(Executor):
    """One slot. ``wait`` runs the next submitted job and returns its completion."""

    name: ClassVar[str] = "inline"

    def __init__(
        self, dataset: Any, artifacts: Artifacts, *, device: str = "cpu", devices: DevicesSection | None = None
    ) -> None:
        self._splits = {False: dataset.without_test(), True: dataset}
        self._artifacts = artifacts
        self._device = device
        self._devices = devices or DevicesSection()
        self._queue: deque[Job] = deque()
        self._stopping: set[int] = set()
        self._listener: Callable[[Progress], bool] = lambda progress: False

    @overrides
    def listen(self, listener: Callable[[Progress], bool]) -> None:
        self._listener = listener

    @overrides
    def submit(self, job: Job) -> None:
        self._queue.append(job)

    @overrides
    def wait(self, timeout: float) -> list[Completion | Progress]:
        if not self._queue:
            time.sleep(timeout)
            return []
        job = self._queue[0]

        def post(progress: Mapping[str, JSON]) -> bool:
            return self._listener(Progress(job.id, job.attempt, progress)) or job.id in self._stopping

        if device_of(job):
            done = self._measured(job, post)
        else:
            threads = max(1, int(job.resources.cpu))
            context = AttemptContext(job, self._splits.__getitem__, self._artifacts, post, self._device, threads)
            done = perform(job, context, socket.gethostname())
        self._queue.popleft()
        self._stopping.discard(job.id)
        return [done]

    def _measured(self, job: Job, post: Callable[[Mapping[str, JSON]], bool]) -> Completion:
        """Run a job on a device of this machine, or on a board that it reaches, in a process of its own."""
        name, settings, said = str(device_of(job)), self._devices.of(job), [""]

        def say(state: str, detail: str) -> None:
            if detail != said[0] and detail:
                post({"paused": f"device {name} is {state}: {detail}"})
            said[0] = detail

        context = AttemptContext(job, no_data, self._artifacts, post, settings.torch_device, settings.threads)
        holder = f"device {name}, run {self._artifacts.url}"
        cancel = Cancel(lambda: post({}))

        def begin() -> bool:
            cancel.look()  # a run that is stopped has lost nothing: the job has not begun
            return True

        told = Told(say, begin=begin)
        return measure(job, name, settings, context, holder=holder, told=told, cancel=cancel, node=socket.gethostname())

    @overrides
    def cancel(self, job: int, *, force: bool) -> None:
        self._stopping.add(job)
        running = self._queue[0].id if self._queue else None
        self._queue = deque(waiting for waiting in self._queue if waiting.id != job or waiting.id == running)

    @overrides
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        free = max(0, 1 - len(self._queue) - len(planned))
        return dict.fromkeys(["train", "search", *(PREFIX + name for name in self._devices.names())], free)

    @overrides
    def room(self, job: Job, planned: Sequence[Job] = ()) -> bool:
        if device_of(job):
            self._devices.of(job)
        return super().room(job, planned)

    @overrides
    def slots(self) -> dict[str, int]:
        return {"total": 1, "busy": min(1, len(self._queue))}

    @overrides
    def now(self) -> float:
        return time.time()

    @overrides
    def close(self) -> None:
        self._queue.clear()
