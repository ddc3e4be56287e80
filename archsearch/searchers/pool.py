"""The pool of trained points, as a fold over results, with its frontiers kept up to date."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from archsearch.arch import Architecture
from archsearch.frontier import Frontier, sample_from_hull
from archsearch.jobs import JSON, Job
from archsearch.searchers.constraints import Constraint


@dataclass(slots=True)
class PoolPoint:
    """One trained architecture. ``count`` is how often it was sampled as a parent; ``cost`` is NaN until it is known."""

    id: int
    spec: Mapping[str, Any]  # its training job's
    cost: float
    error: float
    weights: Mapping[str, Any]
    standard_error: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)  # costs and measured quantities, as far as they are known
    count: int = 0
    exhausted: bool = False
    _architecture: Architecture | None = None

    @property
    def arch(self) -> JSON:
        return self.architecture.to_json()

    @property
    def architecture(self) -> Architecture:
        """Read once: parents are asked about again and again."""
        if self._architecture is None:
            self._architecture = Architecture.from_json(self.spec["arch"])
        return self._architecture


class Pool:
    """Points by id, and the band that parents are sampled from.

    ``trained`` has all points, ``points`` those whose cost is known: one that is measured comes later, or never.
    ``frontiers`` has one frontier for each objective, ``frontier`` is that of the cost. ``out`` are the points that a limit
    on something measured keeps off all of them, with the limit.
    """

    def __init__(
        self,
        cost: str,
        eps: float,
        band_standard_errors: float,
        error: str = "val_error",
        *,
        objectives: Sequence[str] = (),
        limits: Sequence[Constraint] = (),
    ) -> None:
        """
        Args:
            objectives: what else has a frontier of its own.
            limits: on quantities that are measured.
        """
        self.cost = cost
        self.error = error
        self.trained: dict[int, PoolPoint] = {}
        self.points: dict[int, PoolPoint] = {}
        self.out: dict[int, str] = {}
        self._limits = limits
        self._empty = partial(Frontier, eps=eps, band_standard_errors=band_standard_errors)
        self.frontiers = {name: self._empty() for name in dict.fromkeys((cost, *objectives))}
        self._members: dict[str, dict[int, None]] = {name: {} for name in self.frontiers}  # in the order in which they joined

    @property
    def frontier(self) -> Frontier:
        return self.frontiers[self.cost]

    def __len__(self) -> int:
        """Trained points."""
        return len(self.trained)

    def add(self, job: Job, metrics: Mapping[str, JSON], artifacts: Mapping[str, Any]) -> bool:
        """Take the result of a training job; whether the point's cost is known now."""
        deviation = metrics.get(f"{self.error.removesuffix('_error')}_standard_error") or 0.0
        point = PoolPoint(job.id, job.spec, math.nan, metrics[self.error], artifacts["weights"], deviation)
        self.trained[job.id] = point
        return self.learn(job.id, {name: metrics[name] for name in self.frontiers if "@" not in name})

    def learn(self, id_: int, figures: Mapping[str, float], lacking: Mapping[str, str] = MappingProxyType({})) -> bool:
        """Take what has become known of a point; whether its cost is by that.

        Args:
            lacking: what will never be known of it, and why: no limit on that is kept.
        """
        point = self.trained[id_]
        point.figures.update(figures)
        broken = next((limit for limit in self._limits if _breaks(limit, point.figures, lacking)), None)
        if broken is not None:
            self._expel(id_, f"{broken}: {lacking[broken.name]}" if broken.name in lacking else str(broken))
        if id_ not in self.out:
            for name in point.figures.keys() & self.frontiers.keys():
                if id_ not in self._members[name]:
                    self._join(name, point)
        known = self.cost in point.figures and id_ not in self.points and id_ not in self.out
        if known:
            point.cost = point.figures[self.cost]
            self.points[id_] = point
        return known

    def _join(self, name: str, point: PoolPoint) -> None:
        self._members[name][point.id] = None
        self.frontiers[name].add(point.id, point.figures[name], point.error, point.standard_error)

    def _expel(self, id_: int, reason: str) -> None:
        """Make the frontiers anew without a point: it may have hidden others."""
        self.out.setdefault(id_, reason)
        for name, members in self._members.items():
            if id_ in members:
                del members[id_]
                rest, self._members[name], self.frontiers[name] = [*members], {}, self._empty()
                for other in rest:
                    self._join(name, self.trained[other])

    def members(self) -> set[int]:
        """The points of every band and front."""
        return {id_ for frontier in self.frontiers.values() for id_ in (*frontier.band(), *frontier.front())}

    def candidates(self) -> list[PoolPoint]:
        """Members of the band that can still be grown, cheapest first."""
        return [point for id_ in self.frontier.band() if not (point := self.points[id_]).exhausted]

    def sample(self, rng: np.random.Generator, busy: Collection[int] = ()) -> PoolPoint | None:
        """A parent from the band by the rule of ``sample_from_hull``; points in ``busy`` only if there is no other."""
        candidates = self.candidates()
        idle = [point for point in candidates if point.id not in busy] or candidates
        return self.draw(idle, rng) if idle else None

    def draw(self, points: Sequence[PoolPoint], rng: np.random.Generator) -> PoolPoint:
        """One of the points by the rule of ``sample_from_hull``."""
        costs = np.array([point.cost for point in points], dtype=float)
        counts = np.array([point.count for point in points], dtype=float)
        return points[sample_from_hull(costs, counts, rng)]


def _breaks(limit: Constraint, figures: Mapping[str, float], lacking: Mapping[str, str]) -> bool:
    """Whether a point is known not to keep a limit; before it is measured nothing is known."""
    return limit.name in lacking or (limit.name in figures and not limit.holds(figures))
