"""Paretoness: how likely another point is to beat this one in every objective, so that easy, crowded regions rank low.

    iv_i = 1/(n-1) * sum over j != i of the product over objectives k of Phi((z_ik - z_jk) / h)

z are the objectives, minimised, standardised (those compared by ratio are logarithms), h = n^(-1/(m+4)) is Scott's bandwidth
for m objectives (n^(-1/6) for two; D. W. Scott, "Multivariate Density Estimation", 1992, section 6.3), and Phi is the normal
distribution function. If i dominates j then iv_i < iv_j.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsearch.frontier.checks import Floats, Indices, matrix
from archsearch.frontier.normal import normal_cdf
from archsearch.frontier.smoothing import smoothed_at_points
from archsearch.jobs import InputError

#: Up to so many points all pairs are looked at.
FEW = 2048
#: Nodes along each axis of the grid for more points, by the number of objectives. With others all pairs are looked at...
SIDES = {2: 512, 3: 128}
#: ...of at most so many points.
MOST_PAIRED = 10_000

#: Pairs that are looked at together: they fit the processor's cache.
_BLOCK = 1 << 16
#: What one rank is worth; several times the rounding error of a share, which is at most 1.
_NUDGE = 2.0**-45


def paretoness(points: ArrayLike, *, ratios: Sequence[bool] = (), binned: bool | None = None) -> Floats:
    """The paretoness of each point, between 0 (nothing comes near it) and 1 (everything beats it).

    Two or three objectives of many points are binned, see ``archsearch.frontier.smoothing``: two in O(n log n) with an error
    below 5e-5 (experiments/pareto_queries has it measured). All pairs are looked at otherwise, in O(n^2).

    That a dominating point has a smaller value holds for the floats returned too, in both ways of computing. Smoothing and
    interpolating never turn it round, but rounding may, and may make near ones equal. So the sum of a point's ranks in each
    objective counts as well, with 3e-14 a rank (together below 6e-8 for a million points).

    Args:
        points: (n, m) finite, one column per objective, all minimised.
        ratios: whether a column is compared by ratio: its logarithm is taken, and its values must be above 0. Default: none.
        binned: True or False: compute so, whatever the number of points. Default: as said above.

    Returns:
        (n,) floats.

    Raises:
        InputError: not two-dimensional, fewer than two objectives, a value that is not finite, one in a column of ratios that
            is not above 0; so many points and objectives that neither way will do.
    """
    array = matrix(points, "points")
    n, m = array.shape
    if n == 0:
        return np.empty(0)
    if m < 2:
        raise InputError(f"points has {m} objectives; paretoness expects at least 2")
    if binned is None:
        binned = n > FEW and m in SIDES
    if binned and m not in SIDES:
        raise InputError(f"points has {m} objectives; they can be binned where there are {' or '.join(map(str, SIDES))}")
    if m not in SIDES and n > MOST_PAIRED:
        raise InputError(
            f"{n} points in {m} objectives are too many to look at all pairs; expected at most {MOST_PAIRED}, "
            "or two or three objectives"
        )
    if n == 1:
        return np.zeros(1)
    columns = [np.ascontiguousarray(column) for column in array.T]
    places, ranks = [], np.zeros(n)
    for k, column in enumerate(columns):
        by_ratio = k < len(ratios) and ratios[k]
        if by_ratio and column.min() <= 0:
            raise InputError(
                f"points[{int(column.argmin())}, {k}] is {column.min()}; expected values above 0 to compare by ratio"
            )
        places.append(_standardised(np.log(column) if by_ratio else column) * n ** (1 / (m + 4)))
        ranks += _dense_ranks(column)
    beaten = smoothed_at_points(places, SIDES[m]) if binned else _all_pairs(places)
    share = np.maximum(np.asarray(beaten - 0.5**m, dtype=np.float64), 0.0) / (n - 1)  # without the point itself
    nudged: Floats = share + _NUDGE * ranks
    return nudged


def _all_pairs(places: Sequence[Floats]) -> NDArray[np.longdouble]:
    """For each point the sum over all points, itself included, of the products of Phi."""
    n = len(places[0])
    rows = max(1, _BLOCK // n)
    sums = np.empty(n, dtype=np.longdouble)
    for start in range(0, n, rows):
        products: Floats | None = None
        for place in places:
            beaten = normal_cdf(place[start : start + rows, None] - place)
            products = beaten if products is None else products * beaten
        assert products is not None
        sums[start : start + rows] = products.sum(axis=1, dtype=np.longdouble)
    return sums


def _standardised(values: Floats) -> Floats:
    """Mean 0 and deviation 1, or all 0 where all are equal. In extended precision: mirror images get mirrored places."""
    exact = values.astype(np.longdouble)
    exact = exact / max(np.abs(exact).max(), np.finfo(np.float64).tiny)
    exact = exact - exact.mean()
    deviation = np.sqrt((exact * exact).mean())
    standardised: Floats = (exact / deviation if values.min() < values.max() else exact * 0).astype(np.float64)
    return standardised


def _dense_ranks(values: Floats) -> Indices:
    """0 for the smallest, 1 for the next larger..., the same for equal ones."""
    order = np.argsort(values)
    sorted_values = values[order]
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.concatenate(([0], np.cumsum(sorted_values[1:] != sorted_values[:-1])))
    return ranks
