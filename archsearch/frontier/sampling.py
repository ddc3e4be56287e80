"""Choosing the next parent from the band."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsearch.frontier.checks import Floats, same_length, vector
from archsearch.jobs import InputError


def hull_probabilities(costs: ArrayLike, counts: ArrayLike) -> Floats:
    """Probability of each band member to be the next parent, proportional to 1/(1+u) + 1/(1+v).

    u is the sampling count and v the cost, each scaled to [0, 1] over the band (0 where all are equal): cheap models and
    those seldom sampled come first (Petridish, section 3.3).

    Args:
        costs: (n,) finite costs of the band.
        counts: (n,) how often each was sampled, at least 0.

    Raises:
        InputError: an empty band, lengths that differ, a value that is not finite.
    """
    x, n = vector(costs, "costs"), vector(counts, "counts")
    same_length(x, n, "costs and counts")
    if len(x) == 0:
        raise InputError("the band is empty; add a trained point before sampling a parent")
    weights: Floats = 1.0 / (1.0 + _scaled(n)) + 1.0 / (1.0 + _scaled(x))
    weights /= weights.sum()
    return weights


def sample_from_hull(costs: ArrayLike, counts: ArrayLike, rng: np.random.Generator) -> int:
    """Position within the band of the next parent, drawn with ``hull_probabilities``; takes one draw from ``rng``."""
    cumulative = np.cumsum(hull_probabilities(costs, counts))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _scaled(values: Floats) -> Floats:
    largest = np.abs(values).max()
    if largest == 0.0:
        return values
    values = values / largest  # so that the range of huge values does not overflow
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
