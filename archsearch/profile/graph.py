"""A model's operations as plain data: what an assignment of backends is made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archsearch.jobs import JSON, InputError


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a model.

    ``name`` is symbolic and the same for all of a kind (Conv2D, DepthwiseConv2D, Linear, Pool2D, Add, ...). ``size`` is the
    data that it touches, in bytes: its inputs, its weights and its outputs. ``inputs`` are the indices of the operations whose
    outputs it reads, in the order of its arguments; what it reads of the model's own input is not among them.
    """

    name: str
    size: int
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A model's operations in the order in which they run, which follows from the model's content alone.

    Raises:
        InputError: an operation reads one that does not come before it.
    """

    nodes: tuple[Operation, ...]

    def __post_init__(self) -> None:
        for index, node in enumerate(self.nodes):
            if late := [source for source in node.inputs if not 0 <= source < index]:
                raise InputError(f"operation {index} ({node.name}) reads {late}, which do not run before it")

    def to_json(self) -> list[JSON]:
        """``[[name, size, [input, ...]], ...]``."""
        return [[node.name, node.size, list(node.inputs)] for node in self.nodes]

    @classmethod
    def from_json(cls, data: JSON) -> Graph:
        """The graph of ``to_json``'s data.

        Raises:
            InputError: it is not of that form.
        """
        try:
            return cls(tuple(Operation(str(name), int(size), tuple(map(int, inputs))) for name, size, inputs in data))
        except (TypeError, ValueError, OverflowError) as error:  # the last: a size that is infinite
            if isinstance(error, InputError):
                raise
            raise InputError(f"graph: expected a list of [name, size, [inputs]]: {error}") from error


@dataclass(frozen=True, slots=True)
class Described:
    """What a runtime makes of a model: its graph, and for each operation the backends that can run it."""

    graph: Graph
    backends: tuple[str, ...]
    supported: tuple[frozenset[str], ...]

    def to_json(self) -> dict[str, JSON]:
        supported = [sorted(names) for names in self.supported]
        return {"graph": self.graph.to_json(), "backends": list(self.backends), "supported": supported}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Described:
        supported = tuple(frozenset(names) for names in data["supported"])
        return cls(Graph.from_json(data["graph"]), tuple(data["backends"]), supported)
