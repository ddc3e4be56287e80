"""The driver's side of devices: jobs in their queues, handed to the devices' actors; the Ray executor's in all but name.

A job whose device is not there is kept here until it is, and holds up nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from archsearch.cluster.device_actor import NAMESPACE, DeviceActor
from archsearch.cluster.devices_section import PREFIX, DevicesSection, device_of
from archsearch.cluster.placement import Node, existing, matches
from archsearch.cluster.ray_nodes import Nodes
from archsearch.cluster.ray_task import completed
from archsearch.jobs import JSON, Completion, Failure, FailureKind, Job

#: Jobs of one run that are at a device at once: one that runs, and two ahead, so that it never waits for the driver.
AT_ONCE = 3

#: Seconds between two looks at a device, and after which what it said of itself is out of date.
LOOK_EVERY, STALE = 1.0, 5.0


class DeviceQueues:
    """The queues of all devices of one driver's session."""

    def __init__(self, devices: DevicesSection, nodes: Nodes, root: str, mailbox: Any, run: str = "") -> None:
        """
        Args:
            root: the artifact store, as devices' nodes reach it.
            run: whose jobs these are: runs take turns. Default: ``root``.
        """
        self._run = run or root
        self._devices = devices
        self._nodes = nodes
        self._root = root
        self._mailbox = mailbox
        self._session = uuid.uuid4().hex
        self._jobs: dict[int, Job] = {}
        self._pending: list[Job] = []  # whose device is not there, or has not answered yet
        self._sent: dict[Any, Job] = {}
        self._began: dict[int, float] = {}
        self._stopped: list[Completion] = []
        self._actors: dict[str, Any] = {}
        self._ready: set[str] = set()  # devices whose actor has answered since it was made, found or lost
        self._asked: dict[str, tuple[float, Any]] = {}  # by device: since when, and the answer under way
        self._states: dict[str, tuple[float, Mapping[str, JSON]]] = {}
        self._looked = -LOOK_EVERY

    # ------------------------------------------------------------------------------------------------------------- jobs
    def holds(self, job: int) -> bool:
        return job in self._jobs

    def submit(self, job: Job) -> None:
        """
        Raises:
            InputError: the configuration has no such device.
        """
        self._devices.of(job)
        self._jobs[job.id] = job
        self._pending.append(job)

    def refs(self) -> list[Any]:
        """What there is to wait for, with all handed over that can be."""
        self._look()
        kept = []
        for job in self._pending:
            name = str(device_of(job))
            if name in self._ready and self._there(name):
                settings = self._devices.of(job).model_dump(mode="json")
                arguments = (self._session, self._run, job.to_json(), settings, self._root, self._mailbox)
                self._sent[self._actor(name).run.remote(*arguments)] = job
            else:
                kept.append(job)
        self._pending = kept
        return list(self._sent)

    def take(self, ref: Any) -> Completion:
        """The end of the attempt that ``ref`` stands for."""
        job = self._sent[ref]
        began = self._began.get(job.id)
        self._forget(job.id)
        done = completed(ref, job, 0.0 if began is None else time.monotonic() - began)
        if isinstance(done.outcome, Failure) and done.outcome.kind is FailureKind.LOST:
            name = str(device_of(job))
            self._actors.pop(name, None)  # found, or made, anew: somebody may have ended it for good
            self._asked.pop(name, None)
            self._ready.discard(name)  # what is sent to one that starts again may be lost as well
        return done

    def stopped(self) -> list[Completion]:
        """Attempts that were ended before they began."""
        stopped, self._stopped = self._stopped, []
        return stopped

    def begins(self, job: int, attempt: int) -> None:
        """Take a sign of life."""
        if job in self._jobs and self._jobs[job].attempt == attempt:
            self._began.setdefault(job, time.monotonic())

    def cancel(self, job: int, *, force: bool) -> None:
        """End an attempt at once, or ask one that has begun to leave."""
        if not force and job in self._began:
            self._mailbox.stop.remote(job)
            return
        attempt = self._jobs[job]
        if any(sent.id == job for sent in self._sent.values()):
            self._actor(str(device_of(attempt))).cancel.remote(self._session, job, attempt.attempt)
        self._forget(job)
        if not force:
            failure = Failure(FailureKind.INTERRUPTED, "it had not begun")
            self._stopped.append(Completion(job, attempt.attempt, failure))

    def _forget(self, job: int) -> None:
        """Know nothing of a job's attempt any more: whatever still comes of it is not trusted."""
        self._sent = {ref: sent for ref, sent in self._sent.items() if sent.id != job}
        self._pending = [kept for kept in self._pending if kept.id != job]
        self._jobs.pop(job, None)
        self._began.pop(job, None)

    # --------------------------------------------------------------------------------------------------------- capacity
    def capacity(self, planned: Sequence[Job]) -> dict[str, int]:
        """Device queue -> how many more jobs are wanted. A device that is not there gets its few too: they wait, visibly."""
        there = Counter(job.queue for job in (*self._jobs.values(), *planned))
        return {PREFIX + name: max(0, AT_ONCE - there[PREFIX + name]) for name in self._devices.names()}

    def room(self, job: Job, planned: Sequence[Job]) -> bool:
        """
        Raises:
            InputError: the configuration has no such device.
        """
        self._devices.of(job)
        return self.capacity(planned)[job.queue] > 0

    def reserved(self) -> Collection[str]:
        """Nodes on which nothing else is to be started: something is measured there, or about to be."""
        return {str(state["node"]) for _, state in self._states.values() if state["reserves"]}

    def waiting(self) -> dict[int, Mapping[str, JSON]]:
        """Jobs that wait for more than their turn: for a node, for the host's lock, for a board that does not answer."""
        nodes = self._nodes.living()
        found: dict[int, Mapping[str, JSON]] = {}
        for job in self._jobs.values():
            name = str(device_of(job))
            labels = self._devices.node_labels(name)
            asked: dict[str, JSON] = {"cpu": 0, "device": name, "labels": {} if labels == {"device": name} else labels}
            if not _nodes_of(name, labels, nodes):
                found[job.id] = {"asked": asked, "exists": existing(nodes)}
            elif job.id not in self._began and (why := self._why(name)):
                found[job.id] = {"asked": asked, "exists": existing(_nodes_of(name, labels, nodes)), "because": why}
        return found

    def ahead(self, job: int) -> int | None:
        """How many jobs of others are at the device of a job that has not begun; None: it has begun, or nobody knows."""
        state = self._states.get(str(device_of(self._jobs[job])))
        if job in self._began or state is None:
            return None
        running = state[1]["running"]
        others = sum(int(count) for run, count in state[1]["queue"].items() if run != self._run)
        return others + (running is not None and running["run"] != self._run)

    def _why(self, name: str) -> str:
        """What a device itself waits for, or nothing."""
        if name not in self._ready:
            return "its actor has not answered yet"
        if name not in self._states:
            return ""
        seen, state = self._states[name]
        if time.monotonic() - seen > STALE:
            return "its actor does not answer"
        return "" if state["state"] in ("ready", "measuring") else f"{state['state']}: {state['detail']}"

    # ----------------------------------------------------------------------------------------------------------- actors
    def _there(self, name: str) -> bool:
        """Whether a living node has the device."""
        return bool(_nodes_of(name, self._devices.node_labels(name), self._nodes.living()))

    def _actor(self, name: str) -> Any:
        if name not in self._actors:
            self._actors[name] = actor_of(name, self._devices.node_labels(name), self._nodes.living())
        return self._actors[name]

    def _look(self) -> None:
        """Ask the devices that have jobs of ours how they are; never waits for an answer."""
        now = time.monotonic()
        for name, (since, answer) in list(self._asked.items()):
            if ray.wait([answer], timeout=0)[0]:
                del self._asked[name]
                try:
                    self._states[name] = (now, ray.get(answer))
                    self._ready.add(name)
                except ray.exceptions.RayError:
                    self._actors.pop(name, None)  # found, or made, anew
            elif now - since > STALE:
                self._asked[name] = now, answer
                if self._there(name):
                    self._actors.pop(name, None)
                    self._actor(name)  # anew, if it waits for a node as there is none any more
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            busy = {str(device_of(job)) for job in self._sent.values()}
            busy |= {name for job in self._pending if self._there(name := str(device_of(job)))}
            for name in busy - self._asked.keys():
                self._asked[name] = now, self._actor(name).state.remote()
            self._states = {name: state for name, state in self._states.items() if name in busy}
            self._ready &= busy  # what becomes of one that rests is not seen


def actor_of(name: str, labels: Mapping[str, str], nodes: Sequence[Node]) -> Any:
    """The actor of a device, made if it is not there: pinned to the resource that a node offers for it, else to the labels.

    One that waits for a node of the other kind, when the device has come back in another way than it went, is ended and made
    anew: Ray would keep it waiting for good. Its jobs are lost with it, and tried again.
    """
    offered = [_RESOURCE] if any(name in node.devices for node in nodes) else []
    if any(_carries(node, labels) for node in nodes) or not offered:
        offered.append(json.dumps(dict(labels), sort_keys=True))
    space, key = NAMESPACE.encode(), f"pin of {PREFIX}{name}"
    with contextlib.suppress(ValueError):  # there is none
        actor = ray.get_actor(PREFIX + name, namespace=NAMESPACE)
        pin = (_internal_kv_get(key, namespace=space) or b"").decode()
        if not pin or pin in offered or not _nodes_of(name, labels, nodes):
            return actor
        ray.kill(actor)
        _wait_for_its_name(name)
    options: dict[str, Any] = {"name": PREFIX + name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    options |= {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0}
    if offered[0] == _RESOURCE:
        options["resources"] = {PREFIX + name: 1}
    else:
        options["label_selector"] = dict(labels)
    actor = ray.remote(DeviceActor).options(**options).remote(name)
    _internal_kv_put(key, offered[0], overwrite=True, namespace=space)
    return actor


#: How an actor is pinned, as it is written down for other drivers: this, or the labels as JSON.
_RESOURCE = "resource"


def _wait_for_its_name(name: str) -> None:
    """Until an actor that was ended is known no more, for a few seconds: who comes too early only loses an attempt."""
    deadline = time.monotonic() + STALE
    with contextlib.suppress(ValueError):
        while time.monotonic() < deadline:
            ray.get_actor(PREFIX + name, namespace=NAMESPACE)
            time.sleep(0.05)


def _carries(node: Node, labels: Mapping[str, str]) -> bool:
    return all(matches(node.labels.get(key), text) for key, text in labels.items())


def _nodes_of(name: str, labels: Mapping[str, str], nodes: Sequence[Node]) -> list[Node]:
    """The living nodes that have a device."""
    return [node for node in nodes if name in node.devices or _carries(node, labels)]
