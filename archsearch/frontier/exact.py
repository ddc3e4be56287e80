"""The two comparisons that decide hull and band, right to the last bit.

Each is first made in floating point with a bound on its rounding error, and again in exact rational arithmetic only when
that bound leaves its sign open (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997, section 4.3). So nearly
collinear points at any scale are classified as the given numbers say, in any order of insertion.
"""

from __future__ import annotations

import math
from fractions import Fraction

UNIT = 2.0**-53
_ORIENTATION_BOUND = (3.0 + 16.0 * UNIT) * UNIT
#: Below this a product may have underflowed and lost its relative precision.
_TINY = 1e-280
#: Rounding of ``limit``: at most 12 roundings of terms bounded by ``scale``; 32 leaves a margin.
LIMIT_BOUND = 32.0 * UNIT

Point = tuple[float, float]


def orientation(a: Point, b: Point, c: Point) -> int:
    """Where ``b`` lies against the chord from ``a`` to ``c`` (ax < bx < cx): 1 above, 0 on it, -1 below."""
    left = (b[1] - a[1]) * (c[0] - a[0])
    right = (c[1] - a[1]) * (b[0] - a[0])
    difference, size = left - right, abs(left) + abs(right)
    if _TINY < size < math.inf and abs(difference) > _ORIENTATION_BOUND * size:
        return 1 if difference > 0 else -1
    (ax, ay), (bx, by), (cx, cy) = _rational(a), _rational(b), _rational(c)
    exact = (by - ay) * (cx - ax) - (cy - ay) * (bx - ax)
    return (exact > 0) - (exact < 0)


def within(x: float, y: float, slack: float, left: Point, right: Point | None, eps: float) -> bool:
    """Whether ``y <= h + max(eps * h, slack, 0)``, where h is the hull's height at ``x``.

    Args:
        slack: the point's own tolerance as an exact float (``band_standard_errors * standard_error``, rounded once).
        left: the hull point at or left of ``x``.
        right: the next hull point (x < its cost), or None where the hull is flat.
    """
    flat = right is None or x == left[0]
    if flat:
        height, scale = left[1], abs(left[1])
        if y <= height:
            return True
    else:
        assert right is not None
        height = left[1] + (right[1] - left[1]) * ((x - left[0]) / (right[0] - left[0]))
        scale = abs(left[1]) + abs(right[1])
    limit = height + max(eps * height, slack, 0.0)
    bound = LIMIT_BOUND * ((1.0 + eps) * scale + slack + abs(y)) + _TINY
    if abs(y - limit) > bound and bound < math.inf:
        return y < limit
    return _within_exactly(x, y, slack, left, None if flat else right, eps)


def _within_exactly(x: float, y: float, slack: float, left: Point, right: Point | None, eps: float) -> bool:
    x0, y0 = _rational(left)
    height = y0
    if right is not None:
        x1, y1 = _rational(right)
        height += (y1 - y0) * (Fraction(x) - x0) / (x1 - x0)
    return Fraction(y) <= height + max(Fraction(eps) * height, Fraction(slack), Fraction(0))


def _rational(point: Point) -> tuple[Fraction, Fraction]:
    return Fraction(point[0]), Fraction(point[1])
