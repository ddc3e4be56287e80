"""The face of those who watch a run from inside its driver: the live display on a terminal, lines in a log, a test, and
the tracker, which turns what it sees into plain data for any number of callbacks (``archsearch.tracking``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
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

    def on_report(self, files: Sequence[Path]) -> None:  # noqa: B027 - few want to know
        """The run's report was written."""
