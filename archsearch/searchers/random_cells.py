"""Architectures drawn at random from the space of a cell search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archsearch.arch import Architecture, Cell, Node, seed_architecture, seed_combinations
from archsearch.jobs import InputError
from archsearch.searchers.edits import pairs
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.surroundings import Surroundings

#: Draws for each architecture that is wanted, before fewer have to do.
DRAWS_EACH = 64


def random_architecture(config: GrowthConfig, around: Surroundings, rng: np.random.Generator) -> Architecture:
    """One architecture: cells, reductions and width drawn evenly from what fits, then each cell by itself.

    A cell has ``n_nodes`` to ``max_nodes`` nodes; a node sums ``edges_per_node`` different (input, operation) pairs drawn
    evenly, without ``none``, from both inputs and the nodes before it (all of them, if there are fewer).
    """
    macros = seed_combinations(
        config.n_cells, config.max_cells, config.n_reductions, config.max_reductions, 1, 1, config.widths
    )
    seed = seed_architecture(
        around.input,
        around.classes,
        post_op=config.post_op,
        share_cells=config.share_cells,
        stem=config.stem,
        **macros[rng.integers(len(macros))],
    )
    return replace(seed, cells={name: _random_cell(config, rng) for name in sorted(seed.cells)})


def _random_cell(config: GrowthConfig, rng: np.random.Generator) -> Cell:
    nodes: list[Node] = []
    for _ in range(rng.integers(config.n_nodes, config.max_nodes, endpoint=True)):
        choices = pairs(["s0", "s1", *(f"n{i}" for i in range(len(nodes)))], config)
        chosen = rng.choice(len(choices), min(config.edges_per_node, len(choices)), replace=False)
        nodes.append(Node(tuple(choices[i] for i in chosen)))
    return Cell(tuple(nodes), len(nodes) - 1, config.post_op)


def random_population(config: GrowthConfig, around: Surroundings, size: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to ``size`` different architectures within the limits, in the order of drawing; fewer if the space is that small.

    Raises:
        InputError: none of the draws is within the limits.
    """
    found: dict[str, Architecture] = {}
    for _ in range(size * DRAWS_EACH):
        arch = random_architecture(config, around, rng)
        if config.admits(arch):
            found.setdefault(arch.hash, arch)
        if len(found) == size:
            break
    if not found:
        raise InputError(
            f"search: none of {size * DRAWS_EACH} random architectures is within {config.limits}; "
            "raise the limit, or lower init_node_ch, n_cells, n_nodes or max_nodes"
        )
    return list(found.values())
