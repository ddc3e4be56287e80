"""What growth has brought so far, and what it can be expected to bring: the model behind ``sampling: hypervolume``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsearch.frontier import hypervolume_gains

Floats = NDArray[np.float64]

#: Log ratio of a child's error to its parent's before any is known (twice the width brings more, at four times the cost), its
#: spread, and how many children that is worth.
PRIOR_MEANS, PRIOR_MEAN, PRIOR_SPREAD, PRIOR_WEIGHT = {"width": -0.6}, -0.2, 0.2, 2.0
#: A new child counts this much more than the one before it: what growth brings falls as the frontier gets better.
FADING = 0.9
#: Growth of a child's cost, and of its effort, over its parent's before any is known, for moves whose child is not known yet.
PRIOR_RATIO = 1.4
#: Below this an error counts as this, so that its logarithm stays finite.
LEAST_ERROR = 1e-4


class _Kind:
    """Fading averages of one kind of move: log error ratios (mean and square), log cost ratios and log effort ratios."""

    def __init__(self, mean: float) -> None:
        self.weight = PRIOR_WEIGHT
        self.mean = mean
        self.square = mean**2 + PRIOR_SPREAD**2
        self.log_cost = self.log_effort = math.log(PRIOR_RATIO)

    def add(self, log_error: float, log_cost: float, log_effort: float) -> None:
        kept = self.weight * FADING
        self.weight = kept + 1
        self.mean = (kept * self.mean + log_error) / self.weight
        self.square = (kept * self.square + log_error**2) / self.weight
        self.log_cost = (kept * self.log_cost + log_cost) / self.weight
        self.log_effort = (kept * self.log_effort + log_effort) / self.weight

    @property
    def spread(self) -> float:
        """Standard deviation of the next child's log error ratio: the children's own, and the uncertainty of their mean."""
        return math.sqrt(max(self.square - self.mean**2, 1e-6) * (1 + 1 / self.weight))


class _Kinds(dict[str, _Kind]):
    def __missing__(self, kind: str) -> _Kind:
        self[kind] = _Kind(PRIOR_MEANS.get(kind, PRIOR_MEAN))
        return self[kind]


@dataclass(frozen=True, slots=True)
class Trial:
    """A network as growth sees it. ``effort`` is what its training takes, in any unit."""

    cost: float
    effort: float
    error: float


class Experience:
    """A fold over (parent, child) pairs, by kind of move."""

    def __init__(self) -> None:
        self._kinds = _Kinds()

    def add(self, kind: str, parent: Trial, child: Trial) -> None:
        """Take one child's result."""
        error = _log_ratio(max(child.error, LEAST_ERROR), max(parent.error, LEAST_ERROR))
        self._kinds[kind].add(error, _log_ratio(child.cost, parent.cost), _log_ratio(child.effort, parent.effort))

    def ratios(self, kind: str) -> tuple[float, float]:
        """What a move of this kind multiplies cost and effort by, judged by those before it."""
        known = self._kinds[kind]
        return math.exp(known.log_cost), math.exp(known.log_effort)

    def rate(
        self,
        moves: Sequence[tuple[str, float, float, float]],
        front: Sequence[tuple[float, float]],
        reference: tuple[float, float],
        rng: np.random.Generator,
        draws: int = 16,
    ) -> Floats:
        """Expected gain of hypervolume by the effort that a child's training takes.

        Hypervolume is over (log cost, error), so that a gain counts alike among small and large networks. The child's log error
        ratio is drawn from a normal distribution: the few draws make the estimate noisy, which spreads parallel searches over
        what is about equally good.

        Args:
            moves: (kind, parent's error, child's cost, child's effort) of each.
            front: (cost, error) of each of its points.
            reference: cost and error.

        Returns:
            (m,) at least 0.
        """
        means = np.array([self._kinds[kind].mean for kind, *_ in moves])
        spreads = np.array([self._kinds[kind].spread for kind, *_ in moves])
        parents, costs, efforts = np.array([figures for _, *figures in moves]).T
        logs = means[:, None] + spreads[:, None] * rng.standard_normal((len(moves), draws))
        new = np.stack([np.repeat(np.log(costs), draws), (parents[:, None] * np.exp(logs)).ravel()], axis=1)
        known = [(math.log(cost), error) for cost, error in front]
        gains = hypervolume_gains(known, new, (math.log(reference[0]), reference[1]))
        rates: Floats = gains.reshape(len(moves), draws).mean(axis=1) / efforts
        return rates


def _log_ratio(child: float, parent: float) -> float:
    return math.log(child / parent) if child > 0 and parent > 0 else 0.0
