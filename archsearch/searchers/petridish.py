"""Petridish: grow members of the frontier band by the shortcuts that a weak learner picks.

Source: Hu et al., "Efficient Forward Architecture Search", NeurIPS 2019 (arXiv 1905.13360), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, Literal

from overrides import overrides
from pydantic import Field

from archsearch.arch import Architecture, grow_node
from archsearch.jobs import Job, Stage
from archsearch.searchers.base import FrontierSearcher, Surroundings
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.selection import best_sets, edges

#: How many sets of one ranking are looked at before the parent counts as exhausted.
MOST_SETS = 256


class PetridishConfig(GrowthConfig):
    """The ``search`` section with ``name: petridish``."""

    name: Literal["petridish"] = Field("petridish", description="forward stage-wise growth with a weak learner")


class Petridish(FrontierSearcher):
    """Search task on a sampled parent, then the training of the child made of its strongest untried pairs."""

    Config: ClassVar[type[GrowthConfig]] = PetridishConfig

    def __init__(self, config: GrowthConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self._findings: dict[int, tuple[Job, Mapping[str, Any]]] = {}  # finished search jobs by id
        self._choices: dict[int, tuple[Architecture, Any]] = {}  # what the child of a search job is, while it waits

    @overrides
    def _grow(self) -> Job | None:
        parent = self._sample()
        if parent is None:
            return None
        learner = {**self.around.settings["weak_learner"], "primitives": list(self.config.primitives)}
        spec = {"arch": parent.arch, "weights": parent.weights, "learner": learner}
        return self._job(Stage.SEARCH, "petridish", spec, parent.id, queue="search")

    @overrides
    def _child(self) -> Job | None:
        if not self.children:
            return None
        search_id = self.children[0]
        job, data = self._findings[search_id]
        child, pairs = self._choices[search_id]
        inherit = None
        settings = self.around.settings["post_train"]
        if settings.get("warm_start", "parent") == "parent":
            inherit = {
                "kind": "node",
                "parent": job.spec["arch"],
                "weights": job.spec["weights"],
                "candidates": data["artifacts"].get("candidates"),
                "edges": {name: [list(pair) for pair in chosen] for name, chosen in pairs.items()},
            }
        return self._training(child, Stage.SEARCH_TRAINED, "post_train", search_id, inherit)

    @overrides
    def _asked(self, job: Job) -> None:
        super()._asked(job)
        if job.stage is Stage.SEARCH_TRAINED and job.parent in self._findings:
            self.children.remove(job.parent)
            del self._findings[job.parent], self._choices[job.parent]

    @overrides
    def _told(self, job: Job, data: Mapping[str, Any]) -> None:
        super()._told(job, data)
        if job.stage is Stage.SEARCH:
            self._choose(job, data)

    def _choose(self, job: Job, data: Mapping[str, Any]) -> None:
        """Fix the child of a finished search job, or find its parent exhausted."""
        parent = Architecture.from_json(job.spec["arch"])
        planned = {arch.hash for arch, _ in self._choices.values()}
        for pairs in islice(best_sets(data["metrics"]["ranked"], self.config.edges_per_node), MOST_SETS):
            child = grow_node(parent, edges(pairs))
            if child.hash not in planned and self.fits(child):
                self._findings[job.id] = (job, data)
                self._choices[job.id] = (child, pairs)
                self.children.append(job.id)
                return
        if job.parent is not None:
            self.pool.points[job.parent].exhausted = True
