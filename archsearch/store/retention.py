"""Which artifacts a run needs no more: pure functions of its state. Dropping them is an event first, and a deletion then."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from archsearch.jobs import POOL_STAGES, ArtifactRef, JobState, Stage
from archsearch.store.state import RunState


def unneeded(state: RunState, points: Collection[int], frontier: Collection[int]) -> dict[str, int]:
    """Keys and sizes of the artifacts that nothing can ask for any more.

    Kept are the weights of ``points``; what the members of ``frontier`` were grown from, since they may be trained again
    (``search.confirm``); all that the jobs name which have not ended; and what a search task found, with its parent's weights,
    until the child that is made of it has been trained.
    """
    kept, frontier = {*points, *frontier}, set(frontier)
    trained = {record.job.parent for record in state.jobs.values() if record.ended and record.job.stage in POOL_STAGES}
    needed: set[str] = set()
    for number, record in state.jobs.items():
        awaited = record.job.stage is Stage.SEARCH and record.state is JobState.COMPLETED and number not in trained
        if number in kept or awaited:
            needed.update(ref.key for ref in record.artifacts.values())
        if number in frontier or awaited or not record.ended:
            needed.update(_named(record.job.spec))
    stored = ((ref.key, ref.size) for record in state.jobs.values() for ref in record.artifacts.values())
    return {key: size for key, size in stored if key not in needed and key not in state.collected}


def _named(spec: Any) -> Iterator[str]:
    """Keys of all artifacts that a job's spec names, however deep."""
    names = {"key", "sha256", "size"}
    if isinstance(spec, list):
        for each in spec:
            yield from _named(each)
    elif hasattr(spec, "items"):
        if set(spec) == names:
            yield ArtifactRef.from_json(spec).key
        else:
            for each in spec.values():
                yield from _named(each)


class Retention:
    """What ``run.keep`` asks to be dropped, looked at again as jobs end; a twentieth of the driver's time at most."""

    def __init__(self, keep: str, frontier: Callable[[], Collection[int]]) -> None:
        """``keep``: ``frontier`` or ``pool``. ``frontier`` tells the points of frontier and band as they stand."""
        self._keep = keep
        self._frontier = frontier
        self._completed = -1
        self._not_before = 0.0

    def due(self, state: RunState) -> dict[str, int]:
        """Keys and sizes to be dropped now."""
        started, completed = time.monotonic(), state.counts[JobState.COMPLETED]
        if completed == self._completed or started < self._not_before:
            return {}
        self._completed = completed
        frontier = self._frontier()
        found = unneeded(state, state.point_ids() if self._keep == "pool" else frontier, frontier)
        self._not_before = time.monotonic() + 20 * (time.monotonic() - started)
        return found
