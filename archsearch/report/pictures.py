"""The pictures of a run, as PNG bytes. Colours are Okabe and Ito's, and shapes repeat what colours say."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.report.axes import accuracy_axis, cost_axis, error_axis
from archsearch.report.labels import place_labels
from archsearch.report.view import (
    FrontierView,
    cost_label,
    deviation_of,
    error_label,
    interval,
    is_seed,
    number,
    quantity,
    tested,
)
from archsearch.store import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEED, GROWN, HULL, BEST, TEST = "#0072B2", "#D55E00", "#222222", "#E69F00", "#009E73"
BAND, BAND_EDGE, MUTED = "#C4DECD", "#86BC9A", "#8A8A8A"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def pictures(view: FrontierView) -> dict[str, bytes]:
    """Every picture by its file name."""
    drawings: dict[str, Callable[[Axes], None]] = {
        "convex_hull.png": partial(_convex_hull, view=view),
        "seed_models_madds.png": partial(_seeds, view=view),
    }
    for cost in ("madds", "flops", "params"):
        drawings[f"model_gallery_accuracy_{cost}.png"] = partial(_gallery, view=view, cost=cost)
    return {name: drawn(draw) for name, draw in drawings.items()}


def drawn(draw: Callable[[Axes], None]) -> bytes:
    """One figure of one pair of axes. The object interface: no state is shared with a caller's own figures."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(9, 5.6), dpi=140, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(True, which="major", color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        out = io.BytesIO()
        canvas.print_png(out)  # type: ignore[no-untyped-call] # print_figure draws twice, to have the layout
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------------ the frontier
def _convex_hull(axes: Axes, view: FrontierView) -> None:
    """Cost against validation error: all points, Pareto steps, hull, band, and the frontier's ids."""
    axes.set_title(f"Frontier of {len(view.points)} trained model{'s' * (len(view.points) != 1)}")
    axes.set_xlabel(cost_label(view.cost))
    axes.set_ylabel(f"{error_label(view.error)} (%)")
    if view.best is None:
        _say(axes, "no trained model yet")
        return
    errors = 100 * view.errors
    front = errors[list(view.front)]
    tests = _tests(view.costs, view.points, view.front, view.error)
    top = max(float(np.percentile(errors, 90)), float(front.max()))  # a few bad points do not squeeze the rest
    cost_axis(axes, view.costs)
    error_axis(axes, [*front, top, *(error for _, error in tests), *(100 * view.scores[list(view.confirmed)])])
    _lines(axes, view)
    draw_intervals(axes, view, view.front)
    on_front = np.isin(np.arange(len(errors)), view.front)
    for kind, colour, marker, name in _kinds(view.points):
        rest, chosen = kind & ~on_front & (errors <= top), kind & on_front
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
        axes.plot(view.costs[rest], errors[rest], markersize=4.5, alpha=0.4, markeredgewidth=0, zorder=3, **look)
        look |= {"markersize": 7.5, "markeredgecolor": "white", "markeredgewidth": 0.7, "zorder": 6}
        pale = "dominated or not confirmed" if view.confirmed else "dominated"
        axes.plot(view.costs[chosen], errors[chosen], label=f"{name} ({kind.sum()}; pale: {pale})", **look)
    _mark_tests(axes, tests)
    _mark_scores(axes, view)
    x, y = view.costs[view.best], errors[view.best]
    label = f"best: {y:.2f} % at {quantity(x)}"
    ring: dict[str, Any] = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": BEST, "markeredgewidth": 2}
    axes.plot([x], [y], "o", zorder=5, label=label, **ring)
    above = int((errors > top).sum())
    if above:
        axes.set_xlabel(f"{axes.get_xlabel()}    [{above} model{'s' * (above != 1)} above {top:.3g} % not shown]")
    axes.legend(loc="best")
    order = dict.fromkeys((*view.hull[::-1], *view.front))  # corners of the hull get their labels first
    place_labels(axes, [(view.costs[i], errors[i], str(view.points[i].id)) for i in order], avoid=tests)


def _lines(axes: Axes, view: FrontierView) -> None:
    """Hull, band and Pareto steps. On a logarithmic axis the hull's straight edges are curves."""
    hull_x, hull_y = view.costs[list(view.hull)], 100 * view.errors[list(view.hull)]
    front_x, front_y = view.costs[list(view.front)], 100 * view.errors[list(view.front)]
    right = axes.get_xlim()[1]
    spread = np.geomspace if hull_x[0] > 0 else np.linspace
    x = np.unique(np.concatenate([spread(hull_x[0], right, 400), hull_x]))
    height = np.interp(x, hull_x, hull_y)
    deviation = np.interp(x, hull_x, 100 * view.standard_errors[list(view.hull)])
    multiple = view.band_standard_errors
    limit = height + np.maximum(view.eps * height, multiple * deviation)
    parts = [f"{100 * view.eps:.3g} %"] + ([f"{multiple:g} standard error" + "s" * (multiple != 1)] if multiple else [])
    label = f"band: hull + {' or '.join(parts)}"
    axes.fill_between(x, height, limit, facecolor=BAND, edgecolor=BAND_EDGE, linewidth=0.8, zorder=1, label=label)
    axes.plot(x, height, color=HULL, linewidth=1.6, zorder=4, label="convex hull")
    steps = np.append(front_x, right), np.append(front_y, front_y[-1])
    axes.step(*steps, where="post", color=MUTED, linewidth=1, linestyle=(0, (4, 2)), zorder=2, label="Pareto front")


def draw_intervals(axes: Axes, view: FrontierView, indices: Sequence[int]) -> None:
    """Horizontal bars from one end of each interval to the other, where the cost was measured."""
    bars = [(i, found) for i in indices if (found := interval(view.points[i], view.cost)) is not None]
    if bars:
        heights = [100 * view.errors[i] for i, _ in bars]
        lows, highs = ([found[end] for _, found in bars] for end in (0, 1))
        axes.hlines(heights, lows, highs, color=MUTED, linewidth=1.4, zorder=3, label="95 % interval of the median")


def _tests(x: np.ndarray, points: Sequence[Point], indices: Sequence[int], error: str) -> list[tuple[float, float]]:
    """Errors in percent on the held-out test split, where known: the pool's best validation errors are lucky ones."""
    return [(float(x[i]), 100 * share) for i in indices if (share := number(points[i], tested(error))) is not None]


def _mark_tests(axes: Axes, tests: Sequence[tuple[float, float]]) -> None:
    if tests:
        axes.plot(*np.array(tests).T, "x", color=TEST, markersize=6, markeredgewidth=1.4, zorder=5, label="on the test split")


def _mark_scores(axes: Axes, view: FrontierView) -> None:
    """Where confirmed points stood when they were selected."""
    if view.confirmed:
        own = list(view.confirmed)
        costs, before, after = view.costs[own], 100 * view.scores[own], 100 * view.errors[own]
        axes.vlines(costs, before, after, color=MUTED, linewidth=0.8, zorder=2)
        look: dict[str, Any] = {"markersize": 4, "markerfacecolor": "white", "markeredgecolor": MUTED, "markeredgewidth": 0.9}
        counts = [len(errors) for errors in view.confirmed.values()]
        label = f"score that selected it (mean of {max(counts)} other seed{'s' * (max(counts) != 1)} counts)"
        axes.plot(costs, before, "o", zorder=3, label=label, **look)


def _kinds(points: Sequence[Point]) -> list[tuple[np.ndarray, str, str, str]]:
    """Which points are seeds and which grown: (mask, colour, marker, name) of each kind that is there."""
    seeds = np.array([is_seed(point) for point in points], dtype=bool)
    return [kind for kind in ((seeds, SEED, "o", "seed"), (~seeds, GROWN, "^", "grown")) if kind[0].any()]


# -------------------------------------------------------------------------------------------------------- seeds and gallery
def _seeds(axes: Axes, view: FrontierView) -> None:
    """Where the search began: multiply-adds of the seeds and their errors."""
    seeds = [point for point in view.points if is_seed(point) and number(point, "madds") is not None]
    axes.set_title(f"The {len(seeds)} seed model{'s' * (len(seeds) != 1)}")
    axes.set_xlabel(cost_label("madds"))
    axes.set_ylabel(f"{error_label(view.error)} (%)")
    if not seeds:
        _say(axes, "no seed is trained yet")
        return
    madds, errors, bars = _columns(seeds, "madds", view.error)
    cost_axis(axes, madds)
    error_axis(axes, errors)
    axes.errorbar(madds, errors, bars, fmt="o", color=SEED, ecolor=MUTED, elinewidth=0.8, markersize=6, label="seed ± 1 s.e.")
    axes.legend(loc="best")
    place_labels(axes, list(zip(madds, errors, [str(point.id) for point in seeds], strict=True)))


def _gallery(axes: Axes, view: FrontierView, cost: str) -> None:
    """Accuracy of the frontier's models against one cost."""
    models = [point for point in view.pick(view.front) if number(point, cost) is not None]
    axes.set_title(f"Accuracy of the {len(models)} model{'s' * (len(models) != 1)} on the frontier")
    axes.set_xlabel(cost_label(cost))
    axes.set_ylabel("balanced accuracy (%)" if view.error == "val_balanced_error" else "accuracy (%)")
    if not models:
        _say(axes, f"no model with {cost} yet")
        return
    costs, errors, bars = _columns(models, cost, view.error)
    tests = [(x, 100 - error) for x, error in _tests(costs, models, range(len(models)), view.error)]
    cost_axis(axes, costs)
    accuracy_axis(axes, [*(100 - errors), *(accuracy for _, accuracy in tests)])
    for kind, colour, marker, name in _kinds(models):
        style: dict[str, Any] = {"fmt": marker, "color": colour, "ecolor": MUTED, "elinewidth": 0.8, "markersize": 7}
        axes.errorbar(costs[kind], 100 - errors[kind], bars[kind], **style, label=f"{name}, validation ± 1 s.e.")
    _mark_tests(axes, tests)
    axes.legend(loc="best")
    labels = [str(point.id) for point in models]
    place_labels(axes, list(zip(costs, 100 - errors, labels, strict=True)), avoid=tests)


def _columns(points: Sequence[Point], cost: str, error: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost, validation error and its standard error, the errors in percent."""
    costs, errors, bars = (
        np.array([number(point, key) or 0.0 for point in points]) for key in (cost, error, deviation_of(error))
    )
    return costs, 100 * errors, 100 * bars


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
