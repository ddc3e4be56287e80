"""The frontiers on what devices have measured, side by side: medians with their 95 % intervals, noisy ones hollow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.report.axes import cost_axis, error_axis
from archsearch.report.labels import place_labels
from archsearch.report.pictures import GROWN, HULL, MUTED, SEED, STYLE, draw_intervals
from archsearch.report.view import FrontierView, cost_label, error_label, interval, is_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Pictures in a row.
IN_A_ROW = 2


def device_pictures(views: Sequence[FrontierView]) -> dict[str, bytes]:
    """``device_frontiers.png``: a picture for each view; nothing if there is none."""
    if not views:
        return {}
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(IN_A_ROW, len(views))
    rows = -(-len(views) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4 * columns, 4.8 * rows), dpi=140, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        for number, view in enumerate(views, 1):
            axes = figure.add_subplot(rows, columns, number)
            axes.grid(True, which="major", color="#E4E4E4", linewidth=0.6)
            axes.set_axisbelow(True)
            _draw(axes, view)
        out = io.BytesIO()
        canvas.print_png(out)  # type: ignore[no-untyped-call] # print_figure draws twice, to have the layout
    return {"device_frontiers.png": out.getvalue()}


def _draw(axes: Axes, view: FrontierView) -> None:
    axes.set_title(f"{view.cost}: {len(view.front)} of {len(view.points)} measured on the frontier", fontsize=10)
    axes.set_xlabel(cost_label(view.cost))
    axes.set_ylabel(f"{error_label(view.error)} (%)")
    if not view.points:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", va="center", color=MUTED)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    errors = 100 * view.errors
    cost_axis(axes, view.costs)
    error_axis(axes, errors)
    front = list(view.front)
    steps = np.append(view.costs[front], axes.get_xlim()[1]), np.append(errors[front], errors[front][-1])
    axes.step(*steps, where="post", color=HULL, linewidth=1.2, zorder=2, label="Pareto front")
    draw_intervals(axes, view, range(len(view.points)))
    seeds = np.array([is_seed(point) for point in view.points])
    noisy = np.array([(interval(point, view.cost) or (0, 0, False))[2] for point in view.points], dtype=bool)
    for kind, colour, marker, name in ((seeds, SEED, "o", "seed"), (~seeds, GROWN, "^", "grown")):
        for which, face, words in ((kind & ~noisy, colour, name), (kind & noisy, "white", f"{name}, noisy")):
            if which.any():
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 6}
                axes.plot(view.costs[which], errors[which], markerfacecolor=face, zorder=4, label=words, **look)
    axes.legend(loc="best")
    place_labels(axes, [(view.costs[i], errors[i], str(view.points[i].id)) for i in front])
