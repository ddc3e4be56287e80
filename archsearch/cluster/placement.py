"""Which jobs fit where: nodes, what each has free, and what a job asks of one. Ray places the jobs; this foresees it.

A share of a GPU is a share of one device: two GPUs hold two jobs of 0.6 each, not three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from archsearch.jobs import JSON, Resources

_SLACK = 1e-6  # Ray counts in ten-thousandths


@dataclass(frozen=True)
class Node:
    """A living node. ``memory`` is what Ray may give to jobs, in bytes."""

    id: str
    name: str
    cpu: float
    gpus: int = 0
    memory: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()  # for which it offers the custom resource ``device:NAME``

    def holds(self, wants: Resources) -> bool:
        """Whether the node, empty, could hold the job."""
        return Room(self).fits(wants)


class Room:
    """What one node has left, CPUs, each GPU by itself, memory; it takes what it is given."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpu = node.cpu
        self.gpus = [1.0] * node.gpus
        self.memory = node.memory

    def fits(self, wants: Resources) -> bool:
        """Whether a job of this kind would start here now."""
        gpu = _number(wants)
        if gpu >= 1:
            enough = sum(free >= 1 - _SLACK for free in self.gpus) >= gpu
        else:
            enough = gpu == 0 or max(self.gpus, default=0.0) >= gpu - _SLACK
        return (
            enough
            and self.cpu >= wants.cpu - _SLACK
            and self.memory >= wants.memory
            and all(matches(self.node.labels.get(key), text) for key, text in wants.labels.items())
        )

    def take(self, wants: Resources) -> None:
        """Put a job here; a node that is too full goes below zero, since it runs what it runs."""
        self.cpu -= wants.cpu
        self.memory -= wants.memory
        gpu = _number(wants)
        self.gpus.sort()
        if gpu >= 1:
            self.gpus = [0.0 if position >= len(self.gpus) - int(gpu) else free for position, free in enumerate(self.gpus)]
        elif gpu:
            place = next((i for i, free in enumerate(self.gpus) if free >= gpu - _SLACK), None)  # the fullest that fits
            if place is not None:
                self.gpus[place] -= gpu


class Board:
    """The rooms of all living nodes, with the jobs in them."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.rooms = [Room(node) for node in nodes]
        self._by_id = {room.node.id: room for room in self.rooms}
        self.homeless: list[Resources] = []  # what found no room

    def close(self, node: str) -> None:
        """Nothing is to be put on a node: it is reserved."""
        if node in self._by_id:
            self._by_id[node].cpu = 0.0

    def put(self, wants: Resources, node: str | None = None) -> None:
        """Take a job into account: on the node where it runs, or wherever it will fit."""
        room = self._by_id.get(node or "") or next((room for room in self._tight() if room.fits(wants)), None)
        if room is None:
            self.homeless.append(wants)
        else:
            room.take(wants)

    def fits(self, wants: Resources) -> bool:
        return any(room.fits(wants) for room in self.rooms)

    def count(self, wants: Resources) -> int:
        """How many more jobs of this kind would start now."""
        return sum(_more(room, wants) for room in self.rooms)

    def _tight(self) -> list[Room]:
        """Nodes without a GPU first, so that a job that needs none leaves those alone, and then those with the least free."""
        return sorted(self.rooms, key=lambda room: (room.node.gpus, room.cpu))


def matches(value: str | None, selector: str) -> bool:
    """Whether a node's label is what a selector asks for: ``x``, ``!x``, ``in(x, y)`` or ``!in(x, y)``, as in Ray."""
    wanted = selector.removeprefix("!")
    found = re.fullmatch(r"in\((.*)\)", wanted.strip())
    names = [name.strip() for name in found[1].split(",")] if found else [wanted.strip()]
    return (value in names) != selector.startswith("!")


def asked_for(wants: Resources) -> dict[str, JSON]:
    """What a job asks of a node, as ``status`` says it."""
    gpu = {"gpu": wants.gpu} if wants.gpu else {}
    memory = {"memory": wants.memory} if wants.memory else {}
    return {"cpu": wants.cpu, **gpu, **memory, **({"labels": dict(wants.labels)} if wants.labels else {})}


def existing(nodes: Sequence[Node]) -> list[dict[str, JSON]]:
    """The kinds of nodes that there are: how many of each, and what each has."""
    kinds: dict[str, dict[str, JSON]] = {}
    for node in nodes:
        labels = {key: value for key, value in node.labels.items() if not key.startswith("ray.io/node-")}
        about = {"cpu": node.cpu, "gpu": node.gpus, "memory": node.memory, "labels": labels}
        kind = kinds.setdefault(repr({**about, "memory": node.memory >> 30}), {"nodes": 0, **about})
        kind["nodes"] += 1
    return list(kinds.values())


def waits_for(about: Mapping[str, JSON]) -> str:
    """What is waited for, for people: "waits for a node: asks for ...", or for a device and why that is not to be had."""
    if "because" in about:
        return f"waits for device {about['asked']['device']}: {about['because']}"
    return f"waits for a node: {in_words(about)}"


def in_words(about: Mapping[str, JSON]) -> str:
    """``{asked, exists}`` for people: "asks for 1 CPU, 1 GPU, kind=h100; there are 2 nodes with 4 CPU"."""
    kinds = [f"{kind['nodes']} node{'s' * (kind['nodes'] > 1)} with {_amounts(kind)}" for kind in about["exists"]]
    return f"asks for {_amounts(about['asked'])}; there {'are' if len(kinds) != 1 else 'is'} {', '.join(kinds) or 'no nodes'}"


def _amounts(has: Mapping[str, JSON]) -> str:
    labels = [f"{key}={value}" for key, value in (has.get("labels") or {}).items()]
    gpu = [f"{has['gpu']:g} GPU"] if has.get("gpu") else []
    memory = [f"{has['memory'] / 2**30:.3g} GB"] if has.get("memory") else []
    if "device" in has:
        return ", ".join([f"device {has['device']}", *labels])
    return ", ".join([f"{has['cpu']:g} CPU", *gpu, *memory, *labels])


def _more(room: Room, wants: Resources) -> int:
    """How many more jobs of this kind a room takes."""
    if not room.fits(wants):
        return 0
    number = int(room.cpu / wants.cpu + _SLACK)
    gpu = _number(wants)
    if gpu >= 1:
        number = min(number, int(sum(free >= 1 - _SLACK for free in room.gpus) / gpu))
    elif gpu:
        number = min(number, sum(int(free / gpu + _SLACK) for free in room.gpus))
    return min(number, room.memory // wants.memory) if wants.memory else number


def _number(wants: Resources) -> float:
    return 0.0 if wants.gpu == "auto" else wants.gpu
