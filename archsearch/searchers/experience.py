"""What growth has brought so far, and what it can be expected to bring: the model behind ``sampling: hypervolume``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archsearch.frontier import hypervolume_gains

Floats = NDArray[np.float64]

#: Log ratio of a child's error to its parent's before any is known (twice the width brings more, at four times the cost), its
#: spread, and how many children that is worth.
PRIOR_MEANS, PRIOR_MEAN, PRIOR_SPREAD, PRIOR_WEIGHT = {"width": -0.6}, -0.2, 0.2, 2.0
#: A new child counts this much more than the one before it: what growth brings falls as the frontier gets better.
FADING = 0.9
#: Growth of a child's cost over its parent's before any is known, for moves whose child is not known beforehand.
PRIOR_COST_RATIO = 1.4
#: A child's training is taken to last as its cost to this power: small networks keep a device less busy, so their multiply-adds
#: take longer. Of 0, 0.5 and 1 the middle one was best (experiments/searchers).
COST_POWER = 0.5
#: Below this an error counts as this, so that its logarithm stays finite.
LEAST_ERROR = 1e-4


class _Kind:
    """Fading averages of one kind of move: log error ratios (mean and square) and log cost ratios."""

    def __init__(self, mean: float) -> None:
        self.weight = PRIOR_WEIGHT
        self.mean = mean
        self.square = mean**2 + PRIOR_SPREAD**2
        self.log_cost = math.log(PRIOR_COST_RATIO)

    def add(self, log_error: float, log_cost: float) -> None:
        kept = self.weight * FADING
        self.weight = kept + 1
        self.mean = (kept * self.mean + log_error) / self.weight
        self.square = (kept * self.square + log_error**2) / self.weight
        self.log_cost = (kept * self.log_cost + log_cost) / self.weight

    @property
    def spread(self) -> float:
        """Standard deviation of the next child's log error ratio: the children's own, and the uncertainty of their mean."""
        return math.sqrt(max(self.square - self.mean**2, 1e-6) * (1 + 1 / self.weight))


class _Kinds(dict[str, _Kind]):
    def __missing__(self, kind: str) -> _Kind:
        self[kind] = _Kind(PRIOR_MEANS.get(kind, PRIOR_MEAN))
        return self[kind]


class Experience:
    """A fold over (parent, child) pairs, by kind of move."""

    def __init__(self) -> None:
        self._kinds = _Kinds()

    def add(self, kind: str, parent: tuple[float, float], child: tuple[float, float]) -> None:
        """Take one child's result; ``parent`` and ``child`` are (cost, error)."""
        log_error = math.log(max(child[1], LEAST_ERROR) / max(parent[1], LEAST_ERROR))
        self._kinds[kind].add(log_error, math.log(child[0] / parent[0]) if parent[0] and child[0] else 0.0)

    def cost_ratio(self, kind: str) -> float:
        """What a move of this kind multiplies the cost by, judged by those before it."""
        return math.exp(self._kinds[kind].log_cost)

    def rate(
        self,
        kinds: Sequence[str],
        parents: Floats,
        costs: Floats,
        front: Floats,
        reference: tuple[float, float],
        rng: np.random.Generator,
        draws: int = 16,
    ) -> Floats:
        """Expected gain of hypervolume by the time that a child's training takes, for moves on parents.

        Hypervolume is over (log cost, error), so that a gain counts alike among small and large networks. The child's log error
        ratio is drawn from a normal distribution: the few draws make the estimate noisy, which spreads parallel searches over
        what is about equally good.

        Args:
            kinds: (m,) names of the moves.
            parents: (m, 2) cost and error of each parent.
            costs: (m,) each child's cost.
            front: (n, 2) cost and error of the front.
            reference: cost and error.

        Returns:
            (m,) at least 0.
        """
        means = np.array([self._kinds[kind].mean for kind in kinds])
        spreads = np.array([self._kinds[kind].spread for kind in kinds])
        logs = means[:, None] + spreads[:, None] * rng.standard_normal((len(kinds), draws))
        errors = parents[:, 1:] * np.exp(logs)
        new = np.stack([np.repeat(np.log(costs), draws), errors.ravel()], axis=1)
        known = np.stack([np.log(front[:, 0]), front[:, 1]], axis=1)
        gains = hypervolume_gains(known, new, (math.log(reference[0]), reference[1]))
        rates: Floats = gains.reshape(len(kinds), draws).mean(axis=1) / costs**COST_POWER
        return rates
