"""Growth: the baseline that attaches shortcuts chosen at random, with the same warm start as Petridish."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field

from archsearch.arch import Architecture, Edge, grow_node, growth_inputs
from archsearch.jobs import Job
from archsearch.searchers.direct import DirectSearcher
from archsearch.searchers.grower import Grower, GrowingConfig
from archsearch.searchers.pool import PoolPoint
from archsearch.searchers.section import GrowthConfig

#: Draws from one parent before the next parent is tried.
MOST_DRAWS = 32


class GrowthSearchConfig(GrowingConfig):
    """The ``search`` section with ``name: growth``."""

    name: Literal["growth"] = Field("growth", description="random shortcuts, warm-started: the baseline for petridish")


class Growth(Grower, DirectSearcher):
    """A random set of (input, operation) pairs on a sampled parent, trained at once."""

    Config: ClassVar[type[GrowthConfig]] = GrowthSearchConfig

    @overrides
    def _propose(self) -> Job | None:
        picked = self._pick()
        if picked is None:
            return None
        parent, move, arch = picked
        if arch is not None:
            return self._moved(parent, move, arch)
        rng = self.rng("edges")
        others = [point for point in self.pool.candidates() if point is not parent]
        for point in [parent, *others]:
            child = self._draw(point, rng)
            if child is not None:
                arch, pairs = child
                even = {name: [[edge.source, edge.op, 1.0] for edge in chosen] for name, chosen in pairs.items()}
                return self._child_training(arch, point, "node", point.id, {"candidates": None, "edges": even})
        moved = (self._moved(point, move, arch) for point, move, arch in self._options() if arch is not None)
        return next(moved, None)

    def _draw(self, point: PoolPoint, rng: np.random.Generator) -> tuple[Architecture, dict[str, list[Edge]]] | None:
        """An untried child of a point, or None after ``MOST_DRAWS`` draws."""
        parent = point.architecture
        ops = [name for name in self.config.primitives if name != "none"]
        pairs = {name: [Edge(s, op) for s in growth_inputs(parent, name) for op in ops] for name in parent.cells}
        for _ in range(MOST_DRAWS):
            chosen = {}
            for name, choices in pairs.items():
                size = min(self.config.edges_per_node, len(choices))
                chosen[name] = [choices[i] for i in sorted(rng.choice(len(choices), size, replace=False))]
            child = grow_node(parent, chosen)
            if self.fits(child):
                return child, chosen
        return None
