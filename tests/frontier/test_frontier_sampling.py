"""Sampling a parent from the band."""

from __future__ import annotations

import numpy as np
import pytest

from archsearch.frontier import hull_probabilities, sample_from_hull


def test_probabilities_are_those_of_the_paper() -> None:
    # u = [0, 1, 1/2] and v = [0, 1/2, 1] give weights 2, 1/2 + 2/3 and 2/3 + 1/2.
    weights = np.array([2, 7 / 6, 7 / 6])
    assert hull_probabilities([10, 15, 20], [3, 5, 4]) == pytest.approx(weights / weights.sum())


def test_draws_follow_the_probabilities() -> None:
    rng = np.random.default_rng(5)
    costs, counts, n = [1e4, 1e6, 4e6, 1e8], [9, 0, 2, 1], 20_000
    drawn = np.bincount([sample_from_hull(costs, counts, rng) for _ in range(n)], minlength=4) / n
    assert drawn == pytest.approx(hull_probabilities(costs, counts), abs=4 * 0.5 / np.sqrt(n))


def test_a_seed_decides_the_draw() -> None:
    costs, counts = np.arange(50.0), np.zeros(50)
    first, again = ([sample_from_hull(costs, counts, np.random.default_rng(s)) for s in range(20)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 5


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-9, 1e15, 1e308])
def test_any_scale_and_equal_values(scale: float) -> None:
    assert hull_probabilities([scale, scale], [0, 0]) == pytest.approx([0.5, 0.5])
    chances = hull_probabilities([-scale, scale], [7, 7])
    assert chances == pytest.approx([4 / 7, 3 / 7] if scale else [0.5, 0.5])


def test_one_point_is_drawn() -> None:
    assert sample_from_hull([3], [8], np.random.default_rng(0)) == 0


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="empty"):
        sample_from_hull([], [], rng)
    with pytest.raises(ValueError, match="lengths 1 and 2"):
        sample_from_hull([1], [1, 2], rng)
    with pytest.raises(ValueError, match="costs"):
        sample_from_hull([float("nan")], [1], rng)
