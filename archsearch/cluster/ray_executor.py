"""The Ray executor: one task an attempt, data sets once per node, signs of life through one small actor.

Ray's own retries are off: a lost attempt comes back as a failure, and the run loop decides. An attempt that was given up
is forgotten here at once, so that whatever Ray still returns for it is never taken for a result.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import ray
from overrides import overrides
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from archsearch.cluster.placement import Board, asked_for, existing
from archsearch.cluster.ray_nodes import Nodes
from archsearch.cluster.ray_task import Mailbox, array_names, run_attempt
from archsearch.cluster.section import ClusterSection
from archsearch.cluster.shared_storage import refuse_unshared
from archsearch.cluster.sharing import share
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
    Stage,
)

#: Seconds between two looks at the mailbox.
MAIL_EVERY = 0.4

#: Seconds after a forced cancel in which nothing is submitted. A worker that is about to be killed may still be handed the next
#: task, and if its body had returned by itself (a child that it waited for is killed first), Ray 2.60 never runs that task.
QUIET = 2.0

#: Seconds after which a task that has not begun, although the cluster has room for it, is submitted again.
BEGIN_WITHIN = 120.0


class RayExecutor(Executor):
    """Slots are the rooms for jobs on the cluster's nodes; they follow the cluster as it grows and shrinks."""

    name: ClassVar[str] = "ray"

    def __init__(
        self,
        dataset: Any,
        root: str,
        *,
        resources: Mapping[Stage, Resources],
        policy: ClusterSection,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Join or start a cluster and put the data set into its object store.

        Args:
            dataset: ``archsearch.data.Dataset``; its arrays travel once per node.
            root: the artifact store, as workers reach it.
            resources: what a job of a stage holds, to tell how many fit.
            policy: address, slots, ``ahead`` and GPU memory.
            say: told what the user should know.

        Raises:
            ArchsearchError: no cluster answers at that address, or ``root`` is not the same place on each of its nodes.
        """
        self._say = say
        self._limit = policy.slots if policy.slots != "auto" and policy.address != "local" else None
        self._ahead = policy.ahead
        self._connect(policy.address, None if policy.slots == "auto" else policy.slots)
        refuse_unshared(root)
        self._root = root
        self._kinds = {"train": [wants for stage, wants in resources.items() if stage is not Stage.SEARCH]}
        self._kinds["search"] = [wants for stage, wants in resources.items() if stage is Stage.SEARCH]
        self._plain = {f.name: getattr(dataset, f.name) for f in fields(dataset) if f.name not in array_names()}
        self._arrays = {name: ray.put(getattr(dataset, name)) for name in array_names()}
        self._bytes = sum(getattr(dataset, name).nbytes for name in array_names())
        here = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )  # it goes when the driver goes
        options = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": 4, "scheduling_strategy": here}
        self._mailbox = ray.remote(Mailbox).options(**options).remote()
        self._task = ray.remote(max_retries=0, retry_exceptions=False)(run_attempt)
        self._nodes = Nodes(policy.gpu_memory)
        self._refs: dict[Any, Job] = {}
        self._jobs: dict[int, Job] = {}
        self._began: dict[int, tuple[float, str]] = {}  # when and on which node each attempt began, those that have
        self._stopped: list[Completion] = []
        self._outbox: list[Job] = []  # submitted, and not yet handed to Ray
        self._sent: dict[int, float] = {}
        self._quiet_until = 0.0
        self._last_mail = 0.0
        self._mail: Any = None
        self._changes = 0  # of the jobs that are submitted
        self._board: tuple[tuple[int, int, int], Board] | None = None
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
    def placed(self, job: Job) -> Job:
        wants = job.resources
        if wants.gpu != "auto":
            return job
        memory = self._nodes.gpu_memory(wants)
        if memory is None and not self._no_gpu_said:
            self._no_gpu_said = True
            self._say("resources: gpu is auto and no node that would do has one: jobs run on CPUs")
        gpu = 0.0 if memory is None else share(job, memory, self._bytes)
        return replace(job, resources=replace(wants, gpu=gpu))

    @overrides
    def submit(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._outbox.append(job)
        self._changes += 1
        self._send()

    def _send(self) -> None:
        if time.monotonic() < self._quiet_until:
            return
        jobs, self._outbox = self._outbox, []
        for job in jobs:
            wants = job.resources
            test = job.work == "test"
            arrays = [ref for name, ref in self._arrays.items() if test or not name.endswith("_test")]
            options: dict[str, Any] = {"num_cpus": wants.cpu, "num_gpus": wants.gpu, "name": f"{job.stage}:{job.id}"}
            if wants.memory:
                options["memory"] = wants.memory
            if wants.labels:
                options["label_selector"] = dict(wants.labels)
            task = self._task.options(**options)
            ref = task.remote(job.to_json(), self._plain, test, self._root, self._mailbox, bool(wants.gpu), *arrays)
            self._refs[ref] = job
            self._sent[job.id] = time.monotonic()

    @overrides
    def wait(self, timeout: float) -> list[Completion | Progress]:
        items: list[Completion | Progress] = [*self._stopped]
        self._stopped.clear()
        self._send()
        if self._outbox:
            timeout = min(timeout, max(0.0, self._quiet_until - time.monotonic()))
        self._send_again()
        refs = list(self._refs)
        if items:
            pass
        elif refs:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
            if ready:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            items += [self._completion(ref) for ref in ready]
        else:
            time.sleep(timeout)
        return items + self._letters()

    def _send_again(self) -> None:
        """Take back what should have begun long ago: what Ray has lost would be waited for without an end."""
        now = time.monotonic()
        late = [id_ for id_, sent in self._sent.items() if now - sent > BEGIN_WITHIN and id_ not in self._began]
        free = ray.available_resources() if late else {}
        for id_ in late:
            wants, self._sent[id_] = self._jobs[id_].resources, now
            if all(free.get(name, 0) >= number for name, number in (("CPU", wants.cpu), ("GPU", wants.gpu))):
                self.cancel(id_, force=False)

    def _completion(self, ref: Any) -> Completion:
        job = self._refs[ref]
        began, _ = self._began.get(job.id, (None, ""))
        seconds = 0.0 if began is None else time.monotonic() - began
        self._forget(job.id)
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
        for (id_, attempt), (node, _) in letters.items():
            job = self._jobs.get(id_)
            if job is not None and job.attempt == attempt and id_ not in self._began:
                self._began[id_] = (now, node)
                self._changes += 1
        return [Progress(job, attempt, data) for (job, attempt), (_, data) in letters.items()]

    def _forget(self, id_: int) -> None:
        """Know nothing of a job's attempt any more: whatever still comes of it is not trusted."""
        self._refs = {ref: job for ref, job in self._refs.items() if job.id != id_}
        self._outbox = [job for job in self._outbox if job.id != id_]
        for known in (self._jobs, self._began, self._sent):
            known.pop(id_, None)
        self._changes += 1

    @overrides
    def cancel(self, job: int, *, force: bool) -> None:
        if not force and job in self._began:
            self._mailbox.stop.remote(job)
            return
        attempt = self._jobs.get(job)
        if attempt is None:
            return
        for ref in [ref for ref, running in self._refs.items() if running.id == job]:
            ray.cancel(ref, force=True)
            self._quiet_until = time.monotonic() + QUIET
        self._forget(job)
        if not force:
            failure = Failure(FailureKind.INTERRUPTED, "it had not begun")
            self._stopped.append(Completion(job, attempt.attempt, failure))

    # ------------------------------------------------------------------------------------------------------------ slots
    @overrides
    def room(self, job: Job, planned: Sequence[Job] = ()) -> bool:
        return self._wanted(job.resources, planned) > 0

    @overrides
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        return {
            queue: max((self._wanted(wants, planned) for wants in kinds), default=0) for queue, kinds in self._kinds.items()
        }

    def _wanted(self, wants: Resources, planned: Sequence[Job]) -> int:
        """How many more jobs of a kind are wanted: those that would start now, and a few ahead for the cluster to grow by.

        Of a kind that no node could hold one is submitted at least, and waits: for a node that joins, or for an autoscaler.
        """
        nodes, board = self._nodes.living(), self._filled(planned)
        if not any(node.holds(wants) for node in nodes):
            number = max(1, self._ahead) - board.homeless.count(wants)
        else:
            number = board.count(wants) + self._ahead - len(board.homeless)
        if self._limit is not None:
            number = min(number, self._limit - len(self._jobs) - len(planned))
        return max(0, number)

    def _filled(self, planned: Sequence[Job]) -> Board:
        """The nodes with what was submitted and planned in them. Plans only grow until they are submitted."""
        nodes = self._nodes.living()
        key = (self._nodes.version, self._changes)
        known = 0
        if self._board is not None and self._board[0][:2] == key and self._board[0][2] <= len(planned):
            (_, _, known), board = self._board
        else:
            board = Board(nodes)
            for job in sorted(self._jobs.values(), key=lambda job: job.id not in self._began):
                board.put(job.resources, self._began.get(job.id, (0.0, None))[1])
        for job in planned[known:]:
            board.put(job.resources)
        self._board = ((*key, len(planned)), board)
        return board

    @overrides
    def waiting(self) -> Mapping[int, Mapping[str, JSON]]:
        nodes = self._nodes.living()
        lost = [
            job
            for job in self._jobs.values()
            if job.id not in self._began and not any(node.holds(job.resources) for node in nodes)
        ]
        exists = existing(nodes) if lost else []
        return {job.id: {"asked": asked_for(job.resources), "exists": exists} for job in lost}

    @overrides
    def slots(self) -> dict[str, int]:
        wants = self._kinds["train"][0]
        total = Board(self._nodes.living()).count(replace(wants, gpu=0.0) if wants.gpu == "auto" else wants)
        busy = len(self._jobs) - len(self._filled(()).homeless)
        return {"total": max(busy, total if self._limit is None else min(total, self._limit)), "busy": busy}

    @overrides
    def now(self) -> float:
        return time.time()

    @overrides
    def close(self) -> None:
        ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
