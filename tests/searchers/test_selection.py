"""The best untried set of ranked pairs: order, laziness, completeness."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.searchers.selection import best_sets, edges


def ranking(strengths):
    return [("s0", f"op{i}", a) for i, a in enumerate(sorted(strengths, key=abs, reverse=True))]


def weight(choice):
    return sum(abs(alpha) for pairs in choice.values() for _, _, alpha in pairs)


@given(
    st.dictionaries(
        st.sampled_from(["normal", "reduction", "cell_02"]),
        st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=5),
        min_size=1,
    ),
    st.integers(1, 3),
)
def test_every_set_once_in_falling_order(strengths, size):
    ranked = {name: ranking(values) for name, values in strengths.items()}
    found = list(best_sets(ranked, size))
    keys = [tuple((name, tuple(op for _, op, _ in pairs)) for name, pairs in sorted(choice.items())) for choice in found]
    expected = math.prod(math.comb(len(values), min(size, len(values))) for values in strengths.values())
    assert len(keys) == len(set(keys)) == expected
    weights = [weight(choice) for choice in found]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(weights))


def test_a_strong_negative_shortcut_is_chosen_first():
    ranked = {"normal": [("s0", "sep_conv_3x3", -0.9), ("s1", "skip_connect", 0.5), ("n0", "max_pool_3x3", 0.1)]}
    first = next(best_sets(ranked, 2))
    assert [(s, op) for s, op, _ in first["normal"]] == [("s0", "sep_conv_3x3"), ("s1", "skip_connect")]
    assert [(edge.source, edge.op) for edge in edges(first)["normal"]] == [("s0", "sep_conv_3x3"), ("s1", "skip_connect")]


def test_ties_go_by_rank():
    ranked = {"normal": [("s0", f"op{i}", 0.5) for i in range(4)]}
    assert [op for _, op, _ in next(best_sets(ranked, 3))["normal"]] == ["op0", "op1", "op2"]


def test_the_first_of_very_many_is_there_at_once():
    ranked = {f"cell_{i:02d}": ranking([0.01 * (j + 1) for j in range(42)]) for i in range(20)}
    top = [next(best_sets(ranked, 3)) for _ in range(3)]
    assert len(top[0]) == 20 and top[0] == top[1] == top[2]


@pytest.mark.parametrize("ranked", [{}, {"normal": []}])
def test_nothing_ranked_gives_nothing(ranked):
    assert list(best_sets(ranked, 3)) == []


def test_a_candidate_that_is_not_a_number_comes_last():
    ranked = {"normal": [("s0", "a", 0.2), ("s0", "b", 0.1), ("s0", "bad", float("nan"))]}
    assert [op for _, op, _ in next(best_sets(ranked, 2))["normal"]] == ["a", "b"]
