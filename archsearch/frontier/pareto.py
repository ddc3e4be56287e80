"""Dominance and hypervolume in any number of objectives, all minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsearch.frontier.checks import Floats, Indices, Mask, matrix, vector
from archsearch.jobs import InputError

#: Points whose front is tried against all others first.
SAMPLE = 1024


def pareto_front(points: ArrayLike) -> Indices:
    """Indices of the points that no other point beats: at least as good everywhere and better somewhere.

    Args:
        points: (n, m), one column per objective, all minimised.

    Returns:
        int64 indices, ordered by the first objective, then the next. Of equal points only the first is kept, so that a
        front lists each trade-off once.

    Raises:
        InputError: not two-dimensional, or a value that is not finite.
    """
    array = matrix(points, "points")
    if array.shape[0] == 0:
        return np.empty(0, dtype=np.int64)
    if array.shape[1] == 0:
        raise InputError(f"points has shape {array.shape}; expected at least one objective")
    if array.shape[1] == 2:
        return front_of_two(array[:, 0], array[:, 1])
    from moocore import is_nondominated  # type: ignore[import-untyped]

    unique, first = np.unique(array, axis=0, return_index=True)  # sorted by row; index of the first of equal rows
    keep = np.asarray(is_nondominated(unique, keep_weakly=False), dtype=bool)
    front: Indices = first[keep].astype(np.int64)
    return front


def nondominated(points: ArrayLike) -> Mask:
    """Which points no other point beats, equal ones all kept: ``pareto_front`` as a mask, and with every point of a trade-off.

    Args:
        points: (n, m), one column per objective, all minimised.

    Returns:
        (n,) bool.

    Raises:
        InputError: not two-dimensional, or a value that is not finite.
    """
    array = matrix(points, "points")
    if array.shape[0] == 0:
        return np.zeros(0, dtype=bool)
    if array.shape[1] == 0:
        raise InputError(f"points has shape {array.shape}; expected at least one objective")
    if array.shape[1] == 2:
        return nondominated_of_two(np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1]))
    from moocore import is_nondominated

    mask: Mask = np.asarray(is_nondominated(array, keep_weakly=True), dtype=bool)
    return mask


def nondominated_of_two(costs: Floats, errors: Floats) -> Mask:
    """``nondominated`` of two objectives: O(n log s) for a staircase of ``s`` points, then a sort of what that leaves.

    Where the front is small, the front of a sample beats nearly all points, and few are left to be sorted.
    """
    front = np.zeros(len(costs), dtype=bool)
    left = np.arange(len(costs))
    if len(costs) > 4 * SAMPLE:
        every = len(costs) // SAMPLE
        corners = front_of_two(costs[::every], errors[::every]) * every
        before = np.searchsorted(costs[corners], costs)  # how many corners cost less
        lowest = np.concatenate(([np.inf], errors[corners]))[before]
        left = np.flatnonzero(errors < lowest)
    x, y = costs[left], errors[left]
    order = np.argsort(x)
    x, y = x[order], y[order]
    new = np.concatenate(([True], x[1:] != x[:-1])) if len(x) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(new)
    if len(starts):
        lowest_here = np.minimum.reduceat(y, starts)  # of equal costs only the lowest error can be on the front
        lowest_before = np.concatenate(([np.inf], np.minimum.accumulate(lowest_here)[:-1]))
        on_front = np.where(lowest_here < lowest_before, lowest_here, np.nan)
        front[left[order[y == on_front[np.cumsum(new) - 1]]]] = True
    return front


def front_of_two(costs: Floats, errors: Floats) -> Indices:
    """``pareto_front`` of two objectives, O(n log n): costs strictly rise and errors strictly fall along the answer."""
    order = np.lexsort((errors, costs))  # stable, so the first of equal points comes first
    sorted_errors = errors[order]
    lowest_before = np.concatenate(([np.inf], np.minimum.accumulate(sorted_errors)[:-1]))
    return order[sorted_errors < lowest_before].astype(np.int64)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by ``points`` (n, m) and bounded by ``reference`` (m,), all minimised; larger is better.

    Points that do not beat the reference add nothing; no points give 0. The unit is the product of the objectives' units.

    Raises:
        InputError: a value that is not finite, or a reference of another length than m.
    """
    array, bound = matrix(points, "points"), vector(reference, "reference")
    if array.shape[0] == 0:
        return 0.0
    if array.shape[1] != len(bound):
        raise InputError(f"points has {array.shape[1]} objectives and reference {len(bound)}; expected equal numbers")
    from moocore import hypervolume as volume

    return float(volume(array, ref=bound))
