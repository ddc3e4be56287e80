"""Several runs beside one another: their frontiers in one picture, and how much each dominates of one common box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.frontier import hypervolume
from archsearch.jobs import JSON, InputError
from archsearch.report.axes import cost_axis, error_axis
from archsearch.report.pictures import drawn
from archsearch.report.view import FrontierView, cost_label, error_label, quantity
from archsearch.store import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito's colours, and shapes that repeat what they say.
LOOKS = (("#0072B2", "o"), ("#D55E00", "^"), ("#009E73", "s"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))
#: How far beyond the worst of all frontiers the reference lies, so that its extreme points count as well.
MARGIN = 1.1


@dataclass(frozen=True)
class Comparison:
    """Runs by name, all by one cost and one kind of error, and what their frontiers dominate.

    ``reference``: (cost, error share), the worst cost and the worst error on any of the frontiers, times 1.1; an error ends
    at 1. ``shares``: the hypervolume of each frontier against it, as a share of the box from 0 to the reference.
    ``dominated``: how many points of each frontier are worse than some point of another run (at least as bad in both, and
    worse in one).
    """

    cost: str
    error: str
    reference: tuple[float, float]
    views: Mapping[str, FrontierView]
    hypervolumes: Mapping[str, float]
    shares: Mapping[str, float]
    dominated: Mapping[str, int]

    def entry(self, name: str) -> dict[str, JSON]:
        """One run as ``runs compare --json`` shows it."""
        view = self.views[name]
        return {
            "points": len(view.points),
            "hypervolume": self.hypervolumes[name],
            "hypervolume_share": self.shares[name],
            "dominated": self.dominated[name],
            "best": None if view.best is None else view.entry(view.best),
            "frontier": [view.entry(i) for i in view.front],
        }


def compare(runs: Mapping[str, Sequence[Point]], *, cost: str = "madds", error: str = "val_error") -> Comparison:
    """Compare the pools of runs by ``error`` and ``cost``; ``madds`` where a run has not measured that cost.

    Raises:
        InputError: a run has no trained point.
    """
    views = {name: FrontierView.of(points, cost=cost, error=error) for name, points in runs.items()}
    if len({view.cost for view in views.values()}) > 1:
        views = {name: FrontierView.of(points, error=error) for name, points in runs.items()}
    if empty := [name for name, view in views.items() if not view.front]:
        raise InputError(f"{empty[0]} has no trained point yet: there is nothing to compare.")
    fronts = {name: _front(view) for name, view in views.items()}
    together = np.concatenate(list(fronts.values()))
    reference = (MARGIN * float(together[:, 0].max()) or 1.0, min(MARGIN * float(together[:, 1].max()) or 1.0, 1.0))
    volumes = {name: hypervolume(front, reference) for name, front in fronts.items()}
    return Comparison(
        cost=next(iter(views.values())).cost,
        error=error,
        reference=reference,
        views=views,
        hypervolumes=volumes,
        shares={name: volume / (reference[0] * reference[1]) for name, volume in volumes.items()},
        dominated={name: sum(_is_dominated(point, together) for point in front) for name, front in fronts.items()},
    )


def _front(view: FrontierView) -> np.ndarray:
    """The frontier's points (n, 2): cost and error share."""
    chosen = list(view.front)
    return np.column_stack([view.costs[chosen], view.errors[chosen]])


def _is_dominated(point: np.ndarray, others: np.ndarray) -> bool:
    return bool(((others <= point).all(axis=1) & (others < point).any(axis=1)).any())


def comparison_picture(comparison: Comparison) -> bytes:
    """The frontiers over one another, as PNG: steps and points of each run, its dominated points pale, the reference."""
    return drawn(lambda axes: _draw(axes, comparison))


def _draw(axes: Axes, comparison: Comparison) -> None:
    views = comparison.views
    fronts = {name: _front(view) for name, view in views.items()}
    reference_cost, reference_error = comparison.reference
    axes.set_title(f"Frontiers of {len(views)} runs")
    axes.set_xlabel(cost_label(comparison.cost))
    axes.set_ylabel(f"{error_label(comparison.error)} (%)")
    cost_axis(
        axes, np.concatenate([[reference_cost], *(view.costs[view.errors <= reference_error] for view in views.values())])
    )
    error_axis(axes, 100 * np.concatenate([[reference_error], *(front[:, 1] for front in fronts.values())]))
    for place, (name, view) in enumerate(views.items()):
        colour, marker = LOOKS[place % len(LOOKS)]
        front, rest = fronts[name], np.setdiff1d(np.arange(len(view.points)), view.front)
        steps = np.append(front[:, 0], reference_cost), 100 * np.append(front[:, 1], front[-1, 1])
        axes.step(*steps, where="post", color=colour, linewidth=1.4, zorder=4)
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none"}
        pale = rest[view.errors[rest] <= reference_error]
        axes.plot(view.costs[pale], 100 * view.errors[pale], markersize=4, alpha=0.3, markeredgewidth=0, zorder=3, **look)
        look |= {"markersize": 7.5, "markeredgecolor": "white", "markeredgewidth": 0.7, "zorder": 5}
        label = f"{name}: hypervolume {comparison.shares[name]:.4f} of the box"
        axes.plot(front[:, 0], 100 * front[:, 1], label=label, **look)
    corner = f"common reference: {100 * reference_error:.3g} % at {quantity(reference_cost)}"
    axes.plot([reference_cost], [100 * reference_error], "x", color="#222222", markersize=9, zorder=6, label=corner)
    axes.legend(loc="best", title="pale: dominated within the run")
