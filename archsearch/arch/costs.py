"""What an architecture costs, from its description alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from archsearch.arch.counting import Cost, conv_cost, linear_cost, norm_cost, plain_cost
from archsearch.arch.description import Architecture, Cell, Placed
from archsearch.arch.operations import Operation, operation, reduce_cost
from archsearch.arch.shapes import PlacedShape, trace


def cost(arch: Architecture) -> Cost:
    """Multiply-adds for one image, parameters, activation bytes for one image (see `Cost`), without an auxiliary tower."""
    shapes = trace(arch)
    edges = {name: _edges(cell) for name, cell in arch.cells.items()}
    total, inputs = Cost(), arch.input[0]
    for i, shape in enumerate(shapes.stem):
        between = plain_cost(inputs, shapes.stem[i - 1].size) if i else Cost()
        total += between + conv_cost(inputs, shape.channels, 3, shape.size) + norm_cost(shape.channels, shape.size)
        inputs = shape.channels
    for placed, cell_shape in zip(arch.layout, shapes.cells, strict=True):
        total += _cell_cost(arch.cells[placed.cell], edges[placed.cell], placed, cell_shape)
    out = shapes.cells[-1].out
    total += plain_cost(out.channels, out.size) + plain_cost(out.channels, (1, 1))  # ReLU and global pool
    return total + linear_cost(out.channels, arch.classes)


def _edges(cell: Cell) -> Counter[tuple[str, bool]]:
    """How many edges of each operation read an input of the cell (True), and how many a node (False)."""
    return Counter((edge.op, edge.source in ("s0", "s1")) for node in cell.nodes for edge in node.edges)


@lru_cache(maxsize=4096)
def _operation_cost(operation: Operation, channels: int, stride: int, size: tuple[int, int]) -> Cost:
    return operation.cost(channels, stride, size, True)


def _cell_cost(cell: Cell, edges: Mapping[tuple[str, bool], int], placed: Placed, shape: PlacedShape) -> Cost:
    channels = shape.inner.channels
    total = Cost()
    for incoming in (shape.s0, shape.s1):
        if incoming.level < shape.inner.level:
            total += reduce_cost(incoming.channels, channels, incoming.size)
        else:
            total += plain_cost(incoming.channels, incoming.size) + conv_cost(incoming.channels, channels, 1, shape.inner.size)
            total += norm_cost(channels, shape.inner.size)
    for (op, outside), number in edges.items():
        size = shape.inner.size if outside else shape.node.size
        total += _operation_cost(operation(op), channels, 2 if placed.reduction and outside else 1, size) * number
    if cell.post_op == "proj_channels":
        total += conv_cost(channels, channels, 1, shape.node.size) * len(cell.nodes)
        total += norm_cost(channels, shape.node.size)
    return total
