"""The hull, its band and the fronts against a slow oracle in exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.frontier import Frontier, best, convex_hull, hypervolume, pareto_front


# ---------------------------------------------------------------------------------------------------------------- oracle
def oracle_front(points: list[tuple[Fraction, ...]]) -> list[int]:
    def beaten(i: int) -> bool:
        return any(
            all(a <= b for a, b in zip(q, points[i], strict=True)) and (q != points[i] or j < i)
            for j, q in enumerate(points)
            if j != i
        )

    return sorted((i for i in range(len(points)) if not beaten(i)), key=lambda i: points[i])


def oracle_hull(points: list[tuple[Fraction, ...]]) -> list[int]:
    """A front point is on the minorant if no slope from its left exceeds one to its right: no chord passes below it."""
    front = oracle_front(points)
    hull = []
    for i in front:
        x, y = points[i]
        lefts = [(y - points[j][1]) / (x - points[j][0]) for j in front if points[j][0] < x]
        rights = [(points[j][1] - y) / (points[j][0] - x) for j in front if points[j][0] > x]
        if not lefts or not rights or max(lefts) <= min(rights):
            hull.append(i)
    return hull


def oracle_height(points: list[tuple[Fraction, ...]], x: Fraction) -> Fraction:
    """The lowest of all points and chords at or left of ``x`` (the minorant does not rise)."""
    here = [q for q in points if q[0] <= x]
    beyond = [q for q in points if q[0] > x]
    lows = [q[1] for q in here]
    lows += [a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]) for a in here for b in beyond]
    return min(lows)


def oracle_band(points: list[tuple[Fraction, ...]], eps: float, slacks: list[float]) -> list[int]:
    chosen = []
    for i, (x, y) in enumerate(points):
        height = oracle_height(points, x)
        if y <= height + max(Fraction(eps) * height, Fraction(slacks[i]), Fraction(0)):
            chosen.append(i)
    return sorted(chosen, key=lambda i: (*points[i], i))


def rational(costs: list[float], errors: list[float]) -> list[tuple[Fraction, ...]]:
    return [(Fraction(c), Fraction(e)) for c, e in zip(costs, errors, strict=True)]


# -------------------------------------------------------------------------------------------------------------- examples
SCALES = st.sampled_from([1.0, 1e-9, 1e15, 3e-9, 7e11, 2.0**-536, 2.0**-1060, 1e300])
GRID = st.integers(0, 6).map(float)  # few values: ties, duplicates and collinear points abound
DECIMAL = st.integers(0, 40).map(lambda k: k / 40)  # as error rates are: nearly collinear after rounding
WILD = st.one_of(
    st.floats(1e-9, 1e-6), st.floats(0.0, 1.0), st.floats(1e9, 1e15), st.sampled_from([0.0, 5e-324, 1e-308, 1e308, 0.1, 0.3])
)
#: Corners of a convex chain of two edges, sometimes moved off it: many points exactly on the hull's edges.
LINE = st.tuples(st.integers(0, 9), st.sampled_from([0, 0, 0, 0, 0.5, -0.5])).map(
    lambda p: (float(p[0]), float(max(20 - 3 * p[0], 12 - p[0])) + p[1])
)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    kind = draw(st.sampled_from([GRID, DECIMAL, WILD, LINE]))
    pairs = draw(st.lists(LINE if kind is LINE else st.tuples(kind, kind), min_size=1, max_size=12))
    cost_scale, error_scale = (draw(SCALES), draw(SCALES)) if kind is not WILD else (1.0, 1.0)
    return [c * cost_scale for c, _ in pairs], [e * error_scale for _, e in pairs]


EPS = st.sampled_from([0.0, 1e-12, 0.025, 0.1, 0.5, 1.0])


# ------------------------------------------------------------------------------------------------------- against the oracle
@settings(max_examples=400, deadline=None, derandomize=True)
@given(pools())
def test_hull_and_front_are_the_oracles(pool: tuple[list[float], list[float]]) -> None:
    costs, errors = pool
    points = rational(costs, errors)
    hull, band = convex_hull(costs, errors)
    assert hull.tolist() == oracle_hull(points)
    assert band.tolist() == hull.tolist()
    assert hull.dtype == band.dtype == np.int64
    assert pareto_front(np.column_stack([costs, errors])).tolist() == oracle_front(points)
    assert best(costs, errors) == hull[-1]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(pools(), EPS, st.data())
def test_band_is_the_oracles(pool: tuple[list[float], list[float]], eps: float, data: st.DataObject) -> None:
    costs, errors = pool
    scale = max(errors)
    deviations = data.draw(st.lists(DECIMAL.map(lambda s: s * scale / 4), min_size=len(costs), max_size=len(costs)))
    multiple = data.draw(st.sampled_from([0.0, 1.0, 2.0]))
    hull, band = convex_hull(costs, errors, eps, standard_errors=deviations, band_standard_errors=multiple)
    assert band.tolist() == oracle_band(rational(costs, errors), eps, [multiple * s for s in deviations])
    assert set(hull) <= set(band)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(pools(), st.one_of(st.none(), EPS), st.randoms(use_true_random=False), st.sampled_from([0.0, 1.0]))
def test_incremental_form_equals_the_plain_one_after_every_point(pool, eps, random, multiple) -> None:
    costs, errors = pool
    multiple = 0.0 if eps is None else multiple
    deviations = [random.random() * max(errors) / 4 for _ in costs]
    order = list(range(len(costs)))
    random.shuffle(order)
    frontier = Frontier(eps, band_standard_errors=multiple)
    for n, i in enumerate(order, start=1):
        frontier.add(100 + i, costs[i], errors[i], deviations[i])
        seen = order[:n]
        c, e, s = ([values[j] for j in seen] for values in (costs, errors, deviations))
        hull, band = convex_hull(c, e, eps, standard_errors=s, band_standard_errors=multiple)
        assert frontier.hull() == [100 + seen[k] for k in hull]
        assert frontier.band() == [100 + seen[k] for k in band]
        assert frontier.front() == [100 + seen[k] for k in pareto_front(np.column_stack([c, e]))]
        assert frontier.best() == 100 + seen[best(c, e)]
        assert len(frontier) == n


@pytest.mark.parametrize("shape", ["cloud", "rising", "improving", "digits"])
def test_incremental_form_equals_the_plain_one_on_a_large_pool(shape: str) -> None:
    rng = np.random.default_rng(7)
    n = 3000
    costs = 10 ** rng.uniform(4, 9, n)
    if shape == "rising":
        costs.sort()
    errors = 0.9 * (costs / 1e4) ** -0.3 * rng.lognormal(0, 0.3, n)
    if shape == "improving":
        errors *= np.linspace(2, 0.5, n)
    if shape == "digits":  # error rates are counts of images
        costs, errors = np.round(costs, -4), np.round(errors * 300) / 300
    deviations = np.sqrt(np.clip(errors * (1 - errors), 1e-4, None) / 300)
    frontier = Frontier(0.025, band_standard_errors=1.0)
    for i in range(n):
        frontier.add(i, costs[i], errors[i], deviations[i])
    hull, band = convex_hull(costs, errors, 0.025, standard_errors=deviations, band_standard_errors=1.0)
    assert len(hull) < len(band) < n
    assert frontier.hull() == hull.tolist()
    assert frontier.band() == band.tolist()
    assert frontier.front() == pareto_front(np.column_stack([costs, errors])).tolist()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(GRID, GRID, GRID), max_size=12))
def test_front_of_three_objectives_is_the_oracles(rows: list[tuple[float, float, float]]) -> None:
    points = [tuple(map(Fraction, row)) for row in rows]
    assert pareto_front(rows).tolist() == oracle_front(points)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(GRID, GRID), min_size=1, max_size=8))
def test_hypervolume_counts_the_dominated_cells(rows: list[tuple[float, float]]) -> None:
    cells = [(i, j) for i in range(5) for j in range(5)]
    expected = sum(any(x <= i and y <= j for x, y in rows) for i, j in cells)
    assert hypervolume(rows, [5, 5]) == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------------------ by hand
@pytest.mark.parametrize(
    ("costs", "errors", "eps", "hull", "band"),
    [
        ([5], [0.5], 0.1, [0], [0]),
        ([1, 1], [0.2, 0.1], None, [1], [1]),  # equal costs
        ([2, 1], [0.1, 0.1], None, [1], [1]),  # equal errors
        ([2, 1], [0.1, 0.1], 0.0, [1], [1, 0]),  # the flat part belongs to the band
        ([3, 3, 3], [0.5, 0.5, 0.5], None, [0], [0]),  # duplicates: one on the hull
        ([3, 3, 3], [0.5, 0.5, 0.5], 0.0, [0], [0, 1, 2]),  # ... all in the band
        ([1, 2, 3, 4], [4, 3, 2, 1], None, [0, 1, 2, 3], [0, 1, 2, 3]),  # collinear
        ([1, 2, 3], [4, 3.0000001, 2], None, [0, 2], [0, 2]),  # just above the chord
        ([1, 2, 3], [4, 3.0000001, 2], 0.1, [0, 2], [0, 1, 2]),
        ([0, 0, 1], [0, 1, 0], 0.5, [0], [0, 2]),  # zeros: no relative tolerance above an error of 0
        ([1, 10, 5], [0.5, 0.1, 0.6], 0.1, [0, 1], [0, 1]),
        ([1e15, 2e15, 3e15], [3e-9, 1e-9, 0.9e-9], None, [0, 1, 2], [0, 1, 2]),
        ([4, 3, 2, 1], [1, 1.1, 2, 8], 0.0, [3, 2, 1, 0], [3, 2, 1, 0]),  # ordered by cost, not by index
    ],
)
def test_by_hand(costs, errors, eps, hull, band) -> None:
    found = convex_hull(costs, errors, eps)
    assert [indices.tolist() for indices in found] == [hull, band]


def test_the_best_has_the_lowest_error_and_not_the_highest_cost() -> None:
    costs, errors = [1, 5, 3, 9], [0.5, 0.1, 0.1, 0.2]
    assert best(costs, errors) == 2
    assert convex_hull(costs, errors)[0][-1] == 2


@pytest.mark.parametrize(
    ("left", "right", "point", "eps", "inside"),
    [
        ((3, 0.725), (10, 0.55), (8, 0.66), 0.1, True),
        ((3, 0.125), (8, 0.075), (7.5, 0.12), 0.5, True),
        ((3, 0.85), (6, 0.75), (4.5, 0.88), 0.1, False),
        ((2, 0.35), (3, 0.05), (2.5, 0.3), 0.5, False),
    ],
)
def test_points_on_the_edge_of_the_band_are_classified_exactly(left, right, point, eps, inside) -> None:
    """Plain floating point gets each of these wrong."""
    costs, errors = zip(left, right, point, strict=True)
    assert (2 in convex_hull(costs, errors, eps)[1]) is inside
    frontier = Frontier(eps)
    for i, (cost, error) in enumerate((left, right, point)):
        frontier.add(i, cost, error)
    assert (2 in frontier.band()) is inside


def test_standard_error_tolerates_where_eps_cannot() -> None:
    # One image of 100 above an error of 0: no eps reaches it, one standard error does, by the point's own uncertainty.
    costs, errors, deviations = [1, 2, 3], [0.0, 0.01, 0.01], [0.0, 0.02, 0.005]
    assert convex_hull(costs, errors, 1.0)[1].tolist() == [0]
    band = convex_hull(costs, errors, 0.0, standard_errors=deviations, band_standard_errors=1.0)[1]
    assert band.tolist() == [0, 1]


def test_negative_errors_keep_the_hull_in_the_band() -> None:
    hull, band = convex_hull([1, 2, 2], [-1.0, -3.0, -2.9], 0.5)
    assert hull.tolist() == band.tolist() == [0, 1]


def test_nothing_gives_nothing() -> None:
    hull, band = convex_hull([], [], 0.1)
    assert hull.shape == band.shape == (0,) and hull.dtype == np.int64
    assert pareto_front([]).shape == pareto_front(np.empty((0, 2))).shape == (0,)
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0.0
    empty = Frontier(0.1)
    assert (empty.hull(), empty.band(), empty.front(), empty.best(), len(empty)) == ([], [], [], None, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match=r"errors\[1\]"):
        convex_hull([1, 2], [1, bad])
    with pytest.raises(ValueError, match=r"costs\[0\]"):
        convex_hull([bad, 2], [1, 1], 0.1)
    with pytest.raises(ValueError, match=r"points\[1, 0\]"):
        pareto_front([[1, 2], [bad, 1]])
    with pytest.raises(ValueError, match="reference"):
        hypervolume([[1, 2]], [bad, 3])
    with pytest.raises(ValueError, match="standard_errors"):
        convex_hull([1], [1], 0.1, standard_errors=[bad], band_standard_errors=1)
    frontier = Frontier(0.1)
    for values in ((bad, 1, 0), (1, bad, 0), (1, 1, bad)):
        with pytest.raises(ValueError, match="point 3"):
            frontier.add(3, *values)
    assert len(frontier) == 0 and frontier.band() == []


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="lengths 2 and 1"):
        convex_hull([1, 2], [1])
    with pytest.raises(ValueError, match=r"eps is -0\.1"):
        convex_hull([1], [1], -0.1)
    with pytest.raises(ValueError, match="standard_errors is missing"):
        convex_hull([1], [1], 0.1, band_standard_errors=1)
    with pytest.raises(ValueError, match="eps is None"):
        convex_hull([1], [1], standard_errors=[1], band_standard_errors=1)
    with pytest.raises(ValueError, match="eps is None"):
        Frontier(band_standard_errors=1)
    with pytest.raises(ValueError, match="negative"):
        convex_hull([1], [1], 0.1, standard_errors=[-1], band_standard_errors=1)
    with pytest.raises(ValueError, match="one dimension"):
        convex_hull([[1]], [[1]])
    with pytest.raises(ValueError, match="2 objectives and reference 3"):
        hypervolume([[1, 2]], [3, 3, 3])
    with pytest.raises(ValueError, match="at least one"):
        best([], [])
    frontier = Frontier()
    frontier.add(1, 1, 1)
    with pytest.raises(ValueError, match="added before"):
        frontier.add(1, 2, 0.5)
    assert frontier.front() == [1]
