"""Growth: the baseline that attaches shortcuts chosen at random, with the same warm start as Petridish."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field

from archsearch.arch import Architecture, Edge, grow_node, growth_inputs
from archsearch.jobs import Job, Stage
from archsearch.searchers.direct import DirectSearcher
from archsearch.searchers.pool import PoolPoint
from archsearch.searchers.section import GrowthConfig

#: Draws from one parent before the next parent is tried.
MOST_DRAWS = 32


class GrowthSearchConfig(GrowthConfig):
    """The ``search`` section with ``name: growth``."""

    name: Literal["growth"] = Field("growth", description="random shortcuts, warm-started: the baseline for petridish")


class Growth(DirectSearcher):
    """A random set of (input, operation) pairs on a sampled parent, trained at once."""

    Config: ClassVar[type[GrowthConfig]] = GrowthSearchConfig

    @overrides
    def _propose(self) -> Job | None:
        parent = self._sample()
        rng = self.rng("edges")
        others = [] if parent is None else [point for point in self.pool.candidates() if point is not parent]
        for point in [parent, *others] if parent else []:
            child = self._draw(point, rng)
            if child is not None:
                arch, pairs = child
                inherit = None
                if self.around.settings["post_train"].get("warm_start", "parent") == "parent":
                    inherit = {
                        "kind": "node",
                        "parent": point.arch,
                        "weights": point.weights,
                        "candidates": None,
                        "edges": {name: [[edge.source, edge.op, 1.0] for edge in chosen] for name, chosen in pairs.items()},
                    }
                return self._training(arch, Stage.SEARCH_TRAINED, "post_train", point.id, inherit)
        return None

    def _draw(self, point: PoolPoint, rng: np.random.Generator) -> tuple[Architecture, dict[str, list[Edge]]] | None:
        """An untried child of a point, or None after ``MOST_DRAWS`` draws."""
        parent = Architecture.from_json(point.arch)
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
