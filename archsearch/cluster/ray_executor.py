"""The Ray executor: one task an attempt, data sets once per node, signs of life through one small actor.

Ray's own retries are off: a lost attempt comes back as a failure, and the run loop decides. An attempt that was given up
is forgotten here at once, so that whatever Ray still returns for it is never taken for a result.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import ray
from overrides import overrides

from archsearch.cluster.context import AttemptContext, perform
from archsearch.cluster.shared_storage import refuse_unshared
from archsearch.jobs import (
    JSON,
    ArchsearchError,
    Completion,
    Executor,
    Failure,
    FailureKind,
    Job,
    Progress,
    Resources,
)
from archsearch.store import Artifacts

#: Seconds between two looks at the mailbox, and at the cluster's nodes.
MAIL_EVERY, NODES_EVERY = 0.4, 2.0


class Mailbox:
    """Lives in an actor: takes signs of life from workers, hands them to the driver, passes stop requests on."""

    def __init__(self) -> None:
        self.letters: dict[tuple[int, int], Mapping[str, JSON]] = {}
        self.stops: set[int] = set()

    def post(self, job: int, attempt: int, progress: Mapping[str, JSON]) -> bool:
        self.letters[job, attempt] = progress
        return job in self.stops

    def collect(self) -> dict[tuple[int, int], Mapping[str, JSON]]:
        letters, self.letters = self.letters, {}
        return letters

    def stop(self, job: int) -> None:
        self.stops.add(job)


def run_attempt(
    job: dict[str, Any], plain: dict[str, Any], test: bool, root: str, mailbox: Any, gpu: bool, *arrays: Any
) -> Any:
    """Body of a task. ``arrays`` are the data set's splits, resolved by Ray from the node's shared memory."""
    from archsearch.data import Dataset

    names = [name for name in _array_names() if test or not name.endswith("_test")]
    values = {**plain, **dict(zip(names, arrays, strict=True))}
    if not test:
        values |= {name: values[name.replace("_test", "_val")][:0] for name in ("x_test", "y_test")}
    dataset = Dataset(**values)
    this = Job.from_json(job)
    answer: list[Any] = []

    def post(progress: Mapping[str, JSON]) -> bool:
        """Send, and read the answer to the message before: a step never waits for the network."""
        stop = False
        with contextlib.suppress(ray.exceptions.RayError):
            if answer and ray.wait(answer, timeout=0)[0]:
                stop = ray.get(answer.pop())
            if not answer:
                answer.append(mailbox.post.remote(this.id, this.attempt, progress))
        return stop

    threads = max(1, int(this.resources.cpu))
    context = AttemptContext(this, lambda _: dataset, Artifacts(root), post, "cuda" if gpu else "cpu", threads)
    return perform(this, context, socket.gethostname())


def _array_names() -> list[str]:
    return [f"{axis}_{split}" for split in ("train", "val", "test") for axis in ("x", "y")]


class RayExecutor(Executor):
    """Slots are the cluster's cores (or GPUs) divided by what one job asks for; they follow the cluster."""

    name: ClassVar[str] = "ray"

    def __init__(
        self,
        dataset: Any,
        root: str,
        *,
        resources: Mapping[str, Resources],
        address: str = "local",
        slots: int | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Join or start a cluster and put the data set into its object store.

        Args:
            dataset: ``archsearch.data.Dataset``; its arrays travel once per node.
            root: the artifact store, as workers reach it.
            resources: work name -> what one job of it holds, to tell how many fit.
            address: ``local`` starts Ray here; ``auto`` or ``host:port`` joins a running cluster.
            slots: cores of a local cluster, default all.
            say: told what the user should know.

        Raises:
            ArchsearchError: no cluster answers at that address, or ``root`` is not the same place on each of its nodes.
        """
        self._say = say
        self._connect(address, slots)
        refuse_unshared(root)
        self._root = root
        self._resources = dict(resources)
        self._plain = {f.name: getattr(dataset, f.name) for f in fields(dataset) if f.name not in _array_names()}
        self._arrays = {name: ray.put(getattr(dataset, name)) for name in _array_names()}
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1, max_concurrency=4).remote()
        self._task = ray.remote(max_retries=0, retry_exceptions=False)(run_attempt)
        self._refs: dict[Any, Job] = {}
        self._began: dict[int, float] = {}
        self._last_mail = 0.0
        self._mail: Any = None
        self._nodes_seen = 0.0
        self._nodes: list[dict[str, float]] = []
        self._no_gpu_said = False

    def _connect(self, address: str, slots: int | None) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            common |= {"num_cpus": slots or os.cpu_count(), "include_dashboard": False}
        try:
            if ":" in address and "://" not in address:  # ray.init waits minutes for a head that is not there
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            ray.init(address=address, **common)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ArchsearchError(
                f"no Ray cluster at cluster.address = {address!r}: {_first_line(error)}. Use 'local' to start one here, "
                "'auto' for the one on this machine, or the head's host:port."
            ) from error

    @overrides
    def listen(self, listener: Callable[[Progress], bool]) -> None:
        """Nothing to do: progress comes with ``wait``, which is never busy for long."""

    @overrides
    def submit(self, job: Job) -> None:
        wants = job.resources
        gpu = wants.gpu if self._has_gpu() else 0.0
        if wants.gpu and not gpu and not self._no_gpu_said:
            self._no_gpu_said = True
            self._say(f"resources ask for {wants.gpu:g} GPU a job, the cluster has none: jobs run on CPUs")
        test = job.work == "test"
        arrays = [ref for name, ref in self._arrays.items() if test or not name.endswith("_test")]
        options: dict[str, Any] = {"num_cpus": wants.cpu, "num_gpus": gpu, "name": f"{job.stage}:{job.id}"}
        if wants.memory:
            options["memory"] = wants.memory
        if wants.labels:
            options["label_selector"] = dict(wants.labels)
        task = self._task.options(**options)
        ref = task.remote(job.to_json(), self._plain, test, self._root, self._mailbox, bool(gpu), *arrays)
        self._refs[ref] = job
        self._began[job.id] = time.monotonic()

    @overrides
    def wait(self, timeout: float) -> list[Completion | Progress]:
        items: list[Completion | Progress] = []
        refs = list(self._refs)
        if refs:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
            if ready:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            items += [self._completion(ref) for ref in ready]
        else:
            time.sleep(timeout)
        return items + self._letters()

    def _completion(self, ref: Any) -> Completion:
        job = self._refs.pop(ref)
        seconds = time.monotonic() - self._began.pop(job.id)
        try:
            done: Completion = ray.get(ref)
            return done
        except ray.exceptions.OutOfMemoryError as error:
            failure = Failure(FailureKind.HOST_MEMORY, _first_line(error))
        except ray.exceptions.TaskCancelledError:
            failure = Failure(FailureKind.INTERRUPTED, "cancelled")
        except ray.exceptions.RayTaskError as error:  # raised outside the work itself: imports, the data set
            failure = Failure(FailureKind.EXCEPTION, _first_line(error.cause or error), str(error))
        except ray.exceptions.RayError as error:  # worker crashed, node died, object or owner lost
            failure = Failure(FailureKind.LOST, f"{type(error).__name__}: {_first_line(error)}")
        return Completion(job.id, job.attempt, failure, seconds)

    def _letters(self) -> list[Completion | Progress]:
        now = time.monotonic()
        if self._mail is None and now - self._last_mail >= MAIL_EVERY:
            self._last_mail = now
            self._mail = self._mailbox.collect.remote()
        if self._mail is None or not ray.wait([self._mail], timeout=0)[0]:
            return []
        mail, self._mail = self._mail, None
        try:
            letters = ray.get(mail)
        except ray.exceptions.RayError:
            return []
        return [Progress(job, attempt, data) for (job, attempt), data in letters.items()]

    @overrides
    def cancel(self, job: int, *, force: bool) -> None:
        if not force:
            self._mailbox.stop.remote(job)
            return
        for ref in [ref for ref, running in self._refs.items() if running.id == job]:
            del self._refs[ref]
            self._began.pop(job, None)
            ray.cancel(ref, force=True)

    @overrides
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        taken = len(self._refs) + len(planned)
        return {queue: max(0, self._fitting(work) - taken) for queue, work in (("train", "train"), ("search", "petridish"))}

    def _fitting(self, work: str) -> int:
        """How many jobs of a work the living nodes hold at once."""
        wants = self._resources.get(work) or self._resources["train"]
        total = 0
        for node in self._living():
            fits = int(node.get("CPU", 0) / wants.cpu + 1e-9)
            if wants.gpu and self._has_gpu():
                fits = min(fits, int(node.get("GPU", 0) / wants.gpu + 1e-9))
            if wants.memory:
                fits = min(fits, int(node.get("memory", 0) / wants.memory))
            total += fits
        return total

    def _living(self) -> list[dict[str, float]]:
        now = time.monotonic()
        if not self._nodes or now - self._nodes_seen > NODES_EVERY:
            self._nodes_seen = now
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return self._nodes

    def _has_gpu(self) -> bool:
        return any(node.get("GPU", 0) > 0 for node in self._living())

    @overrides
    def slots(self) -> dict[str, int]:
        return {"total": self._fitting("train"), "busy": len(self._refs)}

    @overrides
    def now(self) -> float:
        return time.time()

    @overrides
    def close(self) -> None:
        ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
