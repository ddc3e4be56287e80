"""Axes that fit their values, and labels that do not cover one another."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from archsearch.report.axes import accuracy_axis, cost_axis, error_axis
from archsearch.report.labels import MOST, place_labels
from archsearch.report.tables import macro


@pytest.fixture
def axes() -> Axes:
    figure = Figure(figsize=(9, 5.6), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def ticks(axis: Any) -> list[str]:
    """Labels of the major ticks within the limits."""
    axis.axes.get_figure().draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def test_costs_stand_on_a_logarithmic_axis_with_short_ticks(axes: Axes) -> None:
    cost_axis(axes, np.array([2e4, 9e7]))
    assert axes.get_xscale() == "log"
    assert ticks(axes.xaxis) == ["100 k", "1 M", "10 M", "100 M"]
    low, high = axes.get_xlim()
    assert low < 2e4 and high > 9e7


def test_costs_of_zero_stand_on_a_linear_axis(axes: Axes) -> None:
    cost_axis(axes, np.array([0.0, 3.0]))
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize(
    ("errors", "scale", "shown"),
    [
        ([1.0, 30.0], "log", ["1", "2", "5", "10", "20"]),
        ([0.0, 2.0, 30.0], "symlog", ["0", "2", "5", "10", "20"]),
        ([20.0, 24.0], "linear", None),
        ([5.0], "linear", None),
        ([0.0], "linear", None),
    ],
)
def test_errors_stand_on_the_axis_that_shows_them_all(axes: Axes, errors: list[float], scale: str, shown: list[str]) -> None:
    error_axis(axes, errors)
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale and low < min(errors) and max(errors) < high
    assert shown is None or ticks(axes.yaxis) == shown


@pytest.mark.parametrize("best", [100.0, 99.5])
def test_accuracies_near_100_are_told_apart(axes: Axes, best: float) -> None:
    accuracy_axis(axes, [60.0, 99.0, best])
    assert {"80", "90", "98", "99"} < set(ticks(axes.yaxis)) and ("100" in ticks(axes.yaxis)) == (best == 100)
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(0, y) for y in (60, 90, 99, best)]))[:, 1]
    assert (np.diff(heights) > 0.08).all() and heights[0] > 0 and heights[-1] < 1


def test_labels_do_not_cover_one_another_and_the_first_have_precedence(axes: Axes) -> None:
    rng = np.random.default_rng(2)
    spots = [(float(x), float(y), f"{i}") for i, (x, y) in enumerate(rng.uniform(0.2, 0.8, (MOST + 40, 2)), start=100)]
    spots[1] = (spots[0][0] + 0.002, spots[0][1], "101")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    place_labels(axes, spots)
    figure: Any = axes.get_figure()
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert "100" in boxes and 20 < len(boxes) <= MOST
    for a, b in itertools.combinations(boxes.values(), 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 2 or height < 4, "estimated sizes may be a hair too small, no more"


def test_nodes_are_those_of_the_largest_cell() -> None:
    cells = {"a": {"nodes": [[]] * 4}, "b": {"nodes": [[]]}}
    arch = {"family": "cell", "cells": cells, "layout": [{"reduction": True}, {"reduction": False}]}
    assert macro(arch) == {"cells": 2, "reductions": 1, "nodes": 4}
