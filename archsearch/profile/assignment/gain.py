"""The gain of hypervolume to be expected of uncertain points, in closed form for two objectives."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from archsearch.frontier import pareto_front
from archsearch.profile.assignment.features import Floats


def expected_gains(points: Floats, means: Floats, deviations: Floats) -> Floats:
    """What each uncertain point alone is expected to add to the hypervolume in the unit square, both objectives minimised.

    The two objectives of a point are independent and normally distributed. Below the staircase of the front the gain is a sum
    of one product for each step, width times height, so that its expectation is one too (Emmerich, Deutz and Klinkenberg,
    "Hypervolume-based expected improvement: monotonicity properties and exact computation", CEC 2011).

    Args:
        points: (k, 2) what there is; need not be a front.
        means: (n, 2).
        deviations: (n, 2), above 0.

    Returns:
        (n,)
    """
    front = points[pareto_front(points)]
    left = np.concatenate(([-np.inf], front[:, 0]))
    right = np.minimum(np.concatenate((front[:, 0], [np.inf])), 1.0)
    height = np.minimum(np.concatenate(([np.inf], front[:, 1])), 1.0)
    width = _shortfall(right, means[:, :1], deviations[:, :1]) - _shortfall(left, means[:, :1], deviations[:, :1])
    gains = np.maximum(width, 0.0) * _shortfall(height, means[:, 1:], deviations[:, 1:])
    return np.asarray(gains.sum(axis=1))


def _shortfall(limit: Floats, mean: Floats, deviation: Floats) -> Floats:
    """E[max(limit - x, 0)] of a normal x; 0 for a limit of minus infinity."""
    below = np.where(np.isneginf(limit), 0.0, limit)
    z = (below - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected = (below - mean) * ndtr(z) + deviation * density
    return np.where(np.isneginf(limit), 0.0, np.maximum(expected, 0.0))
