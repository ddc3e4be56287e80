"""Starting a search from the pool of an earlier run: what is taken of it, and how it gets into the new run.

The points that fit become the first events of the new run's log, which are written with it in one step; their weights are
copied before, so that the new run needs nothing of the old one. Nothing of this happens twice: resuming reads the events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from archsearch.arch import Architecture
from archsearch.jobs import JSON, ArtifactRef, Event, EventKind, InputError, Job, Searcher
from archsearch.run import Run, artifacts_root
from archsearch.searchers.base import FrontierSearcher
from archsearch.searchers.warm import objection
from archsearch.store import Artifacts, Point, plain

#: Seconds between two signs that weights are being read or copied.
SAID_EVERY = 2.0

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class WarmStart:
    """What a new run takes from ``source``.

    ``events`` import the points under their new ids, with the weights that ``source`` has. ``left_out``: reason -> ids there.
    """

    source: Run
    events: tuple[Event, ...]
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def describe(self) -> dict[str, JSON]:
        """As the new run's description keeps it: ``{run, id, path, points, left_out}``."""
        meta = self.source.meta
        return {
            "run": meta["name"],
            "id": meta["id"],
            "path": str(self.source.path),
            "points": len(self.events),
            "left_out": {reason: list(ids) for reason, ids in self.left_out.items()},
        }

    def __str__(self) -> str:
        total = len(self.events) + sum(map(len, self.left_out.values()))
        text = f"starting from {len(self.events)} of the {total} points of {self.source.path}"
        return f"{text}; not taken: {_listed(self.left_out)}" if self.left_out else text

    def copy(self, to: Artifacts, say: Say) -> list[Event]:
        """Copy the weights, each checked, and return the events that name the copies.

        Copies that no run names in the end (a full disk, a kill) are collected when one is started in that folder.

        Raises:
            StoreDamaged: weights are not those that were written.
            StoreUnavailable: a copy could not be written.
        """
        past, events = Artifacts(artifacts_root(self.source.config, self.source.folder)), []
        for event in _progress("copying", self.events, say):
            old = ArtifactRef.from_json(event.data["artifacts"]["weights"])
            assert event.job is not None
            new = to.save(event.job, 0, "weights.safetensors", past.load(old))
            events.append(replace(event, data={**event.data, "artifacts": {"weights": new.to_json()}}))
        return events


def choose(source: Run, searcher: Searcher, data_hash: str, say: Say = lambda text: None) -> WarmStart:
    """What a search can take of a run's pool. Every weight that is taken is read and checked; nothing is written.

    Args:
        searcher: the new run's; it is not changed.
        data_hash: of the data set of the new run.

    Raises:
        InputError: the run is of another data set, simulated, an evaluation, has no point or none that fits; or the new
            search would be over with what it takes.
        StoreDamaged: weights are not those that were written.
    """
    place = source.path
    if not isinstance(searcher, FrontierSearcher):
        raise InputError("--warm-from: this searcher has no pool that points could enter; use one of archsearch's own.")
    if source.meta.get("simulated"):
        raise InputError(f"--warm-from {place}: it was simulated, its networks have no weights. Give a run that was searched.")
    if "evaluation" in source.meta:
        raise InputError(f"--warm-from {place}: an evaluation has no pool. Give the run that it is of.")
    was = source.meta["dataset"]
    if was["hash"] != data_hash:
        raise InputError(
            f"--warm-from {place}: it searched other data ({was['name']}, hash {was['hash'][:12]}; now {data_hash[:12]}), "
            "whose errors do not compare with these. Use the same data section, or start without --warm-from."
        )
    points = source.points()
    if not points:
        raise InputError(f"--warm-from {place}: it has no trained point yet. Wait for its first, or start without --warm-from.")
    left_out: dict[str, list[int]] = {}
    taken = []
    for point in points:
        reason = _objection(searcher, point)
        if reason is None:
            taken.append(point)
        else:
            left_out.setdefault(reason, []).append(point.id)
    if not taken:
        raise InputError(
            f"--warm-from {place}: none of its {len(points)} points fits the search section: {_listed(left_out)}. "
            "Change the section, or start without --warm-from."
        )
    chosen = WarmStart(source, tuple(_events(source, taken)), left_out)
    _refuse_the_end(chosen, searcher)
    past = Artifacts(artifacts_root(source.config, source.folder))
    for point in _progress("checking", taken, say):
        assert point.weights is not None
        past.load(point.weights)
    return chosen


def _objection(searcher: FrontierSearcher, point: Point) -> str | None:
    pool = searcher.pool
    if point.weights is None:
        return "no weights"
    for name in (pool.error, *([] if "@" in pool.cost else [pool.cost])):  # what devices measure they measure here too
        value = point.metrics.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} was not measured"
    try:
        arch = Architecture.from_json(point.arch)
    except InputError:
        return "a description that is not understood here"
    return objection(searcher.config, arch)


def _events(source: Run, points: Sequence[Point]) -> Iterator[Event]:
    """Import events, numbered from 1 as the points are. A parent is named where it is taken too."""
    number_of: dict[int, int] = {}
    now = time.time()
    for number, point in enumerate(points, 1):
        number_of[point.id] = number
        record = source.state.jobs[point.id]
        parent = number_of.get(point.parent) if point.parent is not None else None
        arch = Architecture.from_json(point.arch)
        spec = {"arch": arch.to_json(), "hash": arch.hash}
        job = Job(number, point.stage, record.job.work, spec, record.job.seed, record.job.resources, parent=parent)
        assert point.weights is not None
        data: Any = {
            "job": job.to_json(),
            "metrics": record.metrics,  # of the training: a test is this run's own affair
            "artifacts": {"weights": point.weights.to_json()},
            "origin": {"run": source.meta["name"], "id": source.meta["id"], "point": point.id},
        }
        if profiles := source.state.profiles(point.id):
            data["measured"] = profiles
        yield Event(number, now, EventKind.IMPORTED, number, plain(data))


def _refuse_the_end(chosen: WarmStart, searcher: FrontierSearcher) -> None:
    twin = type(searcher)(searcher.config, searcher.around)
    for event in chosen.events:
        twin.apply(event)
    if twin.done is not None:
        raise InputError(
            f"--warm-from {chosen.source.path}: with the {len(chosen.events)} points that fit the search would be over "
            f"at once ({twin.done}). Allow more, for instance --set search.max_hull_points={2 * len(chosen.events)}."
        )


def _listed(left_out: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(
        f"{len(ids)} ({reason}: {', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''})"
        for reason, ids in left_out.items()
    )


def _progress(doing: str, items: Sequence[T], say: Say) -> Iterator[T]:
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > SAID_EVERY:
            said = time.monotonic()
            say(f"{doing} weights: {done} of {len(items)} …")
        yield item
