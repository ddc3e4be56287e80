"""All CPUs of one node, held through Ray so that nothing is trained there while something is measured.

One placement group for each CPU: they are had one by one as trainings end, where all at once might never be free. Devices of
one node reserve it in turn, by a lock: each of them would wait for the CPUs that the other has.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from archsearch.cluster.device_lock import host_lock
from archsearch.cluster.devices_section import PREFIX

#: Seconds between two looks at what is held.
LOOK_EVERY = 0.2


class Reservation:
    """Of a node, for one of its devices. To be used by one thread at a time, in an actor.

    What an actor that is lost held, Ray takes back, also when it starts that actor again.
    """

    def __init__(self, node: str, device: str) -> None:
        """
        Args:
            node: its id.
        """
        self._node, self._device = node, device
        self._groups: list[PlacementGroup] = []
        self._alone = contextlib.ExitStack()  # the lock
        self.under_way = False  # CPUs are asked for, or held

    def take(self, wait: Callable[[str], None]) -> None:
        """Hold the node's CPUs, unless they are held already.

        Args:
            wait: called again and again with what is missing; whatever it raises ends the waiting.
        """
        if not self._groups:
            cpus = float(math.floor(self._about("Resources").get("CPU", 0.0) * 1e4) / 1e4)
            sizes = [1.0] * int(cpus) + ([cpus % 1] if cpus % 1 else [])
            if not sizes:
                return
            self.under_way = True
            if self.shared:
                holder = f"device {self._device}"
                lock = host_lock(f"node-{self._node}", holder, lambda other: wait(f"it is reserved by {other}"))
                self._alone.enter_context(lock)
            here = [{"ray.io/node-id": self._node}]
            self._groups = [placement_group([{"CPU": size}], bundle_label_selector=here) for size in sizes]
        missing = list(self._groups)
        while missing:
            missing = [group for group in missing if not group.wait(0)]
            if missing:
                wait(f"waits for {len(missing)} of {len(self._groups)} CPUs of its node, where jobs of others run")
                time.sleep(LOOK_EVERY)

    def release(self, *, again: bool = False) -> None:
        """Give everything back; ``again``: to another device of the node, for a moment."""
        groups, self._groups = self._groups, []
        self.under_way = again and self.under_way
        for group in groups:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                remove_placement_group(group)
        self._alone.close()

    @property
    def shared(self) -> bool:
        """Whether the node has other devices too, as far as can be told: one that has it for other labels may not be alone."""
        names = {name.removeprefix(PREFIX) for name in self._about("Resources") if name.startswith(PREFIX)}
        return (names | {self._about("Labels").get("device")}) - {None} != {self._device}

    def _about(self, what: str) -> dict[str, Any]:
        here: dict[str, Any] = next((each for each in ray.nodes() if each["NodeID"] == self._node), {})
        return dict(here.get(what) or {})
