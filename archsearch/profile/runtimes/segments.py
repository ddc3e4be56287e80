"""Segments: neighbouring operations on one backend, each a model of its own, run one after another."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from overrides import overrides

from archsearch.profile.graph import Graph
from archsearch.profile.runtimes.face import Arrays, Compiled

#: Runs a model: its inputs in, its outputs out, both in its own order.
Call = Callable[[list[NDArray[Any]]], Sequence[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Segment:
    """Operations that run together, in an order in which they can."""

    backend: str
    nodes: tuple[int, ...]


def segments(graph: Graph, assignment: Sequence[str]) -> Iterator[Segment]:
    """The operations in segments, in an order in which they can run. Follows from the graph and the assignment alone.

    A segment takes all that can run on its backend before another is needed, on parallel branches too: two branches that change
    backends at the same depth make as few segments as one.
    """
    readers: list[list[int]] = [[] for _ in graph.nodes]
    waits = [len(node.inputs) for node in graph.nodes]
    ready: dict[str, list[int]] = {backend: [] for backend in assignment}
    for index, node in enumerate(graph.nodes):
        for source in node.inputs:
            readers[source].append(index)
        if not node.inputs:
            heapq.heappush(ready[assignment[index]], index)
    while any(ready.values()):
        backend = min((name for name in ready if ready[name]), key=lambda name: ready[name][0])
        nodes: list[int] = []
        while ready[backend]:
            nodes.append(heapq.heappop(ready[backend]))
            for reader in readers[nodes[-1]]:
                waits[reader] -= 1
                if not waits[reader]:
                    heapq.heappush(ready[assignment[reader]], reader)
        yield Segment(backend, tuple(nodes))


@dataclass(frozen=True, slots=True)
class Step:
    """One segment made ready, with the names of what it reads and what it makes."""

    call: Call
    reads: tuple[str, ...]
    makes: tuple[str, ...]


class Whole(Compiled):
    """A model in one piece."""

    def __init__(self, call: Call, file_size: int) -> None:
        self.call, self.file_size = call, file_size

    @overrides
    def load(self, inputs: Arrays) -> Any:
        return [np.ascontiguousarray(each) for each in inputs]

    @overrides
    def run(self, inputs: Any) -> Any:
        return self.call(inputs)

    @overrides
    def fetch(self, outputs: Any) -> Arrays:
        return tuple(np.array(each) for each in outputs)  # copies: the next run may write to the same place


class Pipeline(Whole):
    """Segments, one after another. What passes between them is arrays, which are not copied; each is let go after its last
    reader."""

    def __init__(self, steps: Sequence[Step], inputs: Sequence[str], outputs: Sequence[str], file_size: int) -> None:
        last = {name: place for place, step in enumerate(steps) for name in (*step.makes, *step.reads)}
        self.steps = [
            (step, tuple(name for name, at in last.items() if at == place and name not in outputs))
            for place, step in enumerate(steps)
        ]
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        super().__init__(self._run, file_size)

    def _run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        values = dict(zip(self.inputs, inputs, strict=True))
        for step, done in self.steps:
            made = step.call([values[name] for name in step.reads])
            values.update(zip(step.makes, made, strict=True))
            for name in done:
                del values[name]
        return [values[name] for name in self.outputs]
