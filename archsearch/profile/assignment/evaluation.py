"""What is known of one assignment, and which assignments are worth having: fronts of (time, memory), regret against a table.

Everything is in ms and KiB, and nothing mixes the two: dominance compares each with its own kind, and hypervolumes are taken
in a box that has been scaled to a unit square.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.frontier import hypervolume, pareto_front
from archsearch.jobs import JSON, InputError

#: How far beyond the worst values the hypervolume's corner lies, as a share of the range: extreme points count too.
MARGIN = 0.1

Interval = tuple[float, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One assignment, measured: ``time`` in ms and ``memory`` in KiB with their intervals where these are known.

    An assignment that cannot run has an ``error`` and no values.

    Raises:
        InputError: a value that is not finite or below zero, an interval that its value is not in, values and an error.
    """

    id: int
    time: float = math.nan
    memory: float = math.nan
    time_interval: Interval | None = None
    memory_interval: Interval | None = None
    error: str = ""

    def __post_init__(self) -> None:
        if self.error:
            if not (math.isnan(self.time) and math.isnan(self.memory)):
                raise InputError(f"assignment {self.id} has values and the error {self.error!r}")
            return
        for name, value, interval in (
            ("time", self.time, self.time_interval),
            ("memory", self.memory, self.memory_interval),
        ):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} of assignment {self.id} is {value}; expected a finite number of at least 0")
            if interval is not None and not interval[0] <= value <= interval[1] < math.inf:
                raise InputError(f"{name} of assignment {self.id} is {value}, outside its interval {interval}")

    @property
    def feasible(self) -> bool:
        return not self.error

    @property
    def values(self) -> tuple[float, float]:
        return self.time, self.memory

    @property
    def bounds(self) -> tuple[Interval, Interval]:
        """The intervals of time and memory; a value without one counts as exact."""
        return self.time_interval or (self.time, self.time), self.memory_interval or (self.memory, self.memory)

    def to_json(self) -> dict[str, JSON]:
        """Only what is known."""
        return {name: value for name, value in asdict(self).items() if not (value is None or value == "" or value != value)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        pairs = {name: tuple(data[name]) for name in ("time_interval", "memory_interval") if name in data}
        return cls(**{**data, **pairs})


def front(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that no other equals or beats in both, fastest first; of equal ones that with the lowest id."""
    feasible = sorted((each for each in evaluations if each.feasible), key=lambda each: each.id)
    return [feasible[i] for i in pareto_front([each.values for each in feasible])]


def surely_dominates(better: Evaluation, worse: Evaluation) -> bool:
    """Whether it is better in both beyond their intervals: values anywhere in them would say the same."""
    pairs = list(zip(better.bounds, worse.bounds, strict=True))
    return all(a[1] <= b[0] for a, b in pairs) and any(a[1] < b[0] for a, b in pairs)


def contenders(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that may be on the front as far as their intervals tell: none surely dominates them. Fastest first.

    Without intervals that is the front, and points equal to one on it.
    """
    feasible = sorted((each for each in evaluations if each.feasible), key=lambda each: (each.values, each.id))
    highs = [(each.bounds[0][1], each.bounds[1][1]) for each in feasible]
    strongest = [feasible[i] for i in pareto_front(highs)]  # what any other surely dominates, one of these does
    return [each for each in feasible if not any(surely_dominates(other, each) for other in strongest)]


# ---------------------------------------------------------------------------------------------------------------- regret
@dataclass(frozen=True, slots=True)
class Box:
    """The rectangle that hypervolumes are taken in, scaled to the unit square: ``low`` its best corner, ``high`` its worst."""

    low: tuple[float, float]
    high: tuple[float, float]

    def share(self, evaluations: Iterable[Evaluation]) -> float:
        """The share of the box that they dominate."""
        values = [each.values for each in evaluations if each.feasible]
        if not values:
            return 0.0
        span = np.subtract(self.high, self.low)
        return hypervolume(np.maximum((np.array(values) - self.low) / span, 0.0), [1.0, 1.0])


def box_of(evaluations: Iterable[Evaluation]) -> Box:
    """From the best value of each objective to a little beyond the worst.

    Raises:
        InputError: none is feasible.
    """
    values = np.array([each.values for each in evaluations if each.feasible])
    if not len(values):
        raise InputError("not one assignment could run: there is no front")
    low, high = values.min(axis=0), values.max(axis=0)
    beyond = low + (1 + MARGIN) * width(low, high)
    return Box((float(low[0]), float(low[1])), (float(beyond[0]), float(beyond[1])))


def width(low: Floats, high: Floats) -> Floats:
    """How far apart worst and best are; where they are equal a width in the same unit."""
    return np.where(high > low, high - low, np.where(high > 0, high, 1.0))


def regret_curve(found: Sequence[Evaluation], everything: Sequence[Evaluation], *, of_front: bool = False) -> list[float]:
    """How much of the best hypervolume was missing after 1, 2, ... evaluations: 1 nothing found, 0 as good as brute force.

    Args:
        found: in the order in which they were evaluated, failures among them.
        everything: every assignment of the table.
        of_front: take the box that the true front spans instead of that of all assignments. It is far stricter: bad
            assignments do not widen it.
    """
    best = front(everything)
    box = box_of(best if of_front else everything)
    most = box.share(best)
    curve: list[float] = []
    kept: list[Evaluation] = []
    for each in found:
        if each.feasible and not any(old.time <= each.time and old.memory <= each.memory for old in kept):
            kept = front([*kept, each])
            curve.append(max(0.0, 1.0 - box.share(kept) / most))
        else:
            curve.append(curve[-1] if curve else 1.0)
    return curve
