"""The shape of every map in a network, from its description; the only place that knows how resolution and channels go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.arch.counting import strided
from archsearch.jobs import InputError

if TYPE_CHECKING:
    from archsearch.arch.description import Architecture


@dataclass(frozen=True, slots=True)
class Shape:
    """A map of one image; ``level`` counts the halvings since the input."""

    channels: int
    size: tuple[int, int]
    level: int


@dataclass(frozen=True, slots=True)
class PlacedShape:
    """The maps around one placed cell.

    ``s0`` and ``s1`` as they come in, ``inner`` both after preprocessing, ``node`` every node, ``out`` the cell's output.
    """

    s0: Shape
    s1: Shape
    inner: Shape
    node: Shape
    out: Shape


@dataclass(frozen=True, slots=True)
class Trace:
    """``stem``: the maps after each of its convolutions, the last being its output."""

    stem: tuple[Shape, ...]
    cells: tuple[PlacedShape, ...]


def trace(arch: Architecture) -> Trace:
    """Every shape of the network.

    Raises:
        InputError: two parts do not fit, or a map of one pixel would be halved; the text says where.
    """
    if not arch.layout:
        raise InputError("layout: it needs at least one cell")
    stem = _stem(arch)
    outputs: list[Shape] = [stem[-1]]  # outputs[k + 1] is cell k's
    channels = arch.channels
    cells = []
    for k, placed in enumerate(arch.layout):
        where = f"layout[{k}]"
        cell = arch.cells.get(placed.cell)
        if cell is None:
            raise InputError(f"{where}: no cell is called {placed.cell!r}; known: {', '.join(sorted(arch.cells))}")
        for item in placed.inputs:
            if not -1 <= item < k:
                raise InputError(f"{where}: it reads output {item}, but only -1 (the stem) to {k - 1} come before it")
        s0, s1 = (outputs[item + 1] for item in placed.inputs)
        if not 0 <= s1.level - s0.level <= 1:
            raise InputError(
                f"{where}: s0 {s0.size} must have the resolution of s1 {s1.size} or twice that; change inputs {placed.inputs}"
            )
        channels *= 2 if placed.reduction else 1
        inner = Shape(channels, s1.size, s1.level)
        node = _halved(inner, channels, where) if placed.reduction else inner
        out = Shape(channels * (len(cell.nodes) if cell.post_op == "concat_channels" else 1), node.size, node.level)
        if placed.residual and (placed.reduction or out != s1):
            raise InputError(f"{where}: a residual cell must give the shape of its s1 {s1}, and gives {out}")
        cells.append(PlacedShape(s0, s1, inner, node, out))
        outputs.append(out)
    return Trace(stem, tuple(cells))


def _stem(arch: Architecture) -> tuple[Shape, ...]:
    from archsearch.arch.description import STEMS

    shape = Shape(arch.input[0], arch.input[1:], 0)
    halvings = STEMS[arch.stem]
    if halvings == 0:
        return (Shape(arch.channels, shape.size, 0),)
    if halvings > 1 and arch.channels % 2:
        raise InputError(f"channels: the stem {arch.stem} starts with half of them, so {arch.channels} must be even")
    shapes = []
    for i in range(halvings):
        first_of_many = i == 0 and halvings > 1
        shape = _halved(shape, arch.channels // 2 if first_of_many else arch.channels, "stem")
        shapes.append(shape)
    return tuple(shapes)


def _halved(shape: Shape, channels: int, where: str) -> Shape:
    if shape.size == (1, 1):
        raise InputError(
            f"{where}: the resolution would fall below 1 pixel; use fewer reductions, a stem without stride or larger images"
        )
    return Shape(channels, strided(shape.size, 2), shape.level + 1)
