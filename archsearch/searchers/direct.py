"""What searchers have in common that train what they propose at once, without a search task before it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from overrides import overrides

from archsearch.jobs import Event, Job
from archsearch.searchers.base import FrontierSearcher
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.surroundings import Surroundings

#: Draws of one decision before there counts as nothing left to propose.
MOST_DRAWS = 256


class DirectSearcher(FrontierSearcher):
    """Its proposals are trainings; the search is over when all has been trained and there is no further proposal."""

    growth_queue: ClassVar[str] = "train"

    def __init__(self, config: GrowthConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self._proposal: list[Job | None] = []  # the answer until the next event, since drawing is not cheap

    @abstractmethod
    def _propose(self) -> Job | None:
        """The next training, or None if there is none: a pure function of the events so far."""

    @overrides
    def apply(self, event: Event) -> None:
        super().apply(event)
        self._proposal.clear()

    @overrides
    def _grow(self) -> Job | None:
        if not self._proposal:
            self._proposal.append(self._propose())
        return self._proposal[0]

    @overrides
    def _nothing_left(self) -> bool:
        return not self.running and self.seeds_asked >= len(self.seeds) and self._grow() is None
