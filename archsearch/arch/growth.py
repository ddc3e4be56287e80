"""Growth: a node, width, depth. Each gives a new description; the weights that go with it are in ``archsearch.arch.build``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from archsearch.arch.description import Architecture, Cell, Edge, Node, Placed
from archsearch.arch.operations import operation_names
from archsearch.jobs import InputError

_PER_PLACE = re.compile(r"cell_(\d+)")


def growth_inputs(arch: Architecture, cell_name: str) -> tuple[str, ...]:
    """What a new node of the cell may read: both inputs and every node but the last, in the order of creation.

    Raises:
        InputError: no such cell, or its post-op cannot take a node without changing the cell's channels.
    """
    cell = _growing(arch, cell_name)
    return ("s0", "s1", *(f"n{index}" for index in range(len(cell.nodes)) if index != cell.last))


def growth_candidates(arch: Architecture, cell_name: str, operations: Sequence[str] | None = None) -> tuple[Edge, ...]:
    """Every edge that a new node of the cell could have, inputs first and operations second: the order that breaks ties.

    Args:
        operations: names of operations; by default all that are known, the user's own included.
    """
    names = operation_names() if operations is None else operations
    return tuple(Edge(source, op) for source in growth_inputs(arch, cell_name) for op in names)


def grow_node(arch: Architecture, new: Mapping[str, Sequence[Edge]]) -> Architecture:
    """The architecture with one more node in each named cell, made of the given edges and standing before the cell's last node.

    Raises:
        InputError: no cell is named, a cell does not exist or cannot grow, or an edge reads what the new node cannot.
    """
    if not new:
        raise InputError("nothing to grow: name at least one cell and its edges")
    cells = dict(arch.cells)
    for name, edges in new.items():
        inputs = growth_inputs(arch, name)
        for edge in edges:
            if edge.source not in inputs:
                raise InputError(f"a new node of cell {name!r} cannot read {edge.source!r}; it may read {', '.join(inputs)}")
        cells[name] = replace(cells[name], nodes=(*cells[name].nodes, Node(tuple(edges))))
    return replace(arch, cells=cells)


def widen(arch: Architecture, factor: int) -> Architecture:
    """The architecture with ``factor`` times the channels everywhere; `widened_state` gives it the parent's function.

    Raises:
        InputError: the factor is not a whole number of at least 2.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
        raise InputError(f"width grows by a whole factor of at least 2, not {factor!r}")
    return replace(arch, channels=arch.channels * factor)


def deepen(arch: Architecture, position: int) -> Architecture:
    """The architecture with a residual normal cell inserted after cell ``position``.

    `deepened_state` gives it the parent's function. The new cell reads what cell ``position`` had as s1, and cell
    ``position``'s output. Whoever read that output as s1 (the classifier too, after the last cell) reads the new cell's
    instead; whoever read it as s0 still does. The new cell is the normal cell that stands at the place, or else the nearest
    before it, or else after it; where each place has a cell of its own ("cell_NN"), a copy under the next free number.

    Raises:
        InputError: no such place, no normal cell to repeat, or the cells concatenate (there is no batch norm to silence).
    """
    if not 0 <= position < len(arch.layout):
        raise InputError(f"a cell can be inserted after positions 0 to {len(arch.layout) - 1}, not {position}")
    places = [*range(position, -1, -1), *range(position + 1, len(arch.layout))]
    name = next((arch.layout[k].cell for k in places if not arch.layout[k].reduction), None)
    if name is None:
        raise InputError("there is no normal cell to repeat: the architecture has reductions only")
    cell = _growing(arch, name)
    cells = dict(arch.cells)
    if _PER_PLACE.fullmatch(name):
        numbers = [int(found[1]) for found in map(_PER_PLACE.fullmatch, cells) if found]
        name = f"cell_{max(numbers) + 1:02d}"
        cells[name] = cell

    def moved(output: int, is_s1: bool) -> int:
        return output + 1 if output > position or (output == position and is_s1) else output

    inserted = Placed(name, reduction=False, inputs=(arch.layout[position].inputs[1], position), residual=True)
    later = (replace(p, inputs=(moved(p.inputs[0], False), moved(p.inputs[1], True))) for p in arch.layout[position + 1 :])
    return replace(arch, cells=cells, layout=(*arch.layout[: position + 1], inserted, *later))


def _growing(arch: Architecture, name: str) -> Cell:
    cell = arch.cells.get(name)
    if cell is None:
        raise InputError(f"no cell is called {name!r}; known: {', '.join(sorted(arch.cells))}")
    if cell.post_op != "proj_channels":
        raise InputError(f"cell {name!r} cannot grow: its post_op is {cell.post_op}; use proj_channels")
    return cell
