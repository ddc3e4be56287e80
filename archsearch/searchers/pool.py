"""The pool of trained points, as a fold over results, with its frontier kept up to date."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsearch.arch import Architecture
from archsearch.frontier import Frontier, sample_from_hull
from archsearch.jobs import JSON, Job


@dataclass(slots=True)
class PoolPoint:
    """One trained architecture. ``count`` is how often it was sampled as a parent."""

    id: int
    spec: Mapping[str, Any]  # its training job's
    cost: float
    error: float
    weights: Mapping[str, Any]
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
    """Points by id and the band that parents are sampled from."""

    def __init__(self, cost: str, eps: float, band_standard_errors: float, error: str = "val_error") -> None:
        self.cost = cost
        self.error = error
        self.points: dict[int, PoolPoint] = {}
        self.frontier = Frontier(eps=eps, band_standard_errors=band_standard_errors)

    def __len__(self) -> int:
        return len(self.points)

    def add(self, job: Job, metrics: Mapping[str, JSON], artifacts: Mapping[str, Any]) -> None:
        """Take the result of a training job."""
        point = PoolPoint(job.id, job.spec, metrics[self.cost], metrics[self.error], artifacts["weights"])
        self.points[job.id] = point
        self.frontier.add(
            job.id, point.cost, point.error, metrics.get(f"{self.error.removesuffix('_error')}_standard_error") or 0.0
        )

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
