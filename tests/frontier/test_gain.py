"""The gain of a point is the difference of two hypervolumes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.frontier import hypervolume, hypervolume_gains
from archsearch.jobs import InputError

point = st.tuples(st.integers(-3, 12), st.integers(-3, 12)).map(lambda pair: (pair[0] / 4, pair[1] / 4))


@given(st.lists(point, max_size=12), st.lists(point, min_size=1, max_size=6), point)
def test_it_is_what_the_hypervolume_grows_by(points, new, reference):
    before = hypervolume(points, reference)
    wanted = [hypervolume([*points, each], reference) - before for each in new]
    np.testing.assert_allclose(hypervolume_gains(points, new, reference), wanted, atol=1e-12)


def test_each_new_point_is_judged_alone():
    assert hypervolume_gains([(1, 2)], [(2, 1), (2, 1), (1, 2), (3, 3), (9, 0)], (4, 4)).tolist() == [2, 2, 0, 0, 0]


def test_nothing_new_gains_nothing():
    assert hypervolume_gains([(1, 2)], [], (4, 4)).tolist() == []


@pytest.mark.parametrize("points, new, reference", [([(1, 2, 3)], [(1, 2)], (1, 2)), ([], [(1, 2)], (1, 2, 3))])
def test_three_objectives_are_refused(points, new, reference):
    with pytest.raises(InputError, match="two objectives"):
        hypervolume_gains(points, new, reference)
