"""Petridish: grow members of the frontier band by the shortcuts that a weak learner picks.

Source: Hu et al., "Efficient Forward Architecture Search", NeurIPS 2019 (arXiv 1905.13360), sections 3 and 4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, Literal

from overrides import overrides
from pydantic import Field

from archsearch.arch import Architecture, grow_node
from archsearch.jobs import Job, Stage
from archsearch.searchers.grower import Grower, GrowingConfig
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.selection import best_sets, edges
from archsearch.searchers.surroundings import Surroundings

#: How many sets of one ranking are looked at before the parent counts as exhausted.
MOST_SETS = 256


class PetridishConfig(GrowingConfig):
    """The ``search`` section with ``name: petridish``."""

    name: Literal["petridish"] = Field("petridish", description="forward stage-wise growth with a weak learner")


class Petridish(Grower):
    """Search task on a sampled parent, then the training of the child made of its strongest untried pairs."""

    Config: ClassVar[type[GrowthConfig]] = PetridishConfig

    def __init__(self, config: GrowingConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self._findings: dict[int, tuple[Job, Mapping[str, Any]]] = {}  # finished search jobs by id
        self._unseen: deque[int] = deque()  # those that were not looked at yet, in order; all others are in ``children``
        self._choices: dict[int, tuple[Architecture, Any]] = {}  # what the child of a search job is, while it waits

    @overrides
    def _grow(self) -> Job | None:
        self._look()
        picked = self._pick()
        if picked is None:
            return None
        parent, move, child = picked
        if child is not None:
            return self._moved(parent, move, child)
        learner = {**self.around.settings["weak_learner"], "primitives": list(self.config.primitives)}
        spec = {"arch": parent.arch, "weights": parent.weights, "learner": learner}
        return self._job(Stage.SEARCH, "petridish", spec, parent.id, queue="search")

    @overrides
    def _child(self) -> Job | None:
        self._look()
        if not self.children:
            return None
        search_id = self.children[0]
        job, data = self._findings[search_id]
        child, pairs = self._choices[search_id]
        assert job.parent is not None
        more = {
            "candidates": data["artifacts"].get("candidates"),
            "edges": {name: [list(pair) for pair in chosen] for name, chosen in pairs.items()},
        }
        return self._child_training(child, self.pool.points[job.parent], "node", search_id, more)

    @overrides
    def _asked(self, job: Job) -> None:
        super()._asked(job)
        if job.stage is Stage.SEARCH_TRAINED and job.parent in self._findings:
            if job.parent in self._choices:
                self.children.remove(job.parent)
                del self._choices[job.parent]
            else:  # read from the history: this child was found, and none for the searches that were passed over
                while (passed := self._unseen.popleft()) != job.parent:
                    self._exhausted(passed)
            del self._findings[job.parent]

    @overrides
    def _told(self, job: Job, data: Mapping[str, Any]) -> None:
        super()._told(job, data)
        if job.stage is Stage.SEARCH:
            self._findings[job.id] = (job, data)
            self._unseen.append(job.id)

    @overrides
    def _nothing_left(self) -> bool:
        if not self.running:
            self._look()
        return super()._nothing_left()

    def _look(self) -> None:
        """Decide what the children of finished search jobs are, or that their parents are exhausted.

        Done when somebody asks, not when the result is told, so that reading a history costs no decision that is in it.
        It comes to the same: what was tried or planned when a search ended is what was tried when its child's turn comes,
        for children are trained in the order of their searches and before any seed.
        """
        while self._unseen:
            search_id = self._unseen.popleft()
            choice = self._choose(*self._findings[search_id])
            if choice is None:
                self._exhausted(search_id)
            else:
                self._choices[search_id] = choice
                self.children.append(search_id)

    def _choose(self, job: Job, data: Mapping[str, Any]) -> tuple[Architecture, Any] | None:
        """The child of a finished search job and the pairs it gets; None if all of them were tried."""
        assert job.parent is not None
        parent = self.pool.points[job.parent].architecture
        planned = {arch.hash for arch, _ in self._choices.values()}
        for pairs in islice(best_sets(data["metrics"]["ranked"], self.config.edges_per_node), MOST_SETS):
            child = grow_node(parent, edges(pairs))
            if child.hash not in planned and self.fits(child):
                return child, pairs
        return None

    def _exhausted(self, search_id: int) -> None:
        job, _ = self._findings.pop(search_id)
        if job.parent is not None:
            self.pool.points[job.parent].exhausted = True
