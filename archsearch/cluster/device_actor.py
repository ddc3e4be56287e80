"""The actor of a device: one per device and cluster, on the device's node, with a queue that several runs share.

It outlives the runs that use it. What it runs is a process of its own for each job, so that whatever happens to that is the
job's affair; when the actor itself is lost Ray starts it again where the device is, and the runs try the lost jobs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from archsearch.cluster.context import AttemptContext
from archsearch.cluster.device_measure import Cancel, Told, measure, no_data
from archsearch.cluster.device_reservation import Reservation
from archsearch.cluster.device_turns import Turns
from archsearch.cluster.devices_section import PREFIX, DeviceSettings
from archsearch.jobs import JSON, Completion, Failure, FailureKind, Interrupted, Job, Result
from archsearch.store import Artifacts

#: Ray's namespace of the actors, and of what they leave behind for when they are gone.
NAMESPACE = "archsearch"

#: Seconds within which a driver must take the news that its job begins, and between two looks whether it still lives.
BEGIN_WITHIN, LOOK_EVERY = 30.0, 3.0

#: Which attempt of whom: a driver's session, job, attempt.
Key = tuple[str, int, int]


class Driver:
    """The driver of one attempt, as its mailbox shows it. What is called waits for the network only in ``begin``."""

    def __init__(self, job: Job, node: str, mailbox: Any) -> None:
        self.cancel = Cancel(self._gone)
        self._job, self._node, self._mailbox = job, node, mailbox
        self._answer: Any = None
        self._sign: Any = None
        self._looked = -LOOK_EVERY

    def begin(self) -> bool:
        """Tell that the job begins; whether anybody still wants it."""
        try:
            return not ray.get(self._mailbox.post.remote(self._job.id, self._job.attempt, self._node, {}), timeout=BEGIN_WITHIN)
        except ray.exceptions.RayError:
            return False

    def post(self, progress: Mapping[str, JSON]) -> bool:
        """Send, and read the answer to the message before; whether the job is to stop."""
        try:
            stop = bool(ray.get(self._answer)) if self._answer is not None and ray.wait([self._answer], timeout=0)[0] else None
        except ray.exceptions.ActorDiedError:
            self.cancel.now()  # nobody waits for the result any more
            return True
        except ray.exceptions.RayError:
            stop = False
        if stop is not None or self._answer is None:
            self._answer = self._mailbox.post.remote(self._job.id, self._job.attempt, self._node, progress)
        return bool(stop)

    def lives(self) -> bool:
        """Whether anybody is there still, asked when the job's turn has come."""
        try:
            return bool(ray.get(self._mailbox.hears.remote(), timeout=BEGIN_WITHIN))
        except ray.exceptions.RayError as error:
            return not isinstance(error, ray.exceptions.ActorDiedError)

    def _gone(self) -> bool:
        """Looked at while the job waits: the mailbox is gone once the driver is."""
        if self._sign is None and time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            self._sign = self._mailbox.hears.remote()
        if self._sign is None or not ray.wait([self._sign], timeout=0)[0]:
            return False
        sign, self._sign = self._sign, None
        try:
            return not ray.get(sign)
        except ray.exceptions.RayError as error:
            return isinstance(error, ray.exceptions.ActorDiedError)


class DeviceActor:
    """Body of the actor."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._node = ray.get_runtime_context().get_node_id()
        self._host = socket.gethostname()
        before = self._last_word()
        self._facts: Mapping[str, JSON] = before.get("about", {})
        self._fingerprints: dict[str, str] = before.get("fingerprints", {})  # by runtime
        self._settings: Mapping[str, JSON] | None = before.get("settings")  # how it was reached last
        self._reservation = Reservation(self._node, name)
        self._turns = Turns()
        self._tasks: dict[Key, tuple[asyncio.Task[Completion], Cancel]] = {}
        self._now: Key | None = None  # whose turn it is
        self._running: dict[str, JSON] | None = None
        self._state, self._detail = "ready", ""
        self._leave_word()

    async def run(
        self, session: str, run: str, job: dict[str, Any], settings: dict[str, Any], root: str, mailbox: Any
    ) -> Completion:
        """Run one attempt when its turn has come.

        Args:
            session, run: which driver of which run wants it; runs take turns.
            settings: ``DeviceSettings``.
            root: the run's artifact store.
            mailbox: takes signs of life; when it is gone nobody wants the result.
        """
        self._settings = settings
        this = Job.from_json(job)
        driver = Driver(this, self._node, mailbox)
        key = (session, this.id, this.attempt)
        body = self._in_turn(key, run, this, DeviceSettings.model_validate(settings), root, driver)
        task = asyncio.get_running_loop().create_task(body)
        self._tasks[key] = (task, driver.cancel)
        task.add_done_callback(lambda _: self._tasks.pop(key))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self.cancel(*key)
            return Completion(this.id, this.attempt, Failure(FailureKind.INTERRUPTED, "cancelled"), node=self._host)

    async def cancel(self, session: str, job: int, attempt: int) -> None:
        """End an attempt, if it is here, wherever it stands."""
        key = (session, job, attempt)
        if key in self._tasks:
            task, cancel = self._tasks[key]
            cancel.now()
            if key != self._now:
                task.cancel()  # it waits for its turn

    async def state(self) -> dict[str, JSON]:
        """What ``archsearch devices`` shows, and drivers pass on."""
        return self._about()

    # ------------------------------------------------------------------------------------------------------------- turn
    async def _in_turn(self, key: Key, run: str, job: Job, settings: DeviceSettings, root: str, driver: Driver) -> Completion:
        async with self._turns.turn(run, job.id):
            self._now = key
            self._running = {"run": run, "job": job.id, "attempt": job.attempt}
            try:
                return await asyncio.to_thread(self._measure, run, job, settings, root, driver)
            finally:
                more = bool(self._turns.lengths())
                if not more or self._reservation.shared:
                    await asyncio.to_thread(self._reservation.release, again=more)
                self._now = self._running = None
                self._say("ready", "")

    def _measure(self, run: str, job: Job, settings: DeviceSettings, root: str, driver: Driver) -> Completion:
        """In a thread: hold the node, then the host's lock, and measure."""

        def wait(missing: str) -> None:
            self._say("reserving its node", missing)
            driver.cancel.look()

        try:
            if not driver.lives():
                raise Interrupted
            self._reservation.take(wait)
        except Interrupted:
            return Completion(job.id, job.attempt, Failure(FailureKind.INTERRUPTED, "it had not begun"), node=self._host)
        context = AttemptContext(job, no_data, Artifacts(root), driver.post, settings.torch_device, settings.threads)
        told = Told(self._say, self._take_facts, driver.begin)
        holder = f"device {self._name}, run {run}"
        done = measure(job, self._name, settings, context, holder=holder, told=told, cancel=driver.cancel, node=self._host)
        if isinstance(done.outcome, Result):
            self._take_fingerprint(done.outcome.metrics)
        return done

    # ------------------------------------------------------------------------------------------------------------ state
    def _say(self, state: str, detail: str) -> None:
        if (state, detail) != (self._state, self._detail):
            self._state, self._detail = state, detail
            self._leave_word()

    def _take_facts(self, about: Mapping[str, JSON]) -> None:
        self._facts = about

    def _take_fingerprint(self, metrics: Mapping[str, JSON]) -> None:
        """Of a measurement; a work may give anything."""
        runtime, found = metrics.get("runtime"), metrics.get("fingerprint")
        if isinstance(runtime, str) and isinstance(found, str):
            self._fingerprints[runtime] = found

    def _about(self) -> dict[str, JSON]:
        return {
            "device": self._name,
            "state": self._state,
            "detail": self._detail,
            "host": self._host,
            "node": self._node,
            "reserves": self._reservation.under_way,
            "running": self._running,
            "queue": self._turns.lengths(),
            "about": self._facts,
            "fingerprints": self._fingerprints,
            "settings": self._settings,
            "seen": time.time(),
        }

    def _leave_word(self) -> None:
        """For when this actor's node is gone: when it was seen last, and what it was."""
        with contextlib.suppress(ray.exceptions.RayError, RuntimeError, OSError):
            _internal_kv_put(f"{PREFIX}{self._name}", json.dumps(self._about()), overwrite=True, namespace=NAMESPACE.encode())

    def _last_word(self) -> dict[str, Any]:
        """What this device's last actor left behind, if it had one."""
        with contextlib.suppress(ray.exceptions.RayError, RuntimeError, OSError, ValueError):
            return dict(json.loads(_internal_kv_get(f"{PREFIX}{self._name}", namespace=NAMESPACE.encode()) or "{}"))
        return {}
