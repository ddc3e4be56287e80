"""Small edits of an architecture: what evolution draws its mutations from, and what local search looks through.

The kinds: an edge's operation, an edge's input, one edge more or less, one node more or less, the width. The macro (cells
and reductions) stays. Each edit gives a new description, trained from scratch: weights have no place here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from archsearch.arch import Architecture, Cell, Edge, Node
from archsearch.searchers.section import CellSpace

#: What ``dataclasses.replace`` changes in the architecture.
Edit = Mapping[str, Any]


def edits(arch: Architecture, space: CellSpace) -> dict[str, list[Edit]]:
    """Every edit within the space, by kind; kinds that have none are left out. The order is always the same.

    A new node has one edge and stands before the last node. When a node goes, its readers read s1 in its place.
    """
    found: dict[str, list[Edit]] = {}
    for name, cell in sorted(arch.cells.items()):
        for kind, changed in _cell_edits(cell, space):
            found.setdefault(kind, []).append({"cells": {**arch.cells, name: changed}})
    widths = [{"channels": width} for width in sorted(set(space.widths)) if width != arch.channels]
    if widths:
        found["width"] = [*widths]
    return found


def pairs(sources: list[str], space: CellSpace) -> list[Edge]:
    """Every edge from one of the sources with an operation of the space."""
    return [Edge(source, op) for source in sources for op in space.primitives if op != "none"]


def readable(cell: Cell, index: int) -> list[str]:
    """The states that are computed before a node."""
    before = cell.order[: cell.order.index(index)]
    return ["s0", "s1", *(f"n{earlier}" for earlier in before)]


def _cell_edits(cell: Cell, space: CellSpace) -> Iterator[tuple[str, Cell]]:
    for index, node in enumerate(cell.nodes):
        possible = pairs(readable(cell, index), space)
        free = [edge for edge in possible if edge not in node.edges]
        for edge in node.edges:
            rest = tuple(other for other in node.edges if other != edge)
            for new in free:
                if (new.source == edge.source) != (new.op == edge.op):  # one of the two changes, not both
                    yield ("op" if new.source == edge.source else "input"), _with_node(cell, index, (*rest, new))
            if rest:
                yield "fewer_edges", _with_node(cell, index, rest)
        if len(node.edges) < space.edges_per_node:
            for new in free:
                yield "more_edges", _with_node(cell, index, (*node.edges, new))
    if len(cell.nodes) < space.max_nodes:
        for new in pairs(readable(cell, cell.last), space):
            yield "more_nodes", replace(cell, nodes=(*cell.nodes, Node((new,))))
    if len(cell.nodes) > space.n_nodes:
        for index in range(len(cell.nodes)):
            yield "fewer_nodes", _without_node(cell, index)


def _with_node(cell: Cell, index: int, edges: tuple[Edge, ...]) -> Cell:
    return replace(cell, nodes=(*cell.nodes[:index], Node(edges), *cell.nodes[index + 1 :]))


def _without_node(cell: Cell, gone: int) -> Cell:
    """The cell without a node, later ones renumbered. An edge that a reader then has twice is kept once."""
    names = {f"n{i}": f"n{i - (i > gone)}" for i in range(len(cell.nodes))}
    names |= {"s0": "s0", "s1": "s1", f"n{gone}": "s1"}
    nodes = tuple(
        Node(tuple({Edge(names[edge.source], edge.op): None for edge in node.edges}))
        for index, node in enumerate(cell.nodes)
        if index != gone
    )
    last = cell.order[-2] if gone == cell.last else cell.last
    return replace(cell, nodes=nodes, last=last - (last > gone))
