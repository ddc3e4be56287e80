"""The way to a device of a Ray cluster that runs: its actor, which serves searches too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import ray
from overrides import overrides

from archsearch.cluster.device_bench import NOWHERE, Lane, Say
from archsearch.cluster.device_listing import list_devices
from archsearch.cluster.device_queue import DeviceQueues
from archsearch.cluster.devices_section import DeviceSettings, DevicesSection
from archsearch.cluster.placement import waits_for
from archsearch.cluster.ray_connection import connect, first_line
from archsearch.cluster.ray_nodes import Nodes
from archsearch.cluster.ray_task import mailbox
from archsearch.jobs import JSON, Completion, InputError, Job
from archsearch.profile.process import DeviceGone

#: Seconds between two looks at a job, and after which it is said that it waits for its turn.
LOOK_EVERY, PATIENCE = 0.3, 2.0


@contextlib.contextmanager
def visited(address: str) -> Iterator[None]:
    """Join the cluster at ``auto`` or ``host:port`` until the block ends.

    Raises:
        ArchsearchError: no cluster answers there.
        DeviceGone: it has gone meanwhile.
    """
    connect(address, named="--address")
    try:
        yield
    except ray.exceptions.RayError as error:
        raise DeviceGone(f"the cluster at {address} does not answer any more: {first_line(error)}") from error
    finally:
        ray.shutdown()


def settings_of(name: str, configured: DevicesSection | None, say: Say) -> DeviceSettings:
    """How a device of the cluster that this process has joined is reached: as the configuration says, else as the latest job
    there did, else it is its node itself.

    Raises:
        InputError: neither the cluster nor the configuration has such a device.
    """
    if configured is not None and name in configured.root:
        return configured.root[name]
    there = {device.device: device for device in list_devices()}
    if name not in there:
        known = ", ".join(sorted({*there, *(configured.names() if configured else ())})) or "none"
        raise InputError(f"no device is called {name!r} in this cluster. Known: {known}. See archsearch devices")
    if (settings := there[name].settings) is not None:
        try:
            return DeviceSettings.model_validate(settings)
        except ValueError as error:  # of another version
            raise InputError(f"how the device {name} was reached last cannot be told; say it with --config") from error
    say(f"nobody has said how the device {name} is reached (--config): it is taken to be the node that has its name")
    return DeviceSettings()


class OnCluster(Lane):
    """Through the device's actor."""

    here = False

    def __init__(self, name: str, say: Say) -> None:
        super().__init__(name, say)
        self._nodes = Nodes()
        self._mailbox = mailbox()

    @overrides
    def run(self, job: Job, settings: DeviceSettings, heard: Callable[[Mapping[str, JSON]], None]) -> Completion:
        devices = DevicesSection.model_validate({self.name: settings})
        queues = DeviceQueues(devices, self._nodes, NOWHERE, self._mailbox, run=self.me)
        queues.submit(job)
        start = time.monotonic()
        try:
            while True:
                refs = queues.refs()
                if not refs:
                    time.sleep(LOOK_EVERY)
                elif ready := ray.wait(refs, timeout=LOOK_EVERY)[0]:
                    return queues.take(ready[0])
                for (id_, attempt), (_, progress) in ray.get(self._mailbox.collect.remote()).items():
                    queues.begins(id_, attempt)
                    if (id_, attempt) == (job.id, job.attempt):
                        heard(progress)
                self._tell(queues, job.id, time.monotonic() - start)
        except BaseException:
            if queues.holds(job.id):
                queues.cancel(job.id, force=True)
            raise

    def _tell(self, queues: DeviceQueues, job: int, waited: float) -> None:
        """Say what a job waits for."""
        if (about := queues.waiting().get(job)) is not None:
            self.say(waits_for(about))
        elif waited > PATIENCE and (ahead := queues.ahead(job)):
            self.say(f"waits for its turn on device {self.name}: {ahead} job{'s' * (ahead > 1)} of others there")
