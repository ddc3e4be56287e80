"""The lower convex hull of (cost, error) points and the tolerance band above it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsearch.frontier.checks import Floats, Indices, same_length, tolerance, vector
from archsearch.frontier.exact import LIMIT_BOUND, orientation, within
from archsearch.frontier.pareto import front_of_two
from archsearch.jobs import InputError


def convex_hull(
    costs: ArrayLike,
    errors: ArrayLike,
    eps: float | None = None,
    *,
    standard_errors: ArrayLike | None = None,
    band_standard_errors: float = 0.0,
) -> tuple[Indices, Indices]:
    """The non-increasing lower-left convex hull and its band, both minimised (Petridish, section 3.3).

    *Hull*: the points such that no other has smaller or equal cost and smaller or equal error, and that lie on the convex
    minorant of all points; those in the middle of an edge count, and of equal points the first. Its last point is the
    best: lowest error, then lowest cost. *Band*: the points whose error is at most ``h + max(eps * h, band_standard_errors *
    standard error of the point)``, where h is the hull's height at their cost, flat right of its last point. All
    comparisons are exact in the floats given. Negative values are allowed; where h is negative ``eps`` tolerates nothing.

    Args:
        costs: (n,) finite, in any unit.
        errors: (n,) finite.
        eps: relative tolerance of the band, at least 0. None: the band is the hull itself; with 0 equal points join.
        standard_errors: (n,) at least 0, in the unit of ``errors``.
        band_standard_errors: tolerance in standard errors, at least 0; needs ``standard_errors`` and ``eps`` (0 will do).

    Returns:
        (hull, band): int64 indices ordered by cost, then error, then index. The band contains the hull.

    Raises:
        InputError (a ValueError): lengths that differ, a value that is not finite, a negative tolerance.
    """
    x, y = vector(costs, "costs"), vector(errors, "errors")
    same_length(x, y, "costs and errors")
    slack = _slack(len(x), eps, standard_errors, band_standard_errors)
    hull = _hull(x, y)
    if eps is None or len(x) == 0:
        return hull, hull.copy()
    inside = _inside(x, y, slack, x[hull], y[hull], tolerance(eps, "eps"))
    order = np.lexsort((y, x))
    return hull, order[inside[order]].astype(np.int64)


def best(costs: ArrayLike, errors: ArrayLike) -> int:
    """Index of the best point: the lowest error, then the lowest cost, then the first.

    Raises:
        InputError: no points, lengths that differ, or a value that is not finite.
    """
    x, y = vector(costs, "costs"), vector(errors, "errors")
    same_length(x, y, "costs and errors")
    if len(x) == 0:
        raise InputError("no points were given; expected at least one to choose the best from")
    return int(np.lexsort((x, y))[0])


def _slack(count: int, eps: float | None, standard_errors: ArrayLike | None, multiple: float) -> Floats:
    multiple = tolerance(multiple, "band_standard_errors")
    if multiple and eps is None:
        raise InputError(f"band_standard_errors is {multiple} but eps is None, which means no band; give eps, 0 will do")
    if standard_errors is None:
        if multiple:
            raise InputError(f"band_standard_errors is {multiple} but standard_errors is missing; give one per point")
        return np.zeros(count)
    deviations = vector(standard_errors, "standard_errors")
    if len(deviations) != count:
        raise InputError(f"standard_errors has length {len(deviations)}; expected one per point, {count}")
    if (deviations < 0).any():
        raise InputError(f"standard_errors[{int(np.argmax(deviations < 0))}] is negative; expected at least 0")
    return vector(multiple * deviations, "band_standard_errors * standard_errors")


def _hull(x: Floats, y: Floats) -> Indices:
    """Andrew's monotone chain over the non-dominated points; a point on a chord stays."""
    front = front_of_two(x, y)
    points = list(zip(x[front].tolist(), y[front].tolist(), strict=True))
    chain: list[int] = []
    for i, point in enumerate(points):
        while len(chain) > 1 and orientation(points[chain[-2]], points[chain[-1]], point) > 0:
            chain.pop()
        chain.append(i)
    return front[np.array(chain, dtype=np.int64)]


def _inside(x: Floats, y: Floats, slack: Floats, hull_x: Floats, hull_y: Floats, eps: float) -> np.ndarray:
    """``exact.within`` for all points: vectorised where rounding cannot change the answer, one by one elsewhere."""
    left = np.searchsorted(hull_x, x, side="right") - 1
    right = np.minimum(left + 1, len(hull_x) - 1)
    flat = (right == left) | (x == hull_x[left])
    with np.errstate(all="ignore"):  # what overflows is not "sure" and goes through the exact test
        share = np.where(flat, 0.0, (x - hull_x[left]) / np.where(flat, 1.0, hull_x[right] - hull_x[left]))
        height = hull_y[left] + (hull_y[right] - hull_y[left]) * share
        gap = height + np.maximum(np.maximum(eps * height, slack), 0.0) - y
        scale = (1.0 + eps) * (np.abs(hull_y[left]) + np.abs(hull_y[right])) + slack + np.abs(y)
        sure = (np.abs(gap) > LIMIT_BOUND * scale + 1e-280) & np.isfinite(scale) & np.isfinite(gap)
    answer: np.ndarray = gap > 0
    touching = flat & (y <= hull_y[left])  # hull points and their equals, without rounding
    answer |= touching
    corners = list(zip(hull_x.tolist(), hull_y.tolist(), strict=True))
    for i in np.flatnonzero(~(sure | touching)).tolist():
        k = int(left[i])
        following = corners[k + 1] if k + 1 < len(corners) else None
        answer[i] = within(float(x[i]), float(y[i]), float(slack[i]), corners[k], following, eps)
    return answer
