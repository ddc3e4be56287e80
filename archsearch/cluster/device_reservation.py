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
from ray.util.placement_group import PlacementGroup, get_placement_group, placement_group, placement_group_table
from ray.util.placement_group import remove_placement_group as remove

#: Seconds between two looks at what is held.
LOOK_EVERY = 0.2


class Reservation:
    """Of the node with this id, for a device. To be used by one thread at a time, in the actor that owns the device."""

    def __init__(self, device: str, node: str) -> None:
        self._prefix = f"archsearch-device:{device}:"
        self._node = node
        self._groups: list[PlacementGroup] = []
        self.under_way = False  # CPUs are asked for, or held
        self._drop_left()

    def take(self, wait: Callable[[str], None]) -> None:
        """Hold the node's CPUs, unless they are held already.

        Args:
            wait: called again and again with what is missing; whatever it raises ends the waiting.
        """
        if not self._groups:
            cpus = self._cpus()
            sizes = [1.0] * int(cpus) + ([cpus % 1] if cpus % 1 else [])
            self.under_way = bool(sizes)
            for number, size in enumerate(sizes):
                here = [{"ray.io/node-id": self._node}]
                name = f"{self._prefix}{number}"
                self._groups.append(placement_group([{"CPU": size}], name=name, bundle_label_selector=here))
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
                remove(group)

    def _cpus(self) -> float:
        here: dict[str, Any] = next((each for each in ray.nodes() if each["NodeID"] == self._node), {})
        return float(math.floor(here.get("Resources", {}).get("CPU", 0.0) * 1e4) / 1e4)

    def _drop_left(self) -> None:
        """Remove what an earlier life of the actor, which was killed, still holds."""
        for about in placement_group_table().values():
            if about["name"].startswith(self._prefix) and about["state"] != "REMOVED":
                with contextlib.suppress(ray.exceptions.RayError, ValueError):
                    remove(get_placement_group(about["name"]))
