"""Random search: random cells, each trained from scratch. The baseline that every searcher has to beat.

Source: Li and Talwalkar, "Random Search and Reproducibility for Neural Architecture Search", UAI 2019 (arXiv 1902.07638).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field, PositiveInt

from archsearch.arch import Architecture
from archsearch.jobs import Job, Stage, derive_seed
from archsearch.searchers.direct import MOST_DRAWS, DirectSearcher
from archsearch.searchers.random_cells import random_architecture, random_population
from archsearch.searchers.section import GrowthConfig

#: Architectures drawn when the run is planned, so that ``--dry-run`` can show and time them; the rest follow one by one.
DRAWN_AHEAD = 16


class RandomConfig(GrowthConfig):
    """The ``search`` section with ``name: random``."""

    name: Literal["random"] = Field("random", description="random cells, trained from scratch: the baseline for all")
    n_nodes: PositiveInt = Field(1, description="fewest nodes of a random cell")
    max_nodes: PositiveInt = Field(5, description="most nodes of a random cell")


class RandomSearch(DirectSearcher):
    """Every point is a random architecture without a parent."""

    Config: ClassVar[type[GrowthConfig]] = RandomConfig

    @overrides
    def _seeds(self) -> list[Architecture]:
        rng = np.random.default_rng(derive_seed(self.around.seed, "random"))
        return random_population(self.config, self.around, DRAWN_AHEAD, rng)

    @overrides
    def _propose(self) -> Job | None:
        rng = self.rng("architecture")
        for _ in range(MOST_DRAWS):
            arch = random_architecture(self.config, self.around, rng)
            if self.fits(arch):
                return self._training(arch, Stage.SEED_TRAINED, "seed_train", None, None)
        return None
