"""Architectures from a few numbers: seeds, their combinations, and the deeper forms of a found one for its final training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archsearch.arch.description import Architecture, Cell, Edge, Node, Placed
from archsearch.jobs import InputError


def reduction_positions(cells: int, reductions: int) -> list[int]:
    """Where the reductions stand among ``cells``: reduction i of R at floor(cells * (i + 1) / (R + 1)).

    Raises:
        InputError: the pattern normal, reduction, normal, reduction, ..., normal does not fit.
    """
    if cells < 1 or reductions < 0 or cells < 2 * reductions + 1:
        raise InputError(f"{reductions} reductions need at least {2 * reductions + 1} cells, not {cells}")
    return [cells * (i + 1) // (reductions + 1) for i in range(reductions)]


def usual_inputs(position: int) -> tuple[int, int]:
    """The outputs that a cell reads: the one before the last, and the last (-1 is the stem)."""
    return max(position - 2, -1), position - 1


def seed_architecture(
    input: Sequence[int],
    classes: int,
    *,
    cells: int,
    reductions: int,
    nodes: int,
    channels: int,
    post_op: str = "proj_channels",
    share_cells: bool = True,
    stem: str = "conv3x3",
) -> Architecture:
    """A seed: each node has a 3x3 separable convolution of the node before it (the first: of s1) and a skip from s0.

    Args:
        input: (channels, height, width) of an image.
        share_cells: one cell "normal" and one "reduction" for all places, which therefore grow alike; otherwise one cell per
            place, "cell_00", "cell_01", ..., each growing on its own.

    Raises:
        InputError: too few cells for the reductions, or images too small for them.
    """
    at = reduction_positions(cells, reductions)
    if nodes < 1:
        raise InputError(f"a cell needs at least one node, not {nodes}")
    ladder = tuple(Node((Edge(f"n{i - 1}" if i else "s1", "sep_conv_3x3"), Edge("s0", "skip_connect"))) for i in range(nodes))
    cell = Cell(ladder, last=nodes - 1, post_op=post_op)
    names = [("reduction" if k in at else "normal") if share_cells else f"cell_{k:02d}" for k in range(cells)]
    return Architecture(
        input=(input[0], input[1], input[2]),
        classes=classes,
        channels=channels,
        stem=stem,
        cells={name: cell for name in names},
        layout=tuple(Placed(name, k in at, usual_inputs(k)) for k, name in enumerate(names)),
    )


def seed_combinations(
    n_cells: int, max_cells: int, n_reductions: int, max_reductions: int, n_nodes: int, max_nodes: int, channels: Sequence[int]
) -> list[dict[str, Any]]:
    """Arguments of `seed_architecture` for every combination in the inclusive ranges where the reductions fit, small first.

    Small means cells * nodes * channels**2, to which multiply-adds are roughly proportional whatever the reductions.

    Raises:
        InputError: a range is empty, or no combination fits.
    """
    for name, low, high, least in (
        ("cells", n_cells, max_cells, 1),
        ("reductions", n_reductions, max_reductions, 0),
        ("nodes", n_nodes, max_nodes, 1),
    ):
        if not least <= low <= high:
            raise InputError(f"n_{name} = {low} and max_{name} = {high} must satisfy {least} <= n_{name} <= max_{name}")
    if not channels or min(channels) < 1:
        raise InputError(f"init_node_ch must be one or more numbers of at least 1, not {list(channels)}")
    found = [
        {"cells": cells, "reductions": reductions, "nodes": nodes, "channels": width}
        for cells, reductions, nodes, width in itertools.product(
            range(n_cells, max_cells + 1),
            range(n_reductions, max_reductions + 1),
            range(n_nodes, max_nodes + 1),
            sorted(set(channels)),
        )
        if cells >= 2 * reductions + 1
    ]
    if not found:
        raise InputError(
            f"no seed fits: {n_reductions} reductions need at least {2 * n_reductions + 1} cells, and max_cells is {max_cells}"
        )
    return sorted(found, key=lambda kw: (kw["cells"] * kw["nodes"] * kw["channels"] ** 2, *kw.values()))


def scale_cells(arch: Architecture, scale: float, max_cells: int) -> Architecture:
    """The architecture with its number of cells multiplied, for a long final training from scratch.

    The count is rounded and at most ``max_cells``; the reductions keep their number and stand evenly again. Each new place
    repeats the cell that stood at the same share of the normal places.

    Raises:
        InputError: ``max_cells`` has no room for the reductions.
    """
    if not scale > 0:
        raise InputError(f"cell_count_scale must be above 0, not {scale}")
    normals = [placed for placed in arch.layout if not placed.reduction]
    reductions = [placed for placed in arch.layout if placed.reduction]
    wanted = max(round(len(arch.layout) * scale), 2 * len(reductions) + 1)
    count = min(wanted, max_cells)
    if count == len(arch.layout):
        return arch
    at = reduction_positions(count, len(reductions))
    if not normals:
        raise InputError("an architecture of reductions only cannot be scaled: there is no normal cell to repeat")
    rest = count - len(reductions)
    queue = {True: iter(reductions), False: iter(normals[j * len(normals) // rest] for j in range(rest))}
    layout = tuple(replace(next(queue[k in at]), inputs=usual_inputs(k)) for k in range(count))
    used = {placed.cell for placed in layout}
    return replace(arch, layout=layout, cells={name: cell for name, cell in arch.cells.items() if name in used})


def summary(arch: Architecture) -> str:
    """A few letters for tables: "3c 1r 2n 8ch": 3 cells, 1 a reduction, 2 nodes a cell ("2-4n" if they differ), 8 channels."""
    counts = sorted({len(cell.nodes) for cell in arch.cells.values()})
    nodes = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    reductions = sum(placed.reduction for placed in arch.layout)
    return f"{len(arch.layout)}c {reductions}r {nodes}n {arch.channels}ch"
