"""All CPUs of one node, held through Ray so that nothing is trained there while something is measured.

One placement group for each CPU: they are had one by one as trainings end, where all at once might never be free.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

#: Seconds between two looks at what is held.
LOOK_EVERY = 0.2


class Reservation:
    """Of the node with this id. To be used by one thread at a time, in an actor.

    What an actor that is lost held, Ray takes back, also when it starts that actor again.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._groups: list[PlacementGroup] = []
        self.under_way = False  # CPUs are asked for, or held

    def take(self, wait: Callable[[str], None]) -> None:
        """Hold the node's CPUs, unless they are held already.

        Args:
            wait: called again and again with what is missing; whatever it raises ends the waiting.
        """
        if not self._groups:
            cpus = self._cpus()
            sizes = [1.0] * int(cpus) + ([cpus % 1] if cpus % 1 else [])
            self.under_way = bool(sizes)
            here = [{"ray.io/node-id": self._node}]
            self._groups = [placement_group([{"CPU": size}], bundle_label_selector=here) for size in sizes]
        missing = list(self._groups)
        while missing:
            missing = [group for group in missing if not group.wait(0)]
            if missing:
                wait(f"waits for {len(missing)} of {len(self._groups)} CPUs of its node, where jobs of others run")
                time.sleep(LOOK_EVERY)

    def release(self) -> None:
        """Give everything back."""
        groups, self._groups = self._groups, []
        self.under_way = False
        for group in groups:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                remove_placement_group(group)

    def _cpus(self) -> float:
        here: dict[str, Any] = next((each for each in ray.nodes() if each["NodeID"] == self._node), {})
        return float(math.floor(here.get("Resources", {}).get("CPU", 0.0) * 1e4) / 1e4)
