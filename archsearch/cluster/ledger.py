"""What the run loop itself keeps of a run's history, besides jobs and points: attempts, losses, failures, time spent."""

from __future__ import annotations

from collections import Counter

from archsearch.jobs import RETRIED, Event, EventKind, FailureKind, Stage


class Ledger:
    """A fold over events.

    Measurements that fail say nothing of the search: ``completed`` and ``abandoned`` do not count them.

    ``attempts`` counts the attempts started of each job; ``losses`` those that ended by a fault of the machine; ``crowded``
    those that ran out of a device's memory; ``told`` the results; ``completed`` and ``abandoned`` the jobs that ended
    in the present session.
    """

    def __init__(self) -> None:
        self.attempts: Counter[int] = Counter()
        self.losses: Counter[int] = Counter()
        self.crowded: Counter[int] = Counter()
        self.told = 0
        self.completed = 0
        self.abandoned = 0
        self._measuring: set[int] = set()
        self._past = 0.0  # seconds of earlier sessions
        self._session_start: float | None = None
        self._last_time = 0.0

    def apply(self, event: Event) -> None:
        """Take the next event."""
        if event.kind is EventKind.BUDGET and "session" in event.data:
            self._past = self.spent(self._last_time)
            self._session_start = event.time
            self.completed = self.abandoned = 0
        self._last_time = event.time
        if event.job is None:
            return
        if event.kind is EventKind.ASKED and event.data["stage"] == Stage.PROFILE:
            self._measuring.add(event.job)
        counted = event.job not in self._measuring
        if event.kind is EventKind.STARTED:
            self.attempts[event.job] = event.data["attempt"]
        elif event.kind is EventKind.TOLD:
            self.told += 1
            self.completed += counted
        elif event.kind is EventKind.FAILED:
            kind = FailureKind(event.data["kind"])
            self.crowded[event.job] += kind is FailureKind.DEVICE_MEMORY
            self.losses[event.job] += kind in RETRIED and kind is not FailureKind.DEVICE_MEMORY
            self.abandoned += counted and bool(event.data["final"])

    def spent(self, now: float) -> float:
        """Seconds that drivers have spent on the run up to ``now``; the time between two sessions does not count."""
        return self._past + (max(0.0, now - self._session_start) if self._session_start is not None else 0.0)
