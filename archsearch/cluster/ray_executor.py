"""The Ray executor: one task an attempt, data sets once per node, signs of life through one small actor.

Ray's own retries are off: a lost attempt comes back as a failure, and the run loop decides. An attempt that was given up
is forgotten here at once, so that whatever Ray still returns for it is never taken for a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import ray
from overrides import overrides

from archsearch.cluster.device_queue import DeviceQueues
from archsearch.cluster.devices_section import PREFIX, DevicesSection, device_of
from archsearch.cluster.placement import Board, asked_for, existing
from archsearch.cluster.ray_connection import connect
from archsearch.cluster.ray_nodes import Nodes
from archsearch.cluster.ray_task import array_names, completed, mailbox, run_attempt
from archsearch.cluster.section import ClusterSection
from archsearch.cluster.shared_storage import refuse_unshared
from archsearch.cluster.sharing import share
from archsearch.jobs import (
    JSON,
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
        devices: DevicesSection | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Join or start a cluster and put the data set into its object store.

        Args:
            dataset: ``archsearch.data.Dataset``; its arrays travel once per node.
            root: the artifact store, as workers reach it.
            resources: what a job of a stage holds, to tell how many fit.
            policy: address, slots, ``ahead`` and GPU memory.
            devices: what there is to measure on: jobs in the queue ``device:NAME`` run there and hold no slot.
            say: told what the user should know.

        Raises:
            ArchsearchError: no cluster answers at that address, or ``root`` is not the same place on each of its nodes.
        """
        self._say = say
        self._limit = policy.slots if policy.slots != "auto" and policy.address != "local" else None
        self._ahead = policy.ahead
        devices = devices or DevicesSection()
        # A cluster of this machine alone has, or reaches, all of them.
        connect(policy.address, None if policy.slots == "auto" else policy.slots, offers=map(PREFIX.__add__, devices.names()))
        refuse_unshared(root)
        self._root = root
        self._kinds = {"train": [wants for stage, wants in resources.items() if stage is not Stage.SEARCH]}
        self._kinds["search"] = [wants for stage, wants in resources.items() if stage is Stage.SEARCH]
        self._plain = {f.name: getattr(dataset, f.name) for f in fields(dataset) if f.name not in array_names()}
        self._arrays = {name: ray.put(getattr(dataset, name)) for name in array_names()}
        self._bytes = sum(getattr(dataset, name).nbytes for name in array_names())
        self._mailbox = mailbox()
        self._task = ray.remote(max_retries=0, retry_exceptions=False)(run_attempt)
        self._nodes = Nodes(policy.gpu_memory)
        self._devices = DeviceQueues(devices, self._nodes, root, self._mailbox)
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
        self._board: tuple[tuple[int, int, frozenset[str], int], Board] | None = None
        self._no_gpu_said = False

    @overrides
    def listen(self, listener: Callable[[Progress], bool]) -> None:
        """Nothing to do: progress comes with ``wait``, which is never busy for long."""

    @overrides
    def placed(self, job: Job) -> Job:
        wants = job.resources
        if wants.gpu != "auto" or device_of(job):
            return super().placed(job)
        memory = self._nodes.gpu_memory(wants)
        if memory is None and not self._no_gpu_said:
            self._no_gpu_said = True
            self._say("resources: gpu is auto and no node that would do has one: jobs run on CPUs")
        gpu = 0.0 if memory is None else share(job, memory, self._bytes)
        return replace(job, resources=replace(wants, gpu=gpu))

    @overrides
    def submit(self, job: Job) -> None:
        if device_of(job):
            return self._devices.submit(job)
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
        refs = [*self._refs, *self._devices.refs()]
        items += self._devices.stopped()
        if items:
            pass
        elif refs:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
            if ready:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            items += [self._completion(ref) if ref in self._refs else self._devices.take(ref) for ref in ready]
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
        return completed(ref, job, seconds)

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
            self._devices.begins(id_, attempt)
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
        if self._devices.holds(job):
            return self._devices.cancel(job, force=force)
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
        if device_of(job):
            return self._devices.room(job, planned)
        return self._wanted(job.resources, _in_slots(planned)) > 0

    @overrides
    def capacity(self, planned: Sequence[Job] = ()) -> dict[str, int]:
        others = _in_slots(planned)
        slots = {
            queue: max((self._wanted(wants, others) for wants in kinds), default=0) for queue, kinds in self._kinds.items()
        }
        return slots | self._devices.capacity(planned)

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
        nodes, reserved = self._nodes.living(), self._devices.reserved()
        key = (self._nodes.version, self._changes, frozenset(reserved))
        known = 0
        if self._board is not None and self._board[0][:3] == key and self._board[0][3] <= len(planned):
            (*_, known), board = self._board
        else:
            board = Board(nodes)
            for node in reserved:
                board.close(node)
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
        return {job.id: {"asked": asked_for(job.resources), "exists": exists} for job in lost} | self._devices.waiting()

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


def _in_slots(jobs: Sequence[Job]) -> list[Job]:
    """Those that hold a slot while they run."""
    return [job for job in jobs if device_of(job) is None]
