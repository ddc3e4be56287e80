"""Modules from architectures: the part of ``archsearch.arch`` that imports torch."""

from archsearch.arch.modules.network import CellModule, Network, build
from archsearch.arch.modules.weights import (
    candidate_prefix,
    candidate_projection,
    deepened_state,
    grown_weights,
    inherit,
    widened_state,
)

__all__ = [
    "CellModule",
    "Network",
    "build",
    "candidate_prefix",
    "candidate_projection",
    "deepened_state",
    "grown_weights",
    "inherit",
    "widened_state",
]
