"""The nodes of a Ray cluster as they come and go, and how much memory their GPUs have."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from archsearch.cluster.devices_section import PREFIX
from archsearch.cluster.placement import Node
from archsearch.jobs import Resources

#: Seconds between two looks at the cluster, and for which a node may take to say how much memory its GPUs have.
LOOK_EVERY, PATIENCE = 1.0, 20.0


def smallest_gpu() -> int:
    """Bytes of the smallest GPU of the node where this runs, 0 if it cannot be told."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE / 2, check=True).stdout
        return min(int(line) for line in answer.split()) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


class Nodes:
    """The living nodes, looked at anew once a second. ``version`` grows whenever they have changed.

    Args:
        gpu_memory: bytes of every GPU, so that no node is asked.
    """

    def __init__(self, gpu_memory: int | None = None) -> None:
        self.version = 0
        self._given = gpu_memory
        self._living: list[Node] = []
        self._looked = -LOOK_EVERY
        self._asked: dict[str, Any] = {}  # by node: the answer under way
        self._memory: dict[str, int] = {}

    def living(self) -> list[Node]:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            living = [_node(each) for each in ray.nodes() if each["Alive"]]
            if living != self._living:
                self._living = living
                self.version += 1
        return self._living

    def gpu_memory(self, wants: Resources) -> int | None:
        """Bytes of the smallest GPU on which a job with these labels may come to run; 0 if it cannot be told, None if there is
        no GPU. Asks a node when it is first seen, and waits for the answer."""
        plain = Resources(wants.cpu, 0.0, wants.memory, wants.labels)
        nodes = [node for node in self.living() if node.gpus and node.holds(plain)]
        if not nodes or self._given is not None:
            return self._given if nodes else None
        for node in nodes:
            if node.id not in self._memory and node.id not in self._asked:
                there = NodeAffinitySchedulingStrategy(node.id, soft=False)
                task = ray.remote(num_cpus=0, max_retries=0)(smallest_gpu).options(scheduling_strategy=there)
                self._asked[node.id] = task.remote()
        deadline = time.monotonic() + PATIENCE
        for node in nodes:
            if (answer := self._asked.pop(node.id, None)) is not None:
                try:
                    self._memory[node.id] = ray.get(answer, timeout=max(0.1, deadline - time.monotonic()))
                except ray.exceptions.RayError:
                    self._memory[node.id] = 0
        return min(self._memory[node.id] for node in nodes)


def _node(about: dict[str, Any]) -> Node:
    has = about["Resources"]
    return Node(
        about["NodeID"],
        about["NodeManagerHostname"],
        has.get("CPU", 0.0),
        int(has.get("GPU", 0)),
        int(has.get("memory", 0)),
        about.get("Labels") or {},
        tuple(name.removeprefix(PREFIX) for name in has if name.startswith(PREFIX)),
    )
