"""An architecture as immutable data: cells of nodes of edges, and where each cell stands.

The description is the identity of a model: its canonical JSON text gives its hash, and everything else (cost, module, growth)
is computed from it. Node lists are in the order of creation, so that a node keeps its index, and its parameters their names,
for the life of a cell. ``Cell.last`` is the seed's last node: it is computed last whatever its index, so that appending a
node to the list inserts it *before* the last one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import orjson
import yaml

from archsearch.arch.operations import operation
from archsearch.arch.parse import as_flag, as_int, as_list, as_mapping, as_record, as_text, located, wrong
from archsearch.jobs import JSON, InputError

FAMILY = "cell"
POST_OPS = ("proj_channels", "concat_channels")
#: Stem name -> number of 3x3 convolutions of stride 2 (none: one convolution of stride 1).
STEMS = {"conv3x3": 0, "conv3x3_stride2": 1, "conv3x3_stride4": 2, "conv3x3_stride8": 3}

_SOURCE = re.compile(r"s[01]|n(0|[1-9][0-9]{0,5})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYS = ("family", "input", "classes", "channels", "stem", "cells", "layout")


def source_order(source: str) -> tuple[str, int]:
    """Sort key of a state's name: s0, s1, n0, n1, ... n10."""
    return ("" if source[0] == "s" else "n"), int(source[1:])


@dataclass(frozen=True, slots=True)
class Edge:
    """An operation on a state: ``source`` is a cell input ("s0", "s1") or a node ("n0", "n1", ...)."""

    source: str
    op: str

    def __post_init__(self) -> None:
        if not (isinstance(self.source, str) and _SOURCE.fullmatch(self.source)):
            raise wrong("edge", "a source s0, s1, n0, n1, ...", self.source)
        if not isinstance(self.op, str):
            raise wrong("edge", "the name of an operation", self.op)
        operation(self.op)  # refuses an unknown name

    @property
    def key(self) -> str:
        """Its name inside its node, in the names of parameters."""
        return f"{self.source}_{self.op}"


@dataclass(frozen=True, slots=True)
class Node:
    """The sum of its edges. Edges are kept sorted by source and operation: the same set of edges is the same node."""

    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        edges = tuple(sorted(self.edges, key=lambda edge: (source_order(edge.source), edge.op)))
        if not edges:
            raise InputError("node: it needs at least one edge")
        if len(set(edges)) < len(edges):
            raise InputError(f"node: the same edge twice in {[list((e.source, e.op)) for e in edges]}")
        object.__setattr__(self, "edges", edges)


@dataclass(frozen=True, slots=True)
class Cell:
    """Nodes in the order of creation; ``last`` is computed last and may read every other node.

    ``post_op`` joins the nodes: "proj_channels" sums one 1x1 projection per node and keeps the channel count whatever the
    number of nodes; "concat_channels" puts the nodes side by side.
    """

    nodes: tuple[Node, ...]
    last: int
    post_op: str = "proj_channels"

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        if not self.nodes:
            raise InputError("cell: it needs at least one node")
        if self.post_op not in POST_OPS:
            raise wrong("cell: post_op", " or ".join(POST_OPS), self.post_op)
        if as_int(self.last, "cell: last", 0) >= len(self.nodes):
            raise wrong("cell: last", f"a node's index below {len(self.nodes)}", self.last)
        known = {"s0", "s1"}
        for index in self.order:
            for edge in self.nodes[index].edges:
                if edge.source not in known:
                    raise InputError(f"cell: node {index} reads {edge.source!r}, computed before it are only {sorted(known)}")
            known.add(f"n{index}")

    @property
    def order(self) -> tuple[int, ...]:
        """Node indices in the order of computation: as created, the last one last."""
        return (*(index for index in range(len(self.nodes)) if index != self.last), self.last)


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell at a place: ``inputs`` are the outputs it takes as s0 and s1 (-1 the stem, k cell k).

    A reduction halves the resolution and doubles the channels. A residual cell adds its s1 to its output.
    """

    cell: str
    reduction: bool
    inputs: tuple[int, int]
    residual: bool = False


@dataclass(frozen=True)
class Architecture:
    """A whole network: ``input`` is (channels, height, width) of an image, ``channels`` those of the first cells.

    Raises:
        InputError: the parts do not fit together; the text says where.
    """

    input: tuple[int, int, int]
    classes: int
    channels: int
    stem: str
    cells: Mapping[str, Cell] = field(hash=False)
    layout: tuple[Placed, ...]

    def __post_init__(self) -> None:
        from archsearch.arch.shapes import trace  # shapes are worked out from a description

        object.__setattr__(self, "input", tuple(self.input))
        object.__setattr__(self, "layout", tuple(self.layout))
        object.__setattr__(self, "cells", MappingProxyType(dict(self.cells)))
        for axis, size in zip(("channels", "height", "width"), as_list(self.input, "input", 3), strict=True):
            as_int(size, f"input: {axis}", 1)
        as_int(self.classes, "classes", 2)
        as_int(self.channels, "channels", 1)
        if self.stem not in STEMS:
            raise wrong("stem", " or ".join(STEMS), self.stem)
        for name in self.cells:
            if not _NAME.fullmatch(name):
                raise wrong("cells", "names of letters, digits and underscores", name)
        trace(self)
        if unused := set(self.cells) - {placed.cell for placed in self.layout}:
            raise InputError(f"cells: {sorted(unused)} stand nowhere in the layout; remove them")

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture.from_json, (self.to_json(),)

    # -------------------------------------------------------------------------------------------------------- formats
    def to_json(self) -> dict[str, JSON]:
        """Plain lists and dictionaries, cells sorted by name."""
        cells = {
            name: {
                "nodes": [[[edge.source, edge.op] for edge in node.edges] for node in cell.nodes],
                "last": cell.last,
                "post_op": cell.post_op,
            }
            for name, cell in sorted(self.cells.items())
        }
        layout = [
            {"cell": p.cell, "reduction": p.reduction, "inputs": list(p.inputs), "residual": p.residual} for p in self.layout
        ]
        return {
            "family": FAMILY,
            "input": list(self.input),
            "classes": self.classes,
            "channels": self.channels,
            "stem": self.stem,
            "cells": cells,
            "layout": layout,
        }

    @classmethod
    def from_json(cls, data: JSON) -> Architecture:
        """The architecture of ``to_json``'s data.

        Raises:
            InputError: something is missing, unknown, of the wrong kind or does not fit; the text says where.
        """
        record = as_record(data, "architecture", _KEYS)
        if record["family"] != FAMILY:
            raise wrong("family", repr(FAMILY), record["family"])
        sizes = [as_int(size, f"input[{i}]", 1) for i, size in enumerate(as_list(record["input"], "input", 3))]
        return cls(
            input=(sizes[0], sizes[1], sizes[2]),
            classes=as_int(record["classes"], "classes", 2),
            channels=as_int(record["channels"], "channels", 1),
            stem=as_text(record["stem"], "stem"),
            cells={name: _cell(cell, f"cells.{name}") for name, cell in as_mapping(record["cells"], "cells").items()},
            layout=tuple(_placed(item, f"layout[{i}]") for i, item in enumerate(as_list(record["layout"], "layout"))),
        )

    def canonical(self) -> str:
        """The one text of this architecture: sorted keys, no spaces, UTF-8."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS).decode()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def to_yaml(self) -> str:
        """For people: one line an edge list."""
        return yaml.safe_dump(self.to_json(), sort_keys=False, default_flow_style=None, width=120)

    @classmethod
    def from_yaml(cls, text: str) -> Architecture:
        """The architecture of ``to_yaml``'s text.

        Raises:
            InputError: not YAML, or not an architecture.
        """
        try:
            data = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"architecture: this is not YAML: {error}") from error
        return cls.from_json(data)


def _cell(data: JSON, where: str) -> Cell:
    record = as_record(data, where, ("nodes", "last", "post_op"))
    nodes = tuple(_node(node, f"{where}.nodes[{i}]") for i, node in enumerate(as_list(record["nodes"], f"{where}.nodes")))
    with located(where):
        return Cell(nodes, as_int(record["last"], "last", 0), as_text(record["post_op"], "post_op"))


def _node(data: JSON, where: str) -> Node:
    if type(data) is list and set(map(type, data)) == {list}:
        with suppress(ValueError, TypeError):  # what is wrong with it is said below
            return _same_node(tuple(map(tuple, data)))
    edges = []
    for j, pair in enumerate(as_list(data, where)):
        with located(f"{where}[{j}]"):
            source, op = (as_text(item, "edge") for item in as_list(pair, "edge", 2))
            edges.append(Edge(source, op))
    with located(where):
        return Node(tuple(edges))


@lru_cache(maxsize=4096)
def _same_node(pairs: tuple[tuple[str, str], ...]) -> Node:
    """A node made before, if there was one: an architecture has all nodes but one from its parent."""
    return Node(tuple(Edge(source, op) for source, op in pairs))


def _placed(data: JSON, where: str) -> Placed:
    record = as_record(data, where, ("cell", "reduction", "inputs", "residual"), optional=("residual",))
    pair = as_list(record["inputs"], f"{where}.inputs", 2)
    inputs = [as_int(item, f"{where}.inputs[{i}]", -1) for i, item in enumerate(pair)]
    return Placed(
        cell=as_text(record["cell"], f"{where}.cell"),
        reduction=as_flag(record["reduction"], f"{where}.reduction"),
        inputs=(inputs[0], inputs[1]),
        residual=as_flag(record.get("residual", False), f"{where}.residual"),
    )
