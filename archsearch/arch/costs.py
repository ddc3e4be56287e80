"""What an architecture costs, from its description alone."""

from __future__ import annotations

from archsearch.arch.counting import Cost, conv_cost, linear_cost, norm_cost, plain_cost
from archsearch.arch.description import Architecture, Cell, Placed
from archsearch.arch.operations import operation, reduce_cost
from archsearch.arch.shapes import PlacedShape, trace


def cost(arch: Architecture) -> Cost:
    """Multiply-adds for one image, parameters, activation bytes for one image (see `Cost`), without an auxiliary tower."""
    shapes = trace(arch)
    total, inputs = Cost(), arch.input[0]
    for i, shape in enumerate(shapes.stem):
        between = plain_cost(inputs, shapes.stem[i - 1].size) if i else Cost()
        total += between + conv_cost(inputs, shape.channels, 3, shape.size) + norm_cost(shape.channels, shape.size)
        inputs = shape.channels
    for placed, cell_shape in zip(arch.layout, shapes.cells, strict=True):
        total += _cell_cost(arch.cells[placed.cell], placed, cell_shape)
    out = shapes.cells[-1].out
    total += plain_cost(out.channels, out.size) + plain_cost(out.channels, (1, 1))  # ReLU and global pool
    return total + linear_cost(out.channels, arch.classes)


def _cell_cost(cell: Cell, placed: Placed, shape: PlacedShape) -> Cost:
    channels = shape.inner.channels
    total = Cost()
    for incoming in (shape.s0, shape.s1):
        if incoming.level < shape.inner.level:
            total += reduce_cost(incoming.channels, channels, incoming.size)
        else:
            total += plain_cost(incoming.channels, incoming.size) + conv_cost(incoming.channels, channels, 1, shape.inner.size)
            total += norm_cost(channels, shape.inner.size)
    for node in cell.nodes:
        for edge in node.edges:
            outside = edge.source in ("s0", "s1")
            size = shape.inner.size if outside else shape.node.size
            total += operation(edge.op).cost(channels, 2 if placed.reduction and outside else 1, size, True)
    if cell.post_op == "proj_channels":
        for _ in cell.nodes:
            total += conv_cost(channels, channels, 1, shape.node.size)
        total += norm_cost(channels, shape.node.size)
    return total
