"""Whose turn it is on a device: runs take turns, each with its jobs in the order in which it asked for them."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

#: Seconds until the first turn after a rest: what a driver sends at one moment arrives in any order.
TOGETHER = 0.1


@dataclass(frozen=True, eq=False)
class Place:
    """A job's place in its run's line."""

    number: int
    called: asyncio.Future[None]


class Turns:
    """One holder at a time. To be used from one event loop, where nothing happens between two awaits."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Place]] = {}  # by run, in the order in which the runs' turns come
        self._holder: str | None = None
        self._opening = False

    def lengths(self) -> dict[str, int]:
        """How many jobs of each run wait for their turn."""
        return {run: len(line) for run, line in self._lines.items()}

    @asynccontextmanager
    async def turn(self, run: str, number: int) -> AsyncIterator[None]:
        """Wait for a turn of this run, and hold it; of its jobs the one with the lowest number comes first."""
        loop = asyncio.get_running_loop()
        mine = Place(number, loop.create_future())
        insort(self._lines.setdefault(run, []), mine, key=lambda place: place.number)
        if self._holder is None and not self._opening:
            self._opening = True
            loop.call_later(TOGETHER, self._open)
        try:
            await mine.called
        except asyncio.CancelledError:
            if mine.called.done() and not mine.called.cancelled():  # the turn came at that very moment
                self._pass_on()
            else:
                self._leave(run, mine)
            raise
        try:
            yield
        finally:
            self._pass_on()

    def _leave(self, run: str, mine: Place) -> None:
        line = self._lines.get(run, [])
        if mine in line:  # else it was passed over
            line.remove(mine)
            if not line:
                del self._lines[run]

    def _open(self) -> None:
        self._opening = False
        self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the run that has waited longest for one; the run that had it comes last."""
        last, self._holder = self._holder, None
        if last in self._lines:
            self._lines[last] = self._lines.pop(last)
        # A place that was cancelled at this very moment has not left its line yet.
        waiting = {run: [place for place in line if not place.called.cancelled()] for run, line in self._lines.items()}
        self._lines = {run: line for run, line in waiting.items() if line}
        if self._lines:
            run = next(iter(self._lines))
            line = self._lines.pop(run)
            first = line.pop(0)
            if line:
                self._lines[run] = line
            self._holder = run
            first.called.set_result(None)
