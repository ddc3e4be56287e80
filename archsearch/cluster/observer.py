"""The face of those who watch a run: the live display on a terminal, lines in a log, a test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from archsearch.jobs import Event

if TYPE_CHECKING:
    from archsearch.cluster.loop import RunLoop


class Observer(ABC):
    """Watches a run; what it does never changes it."""

    @abstractmethod
    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        """Called after each commit."""

    @abstractmethod
    def on_tick(self, loop: RunLoop) -> None:
        """Called a few times a second."""

    @abstractmethod
    def on_message(self, text: str) -> None:
        """Something that the user should know now."""
