"""The frontier of a pool that grows by one point at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from archsearch.frontier.checks import tolerance
from archsearch.frontier.exact import Point, orientation, within
from archsearch.jobs import InputError


class Frontier:
    """Hull, band and Pareto front, kept up to date; equal to ``convex_hull`` and ``pareto_front`` of the points so far.

    A new point moves the hull only between its neighbours there, so only band members between these are looked at again.
    Points outside the band are forgotten for good: a new point can only lower the hull's height h (the hull bounds the convex
    hull of the points and everything right of and above them, and that set only grows), and a point's limit
    h + max(eps * h, slack, 0) never rises as h falls, since eps >= 0 and the slack is the point's own. Likewise a dominated
    point stays dominated.

    Adding costs O(log n) comparisons, plus one for each band member between the changed neighbours. "First" among equal
    points means first added. Settings as in ``convex_hull``.
    """

    def __init__(self, eps: float | None = None, *, band_standard_errors: float = 0.0) -> None:
        self._eps = None if eps is None else tolerance(eps, "eps")
        self._multiple = tolerance(band_standard_errors, "band_standard_errors")
        if self._multiple and eps is None:
            raise InputError(
                f"band_standard_errors is {self._multiple} but eps is None, which means no band; give eps, 0 will do"
            )
        self._known: set[int] = set()
        # Each list of corners (cost, error) has its list of ids beside it, so that queries copy and bisect without a key.
        self._hull: list[Point] = []
        self._hull_ids: list[int] = []
        self._front: list[Point] = []
        self._front_ids: list[int] = []
        self._band: list[tuple[float, float, int, float]] = []  # (cost, error, order of arrival, slack), sorted
        self._band_ids: list[int] = []

    def __len__(self) -> int:
        """Number of points added."""
        return len(self._known)

    def hull(self) -> list[int]:
        """Ids on the hull, ordered by cost; the last is the best point."""
        return list(self._hull_ids)

    def band(self) -> list[int]:
        """Ids in the band, ordered by cost."""
        return list(self._hull_ids if self._eps is None else self._band_ids)

    def front(self) -> list[int]:
        """Ids that no other point dominates, ordered by cost."""
        return list(self._front_ids)

    def best(self) -> int | None:
        """Id of the lowest error, then lowest cost, then first added; None while empty."""
        return self._hull_ids[-1] if self._hull_ids else None

    def would_join(self, cost: float, error: float, standard_error: float = 0.0) -> bool:
        """Whether a point would be in the band or on the front if it were added now; once it would not, it never will again."""
        point = (float(cost) + 0.0, float(error) + 0.0)
        before = bisect_right(self._front, (point[0], math.inf)) - 1
        if before < 0 or self._front[before][1] > point[1]:
            return True  # nothing dominates it
        return self._eps is not None and self._in_band(point, self._multiple * standard_error)

    def add(self, id: int, cost: float, error: float, standard_error: float = 0.0) -> None:
        """Add one point.

        Raises:
            InputError: a value that is not finite, a negative standard error, an id that was added before.
        """
        if id in self._known:
            raise InputError(f"point {id} was added before; expected each id once")
        if not (math.isfinite(cost) and math.isfinite(error)):
            raise InputError(f"point {id} has cost {cost} and error {error}; expected finite numbers")
        slack = tolerance(self._multiple * tolerance(standard_error, f"standard error of point {id}"), f"slack of point {id}")
        point = (float(cost) + 0.0, float(error) + 0.0)
        self._known.add(id)
        if _add_to_front(self._front, self._front_ids, point, id):
            place = _add_to_hull(self._hull, self._hull_ids, point, id)
            if place is not None and self._eps is not None:
                self._prune(place)
        if self._eps is not None and self._in_band(point, slack):
            entry = (*point, len(self._known), slack)
            position = bisect_left(self._band, entry)
            self._band.insert(position, entry)
            self._band_ids.insert(position, id)

    def _in_band(self, point: Point, slack: float) -> bool:
        return self._near(point, slack, bisect_right(self._hull, (point[0], math.inf)) - 1)

    def _near(self, point: Point, slack: float, left: int) -> bool:
        assert self._eps is not None
        right = self._hull[left + 1] if left + 1 < len(self._hull) else None
        return within(point[0], point[1], slack, self._hull[left], right, self._eps)

    def _prune(self, place: int) -> None:
        """Forget band members that the new hull corner at ``place`` has left outside: only between its neighbours."""
        hull = self._hull
        start = bisect_right(self._band, (hull[place - 1][0], math.inf)) if place else 0
        end = bisect_left(self._band, (hull[place + 1][0],)) if place + 1 < len(hull) else len(self._band)
        corner = hull[place][0]
        kept = [
            i
            for i in range(start, end)
            if self._near(self._band[i][:2], self._band[i][3], place if self._band[i][0] >= corner else place - 1)
        ]
        if len(kept) < end - start:
            self._band[start:end] = [self._band[i] for i in kept]
            self._band_ids[start:end] = [self._band_ids[i] for i in kept]


def _add_to_front(front: list[Point], ids: list[int], point: Point, id: int) -> bool:
    """Insert into the staircase unless dominated or equal to one there; what it dominates goes."""
    position = bisect_left(front, point)
    if position < len(front) and front[position] == point:
        return False
    if position and front[position - 1][1] <= point[1]:
        return False
    end = _first_below(front, position, point[1])
    front[position:end] = [point]
    ids[position:end] = [id]
    return True


def _first_below(corners: Sequence[Point], start: int, error: float) -> int:
    """First index from ``start`` whose error is below ``error``; errors fall along ``corners``."""
    return bisect_right(corners, -error, lo=start, key=lambda corner: -corner[1])


def _add_to_hull(hull: list[Point], ids: list[int], point: Point, id: int) -> int | None:
    """Insert a non-dominated point; its position, or None if it lies above the hull."""
    position = bisect_left(hull, point)
    end = _first_below(hull, position, point[1])  # hull[position:end] are dominated by the point
    if 0 < position < len(hull) and end == position and orientation(hull[position - 1], point, hull[position]) > 0:
        return None
    while end + 1 < len(hull) and orientation(point, hull[end], hull[end + 1]) > 0:
        end += 1
    while position > 1 and orientation(hull[position - 2], hull[position - 1], point) > 0:
        position -= 1
    hull[position:end] = [point]
    ids[position:end] = [id]
    return position
