"""Ways to grow a trained network without changing what it computes: a node, width, depth, or just more training.

Sources: nodes, Hu et al. 2019 (arXiv 1905.13360); width and depth, Net2Net (Chen et al. 2016, arXiv 1511.05641).
"""

from __future__ import annotations

from typing import Literal

from archsearch.arch import Architecture, deepen, widen
from archsearch.jobs import InputError

#: ``node``: shortcuts that the searcher chooses. The others need no choosing and are trained at once.
MoveName = Literal["node", "width", "depth", "train"]

#: How the child of a move takes over its parent's weights (``inherit.kind`` of a training).
INHERIT = {"node": "node", "width": "widen", "depth": "deepen", "train": "same"}

WIDTH_FACTOR = 2


def children(arch: Architecture, move: str) -> list[Architecture]:
    """What a move other than ``node`` can make of an architecture, in a fixed order; nothing where it does not apply."""
    if move == "width":
        return [widen(arch, WIDTH_FACTOR)]
    if move == "train":
        return [arch]
    deeper = {}
    for position in range(len(arch.layout)):
        try:
            child = deepen(arch, position)
        except InputError:  # there is no normal cell to repeat, or it cannot be silenced
            return []
        deeper[child.hash] = child
    return list(deeper.values())
