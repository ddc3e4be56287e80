"""What the run loop keeps of trainings that are judged on their way: rungs reported, and attempts pruned that have not left.

An attempt says again and again what it found on all its rungs so far, in its signs of life and once more in its result. So no
report is missed when a message is lost, and whether a training is pruned does not depend on how fast messages travel: one
that was over before it could be stopped is pruned all the same. What was made an event once is not made one again, whatever
a resumed attempt repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.jobs import Event, EventKind


class Pruning:
    """A fold over events, and the attempts that were asked to leave."""

    def __init__(self) -> None:
        self._reported: dict[int, int] = {}  # the latest rung of each job, its epoch
        self._leaving: dict[int, float] = {}  # by job: when it was asked to leave, on the executor's clock

    def apply(self, event: Event) -> None:
        """Take the next event."""
        if event.kind is EventKind.REPORTED and event.job is not None and "epoch" in event.data:
            self._reported[event.job] = event.data["epoch"]

    def news(self, job: int, figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The rungs in a sign of life, or in a result's metrics, that are no events yet."""
        return [row for row in figures.get("rungs", ()) if row["epoch"] > self._reported.get(job, 0)]

    def asked_to_leave(self, job: int, now: float) -> None:
        """An attempt was pruned and asked to stop; it holds its slot until it does."""
        self._leaving[job] = now

    def left(self, job: int) -> bool:
        """A completion of a job came; whether its attempt had been pruned."""
        return self._leaving.pop(job, None) is not None

    def overdue(self, now: float, grace: float) -> list[int]:
        """Jobs whose pruned attempt has not stopped within ``grace`` seconds; each is named once."""
        late = [job for job, since in self._leaving.items() if now - since > grace]
        for job in late:
            del self._leaving[job]
        return late
