"""The front as a mask, its tolerance and its knee, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moocore import is_nondominated

from archsearch.frontier import epsilon_front, knee, nondominated, pareto, pareto_front
from archsearch.jobs import InputError

small = st.integers(-3, 4).map(float)


def beaten(points):
    """Pair by pair: whether another point is at least as good everywhere and better somewhere."""
    return [((points <= mine).all(axis=1) & (points < mine).any(axis=1)).any() for mine in points]


@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[small] * m), min_size=1, max_size=40)), st.booleans())
def test_a_point_is_kept_unless_another_beats_it(points, sampled):
    array = np.array(points)
    with pytest.MonkeyPatch.context() as patch:
        if sampled:
            patch.setattr(pareto, "SAMPLE", 2)  # so that few points too go through the staircase of a sample
        mask = nondominated(array)
    assert mask.tolist() == [not each for each in beaten(array)]
    assert set(pareto_front(array)) <= set(np.flatnonzero(mask))


@pytest.mark.parametrize("levels", [40, 10**9])
def test_many_points_have_the_front_that_moocore_finds(levels):
    rng = np.random.default_rng(levels)
    for errors in (rng.random(30_000), 1 - np.linspace(0, 1, 30_000) + 0.001 * rng.random(30_000)):
        points = np.round(np.column_stack([np.linspace(0, 1, 30_000), errors])[rng.permutation(30_000)] * levels)
        assert (nondominated(points) == is_nondominated(points, keep_weakly=True)).all()


def test_no_points_and_no_objectives():
    assert nondominated([]).tolist() == [] and epsilon_front([], 0.1).tolist() == [] and knee([]) is None
    with pytest.raises(InputError, match="at least one objective"):
        nondominated(np.empty((3, 0)))
    with pytest.raises(InputError, match=r"points\[1, 0\] is nan"):
        nondominated([(1, 2), (float("nan"), 2)])


@given(
    st.integers(2, 3).flatmap(lambda m: st.lists(st.tuples(*[small] * m), min_size=1, max_size=25)),
    st.sampled_from([0, 0.5, 1, 2]),
)
def test_the_epsilon_front_forgives_eps_and_no_more(points, eps):
    array = np.array(points)
    front = array[~np.array(beaten(array))]
    assert epsilon_front(array, eps).tolist() == [(each <= front + eps).all(axis=1).any() for each in array]


def test_the_knee_is_farthest_below_the_line_between_the_ends():
    front = np.array([(0, 10), (1, 5), (2, 1), (6, 0.5), (10, 0), (9, 9)], float)
    start, end = front[0], front[4]
    normal = np.array([end[1] - start[1], start[0] - end[0]]) / np.hypot(*(end - start))
    distances = (front - start) @ normal
    assert knee(front) == int(np.argmax(distances[:5])) == 2
    assert knee(front * (1000, 1e-6)) == 2  # whatever the units
    assert knee([(0, 2, 9), (2, 0, 9), (9, 9, 0), (2, 2, 2), (8, 8, 8)]) == 3
    assert knee([(0, 2), (1, 1), (2, 0)]) is None  # a straight front has none
    assert knee([(0, 2), (1.5, 1.5), (2, 0)]) is None  # nor one that bends away
    assert knee([(1, 1), (2, 2), (0.5, 3)]) is None
