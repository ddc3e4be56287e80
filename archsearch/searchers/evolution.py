"""Regularised evolution, aimed at the frontier of (cost, error).

The population, its removal by age and the single mutation are those of Real et al., "Regularized Evolution for Image
Classifier Architecture Search", AAAI 2019 (arXiv 1802.01548), algorithm 1. There the tournament is won by the best
accuracy; here, where both cost and error count, by the rule of NSGA-II (Deb et al., "A Fast and Elitist Multiobjective
Genetic Algorithm", IEEE Trans. Evol. Comput. 6(2), 2002): the lower non-domination rank, then the larger crowding distance.
NSGA-Net (Lu et al., GECCO 2019, arXiv 1810.03522) selects parents for (FLOPs, error) in this way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field, PositiveInt, model_validator

from archsearch.arch import Architecture
from archsearch.frontier import pareto_front
from archsearch.jobs import Job, Stage, derive_seed
from archsearch.searchers.direct import MOST_DRAWS, DirectSearcher
from archsearch.searchers.edits import edits
from archsearch.searchers.pool import PoolPoint
from archsearch.searchers.random_cells import random_population
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.surroundings import Surroundings


class EvolutionConfig(GrowthConfig):
    """The ``search`` section with ``name: evolution``."""

    name: Literal["evolution"] = Field("evolution", description="regularised evolution: the oldest goes, a tournament breeds")
    n_nodes: PositiveInt = Field(1, description="fewest nodes of a cell")
    max_nodes: PositiveInt = Field(5, description="most nodes of a cell")
    population: PositiveInt = Field(32, description="architectures alive; as many random ones are the start")
    sample_size: PositiveInt = Field(8, description="members drawn for a tournament; larger: greedier")

    @model_validator(mode="after")
    def _sample_fits(self) -> EvolutionConfig:
        if self.sample_size > self.population:
            raise ValueError(f"sample_size = {self.sample_size} is above population = {self.population}")
        return self


class Evolution(DirectSearcher):
    """A random population; then always one mutation of a tournament's winner, trained from scratch, for the oldest's place."""

    Config: ClassVar[type[GrowthConfig]] = EvolutionConfig
    config: EvolutionConfig

    def __init__(self, config: EvolutionConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self.alive: deque[int] = deque(maxlen=config.population)  # points in the order they were trained: the oldest first

    @overrides
    def _seeds(self) -> list[Architecture]:
        rng = np.random.default_rng(derive_seed(self.around.seed, "population"))
        return random_population(self.config, self.around, self.config.population, rng)

    @overrides
    def _joined(self, point: PoolPoint) -> None:
        super()._joined(point)
        self.alive.append(point.id)

    @overrides
    def _propose(self) -> Job | None:
        members = [self.pool.points[id_] for id_ in self.alive if id_ not in self.pool.out]
        if not members:
            return None
        rng = self.rng("tournament")
        order = selection_order([(point.cost, point.error) for point in members])
        for _ in range(MOST_DRAWS):
            drawn = rng.integers(len(members), size=self.config.sample_size)  # the same member may be drawn twice, as in Real
            parent = members[min(drawn, key=lambda index: order[index])]
            child = self._mutation(parent, rng)
            if child is not None and self.fits(child):
                return self._training(child, Stage.SEARCH_TRAINED, "seed_train", parent.id, None)
        return None

    def _mutation(self, parent: PoolPoint, rng: np.random.Generator) -> Architecture | None:
        """One edit of a kind drawn evenly, drawn evenly among those of its kind."""
        arch = parent.architecture
        possible = [*edits(arch, self.config).values()]
        if not possible:
            return None
        kind = possible[rng.integers(len(possible))]
        return replace(arch, **kind[rng.integers(len(kind))])


def selection_order(points: Sequence[tuple[float, float]]) -> list[int]:
    """The place of each (cost, error) in NSGA-II's order, 0 the best: by rank, then by crowding, then the younger."""
    values = np.array(points, dtype=float)
    left = np.arange(len(values))
    ordered: list[int] = []
    while len(left):
        front = left[pareto_front(values[left])]
        crowding = crowding_distance(values[front])
        ordered += [int(front[i]) for i in np.lexsort((-front, -crowding))]
        left = np.setdiff1d(left, front)
    place = [0] * len(ordered)
    for rank, index in enumerate(ordered):
        place[index] = rank
    return place


def crowding_distance(front: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, m) mutually non-dominated points -> (n,) distance between each point's neighbours, as shares of the front's extent.

    The ends of the front are infinitely far (Deb et al. 2002, section III-B).
    """
    distance = np.zeros(len(front))
    for column in front.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distance
