"""Architectures as immutable data: what they are, cost and become. ``archsearch.arch.build`` makes modules of them."""

from archsearch.arch.costs import cost
from archsearch.arch.counting import Cost
from archsearch.arch.description import Architecture, Cell, Edge, Node, Placed
from archsearch.arch.growth import deepen, grow_node, growth_candidates, growth_inputs, widen
from archsearch.arch.operations import PRIMITIVES, operation_names, register_operation
from archsearch.arch.seeds import scale_cells, seed_architecture, seed_combinations, summary

__all__ = [
    "PRIMITIVES",
    "Architecture",
    "Cell",
    "Cost",
    "Edge",
    "Node",
    "Placed",
    "cost",
    "deepen",
    "grow_node",
    "growth_candidates",
    "growth_inputs",
    "operation_names",
    "register_operation",
    "scale_cells",
    "seed_architecture",
    "seed_combinations",
    "summary",
    "widen",
]
