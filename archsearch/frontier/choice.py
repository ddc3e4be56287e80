"""Choosing from a front: what is nearly as good as it, and its knee. Objectives are minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsearch.frontier.checks import Floats, Mask, matrix, tolerance
from archsearch.frontier.pareto import nondominated


def epsilon_front(points: ArrayLike, eps: float) -> Mask:
    """Which points are as good as one of the front up to ``eps`` in every objective: what measuring may have put behind it.

    In the words of Laumanns, Thiele, Deb and Zitzler ("Combining convergence and diversity in evolutionary multiobjective
    optimization", 2002): those that epsilon-dominate a point of the front. Give logarithms and log(1.05) to forgive 5 %.

    Args:
        points: (n, m), all minimised.
        eps: at least 0, in the unit of all objectives; with 0 that is ``nondominated``.

    Returns:
        (n,) bool.

    Raises:
        InputError: not two-dimensional, a value that is not finite, a negative eps.
    """
    array, slack = matrix(points, "points"), tolerance(eps, "eps")
    front = nondominated(array)
    if slack == 0.0:
        return front
    limits = np.unique(array[front], axis=0) + slack
    if array.shape[1] == 2:  # the first objective rises along them and the second falls: of those that will do, the first
        first = np.searchsorted(limits[:, 0], array[:, 0])
        near: Mask = array[:, 1] <= np.append(limits[:, 1], -np.inf)[first]
        return near
    behind = np.flatnonzero(~front)
    for worst in limits:
        near = np.asarray((array[behind] <= worst).all(axis=1))
        front[behind[near]] = True
        behind = behind[~near]
    return front


def knee(points: ArrayLike) -> int | None:
    """The point of a front where a little more of one objective costs the most of the others.

    It is the one with the smallest sum of objectives, each scaled to [0, 1] over the front, the first of equal ones. With two
    objectives that is the point farthest below the straight line between the front's ends (I. Das, "On characterizing the
    knee of the Pareto curve based on Normal-Boundary Intersection", 1999); for more it is the smallest Manhattan distance to
    the ideal point (Chiu, Yen and Juan, "Minimum Manhattan distance approach to multiple criteria decision making in
    multiobjective optimization problems", 2016). Give logarithms of what is compared by ratio.

    Args:
        points: (n, m), all minimised; those that are dominated do not count.

    Returns:
        The point's index; None where the front has fewer than three different points, or no bend towards the ideal.

    Raises:
        InputError: not two-dimensional, or a value that is not finite.
    """
    array = matrix(points, "points")
    indices = np.flatnonzero(nondominated(array))
    front = array[indices]
    if len(np.unique(front, axis=0)) < 3:
        return None
    low, high = front.min(axis=0), front.max(axis=0)
    sums = ((front - low) / np.where(high > low, high - low, 1.0)).sum(axis=1)
    found = int(np.argmin(sums))
    ends: Floats = sums[np.argmin(front, axis=0)]  # of two objectives these sums are 1
    return int(indices[found]) if sums[found] < ends.min() - 1e-9 else None
