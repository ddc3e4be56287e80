"""Paretoness against its formula, and the order that it promises, computed over all pairs and binned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from archsearch.frontier import paretoness
from archsearch.frontier.fuzzy import SIDES
from archsearch.frontier.normal import normal_cdf
from archsearch.jobs import InputError

#: Values with ties, near ties that differ in their last digits, and far ones.
value = st.one_of(
    st.integers(0, 6).map(float),
    st.integers(0, 8).map(lambda k: 1 + k * 2.0**-52),
    st.integers(0, 8).map(lambda k: 3 + k * 1e-9),
    st.floats(-1e6, 1e6),
)


def by_formula(points, ratios):
    z = np.array([np.log(column) if ratio else column for column, ratio in zip(np.transpose(points), ratios, strict=True)])
    n, m = len(points), len(z)
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True) * n ** (1 / (m + 4))
    beaten = np.prod([ndtr(axis[:, None] - axis) for axis in z], axis=0)
    np.fill_diagonal(beaten, 0)
    return beaten.sum(axis=1) / (n - 1)


def clouds(n, rng):
    """Costs and errors as they come: lognormal and correlated, ties, one crowd with few outsiders, far outliers."""
    normal = rng.normal(size=n)
    yield np.exp(normal), 0.2 - 0.05 * normal + 0.05 * rng.normal(size=n)
    yield np.exp(normal), np.round(rng.beta(2, 20, size=n), 2)
    yield np.exp(np.where(np.arange(n) < n // 100, rng.uniform(-17, 17, n), 0.0)), rng.normal(size=n)
    yield np.exp(np.where(np.arange(n) == 0, 300, normal)), np.where(np.arange(n) == 1, 1e5, rng.normal(size=n))


def test_phi_is_right_to_the_last_digits():
    x = np.linspace(-12, 12, 100_001)
    np.testing.assert_allclose(normal_cdf(x), ndtr(x), rtol=0, atol=3e-16)


@pytest.mark.parametrize("ratios", [(True, False), (False, True, False), (True, True, False, False)])
def test_all_pairs_give_the_formula(ratios):
    points = np.random.default_rng(7).uniform(0.1, 5, size=(300, len(ratios)))
    np.testing.assert_allclose(paretoness(points, ratios=ratios), by_formula(points, ratios), rtol=0, atol=1e-10)


def test_binned_is_within_5e_5_of_all_pairs_whatever_the_cloud():
    for costs, errors in clouds(2500, np.random.default_rng(3)):
        points = np.column_stack([costs, errors])
        exact, binned = (paretoness(points, ratios=(True, False), binned=binned) for binned in (False, True))
        assert np.abs(exact - binned).max() < 5e-5


def test_three_objectives_are_binned_too():
    points = np.random.default_rng(5).normal(size=(2200, 3))
    exact, binned = (paretoness(points, binned=binned) for binned in (False, None))
    assert 0 < np.abs(exact - binned).max() < 1e-3


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(value, value), min_size=1, max_size=30), binned=st.booleans())
def test_what_dominates_has_less_in_the_floats_returned(points, binned):
    array = np.array(points)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIDES, 2, 24)  # a coarser grid keeps order all the same
        share = paretoness(array, binned=binned)
    at_most = (array[:, None] <= array).all(axis=2)
    dominates = at_most & ~at_most.T
    assert (share[:, None] < share)[dominates].all()
    equal = at_most & at_most.T
    assert (share[:, None] == share)[equal].all()


def test_order_holds_for_many_points_with_near_ties():
    """20,000 points, of which many differ in the last digits of one objective only."""
    rng = np.random.default_rng(11)
    costs, errors = rng.integers(0, 60, size=(2, 20_000)) / 7
    points = np.column_stack([costs * (1 + rng.integers(0, 3, 20_000) * 2.0**-52), errors])
    share = paretoness(points)
    for i in rng.integers(0, len(points), 400):
        at_most = (points[i] <= points).all(axis=1)
        dominated = at_most & (points[i] < points).any(axis=1)
        assert (share[i] < share[dominated]).all()


def test_edges():
    assert paretoness(np.empty((0, 2))).tolist() == []
    assert paretoness([(3, 4)]).tolist() == [0]
    assert len(set(paretoness([(3, 4)] * 5).tolist())) == 1
    huge = paretoness([(1e308, 1e-308), (1e300, 2e-308), (-1e308, 3e-308)])
    assert np.isfinite(huge).all()
    with pytest.raises(InputError, match="above 0 to compare by ratio"):
        paretoness([(0, 1), (1, 1)], ratios=(True, False))
    with pytest.raises(InputError, match="at least 2"):
        paretoness([(1,), (2,)])
    with pytest.raises(InputError, match="can be binned where there are 2 or 3"):
        paretoness(np.ones((5, 4)), binned=True)
    with pytest.raises(InputError, match="20000 points in 4 objectives"):
        paretoness(np.ones((20_000, 4)))
