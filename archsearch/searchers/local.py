"""Local search on the frontier: every neighbour of every member of the Pareto front, until none is left untried.

Source: Pareto local search (Paquete, Chiarandini and Stützle, "Pareto Local Optimum Sets in the Biobjective Traveling
Salesman Problem", 2004) over the neighbourhood of one edit; with one objective, local search is as good as the best on the
benchmarks of White, Nolen and Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021
(arXiv 2005.02960).
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field, PositiveInt

from archsearch.arch import Architecture
from archsearch.jobs import Job, Stage, derive_seed
from archsearch.searchers.direct import DirectSearcher
from archsearch.searchers.edits import Edit, edits
from archsearch.searchers.pool import PoolPoint
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.surroundings import Surroundings, seed_list


class LocalConfig(GrowthConfig):
    """The ``search`` section with ``name: local``."""

    name: Literal["local"] = Field("local", description="every neighbour, one edit away, of the frontier's members")
    n_nodes: PositiveInt = Field(1, description="nodes a cell of the seeds, and fewest of any cell")
    max_nodes: PositiveInt = Field(5, description="most nodes that edits may reach; the seeds have n_nodes")


class LocalSearch(DirectSearcher):
    """The front's members take turns: next is a neighbour of the one with the fewest neighbours trained, cheapest first.

    A member's neighbours come in an order of its own, drawn once, so that no kind of edit is tried before the others. All
    are trained from scratch.
    """

    Config: ClassVar[type[GrowthConfig]] = LocalConfig

    def __init__(self, config: GrowthConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self._waiting: dict[int, deque[Edit]] = {}  # by point: its neighbours from the first untried one on

    @overrides
    def _seeds(self) -> list[Architecture]:
        return seed_list(self.config.model_copy(update={"max_nodes": self.config.n_nodes}), self.around)

    @overrides
    def _propose(self) -> Job | None:
        members = [self.pool.points[id_] for id_ in self.pool.frontier.front()]
        for member in sorted(members, key=lambda point: (point.count, point.cost)):
            child = self._next_neighbour(member)
            if child is not None:
                return self._training(child, Stage.SEARCH_TRAINED, "seed_train", member.id, None)
        return None

    def _next_neighbour(self, member: PoolPoint) -> Architecture | None:
        """The first neighbour that was not tried; those before it will never fit again, so they are dropped."""
        waiting = self._waiting.get(member.id)
        arch = member.architecture
        if waiting is None:
            every = [edit for kind in edits(arch, self.config).values() for edit in kind]
            order = np.random.default_rng(derive_seed(self.around.seed, "neighbours", member.id)).permutation(len(every))
            waiting = self._waiting[member.id] = deque(every[i] for i in order)
        while waiting:
            child = replace(arch, **waiting[0])
            if self.fits(child):
                return child
            waiting.popleft()
        return None
