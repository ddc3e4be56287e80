"""Recipes by cost and accuracy: the front, and the fuzzy ranking as colour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsearch.report.axes import cost_axis
from archsearch.report.labels import place_labels
from archsearch.report.pictures import BEST, GROWN, HULL, MUTED, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of more rows than this an even share is drawn, and all of those on the front or chosen.
MOST = 20_000


def recipes_picture(
    costs: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    labels: tuple[str, str],
    title: str,
    front: NDArray[np.bool_],
    chosen: Sequence[int],
    paretoness: NDArray[np.float64] | None = None,
    knee: int | None = None,
    steps: bool = True,
    bigger: tuple[bool, bool] = (False, True),
) -> bytes:
    """A PNG: every row as a dot, coloured by its place in the fuzzy ranking; the front black; the chosen ringed and numbered.

    Args:
        costs: (n,) the horizontal axis.
        values: (n,) the vertical axis.
        labels: of the two axes.
        front: (n,) whether a row is on the front.
        chosen: indices, best first: numbered from 1.
        paretoness: (n,) smaller is better; None: no colour.
        knee: index of the front's knee.
        steps: draw the front as a line of steps: it is one of these two axes.
        bigger: of each axis whether more is better.
    """
    data: dict[str, Any] = {"front": front, "chosen": list(chosen), "share": paretoness, "knee": knee}
    return drawn(partial(_draw, x=costs, y=values, labels=labels, title=title, steps=steps, bigger=bigger, **data))


def _draw(
    axes: Axes,
    *,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    labels: tuple[str, str],
    title: str,
    front: NDArray[np.bool_],
    chosen: list[int],
    share: NDArray[np.float64] | None,
    knee: int | None,
    steps: bool,
    bigger: tuple[bool, bool],
) -> None:
    axes.set_title(title, parse_math=False)  # names are a stranger's: $ is no formula
    axes.set_xlabel(labels[0], parse_math=False)
    axes.set_ylabel(labels[1], parse_math=False)
    cost_axis(axes, x)
    shown = _shown(front, chosen)
    look: dict[str, Any] = {"s": 14, "linewidths": 0, "zorder": 2}
    if share is None:
        axes.scatter(x[shown], y[shown], color=MUTED, **look)
    else:
        ranked = np.empty(len(share))
        ranked[np.argsort(share, kind="stable")] = np.linspace(0, 100, len(share)) if len(share) > 1 else 0.0
        dots = axes.scatter(x[shown], y[shown], c=ranked[shown], cmap="viridis", vmin=0, vmax=100, **look)
        figure = axes.get_figure(root=True)
        assert figure is not None
        bar = figure.colorbar(dots, ax=axes, pad=0.01)
        bar.set_label("place in the fuzzy ranking (%), 0 is the first")
        bar.ax.invert_yaxis()
    edge = np.flatnonzero(front)
    edge = edge[np.lexsort((y[edge], x[edge]))]
    where: Literal["pre", "post"] = "pre" if bigger[0] else "post"
    if steps and len(edge) > 1:
        axes.step(x[edge], y[edge], where=where, color=HULL, linewidth=1.2, zorder=3, label=f"front ({len(edge)})")
    else:
        axes.plot(x[edge], y[edge], ".", color=HULL, markersize=5, zorder=3, label=f"front ({len(edge)})")
    ring: dict[str, Any] = {"linestyle": "none", "marker": "o", "markerfacecolor": "none", "markersize": 9}
    axes.plot(x[chosen], y[chosen], markeredgecolor=GROWN, zorder=5, label=f"chosen ({len(chosen)})", **ring)
    if knee is not None:
        axes.plot(x[[knee]], y[[knee]], "D", color=BEST, markersize=6, zorder=4, label="knee")
    axes.legend(loc="best")
    place_labels(axes, [(x[i], y[i], str(place)) for place, i in enumerate(chosen, 1)])


def _shown(front: NDArray[np.bool_], chosen: list[int]) -> NDArray[np.intp]:
    """Indices of the rows that are drawn."""
    if len(front) <= MOST:
        return np.arange(len(front))
    even = np.arange(0, len(front), -(-len(front) // MOST))
    return np.unique(np.concatenate((even, np.flatnonzero(front)[:MOST], chosen))).astype(np.intp)
