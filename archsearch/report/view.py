"""The points of a run beside their frontier: what every table and picture of this room is made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsearch import measured
from archsearch.frontier import convex_hull, pareto_front
from archsearch.jobs import JSON, Stage
from archsearch.report.confirmed import confirmed_entry, confirmed_errors, confirmed_point
from archsearch.store import Point

#: Cost name -> (what it is, its unit). Others are shown by their name.
COSTS: Mapping[str, tuple[str, str]] = {
    "madds": ("multiply-adds", "per image"),
    "flops": ("floating-point operations", "per image"),
    "params": ("parameters", ""),
    "activation_bytes": ("activation memory", "bytes per image"),
}


#: Error name -> what it is. Others are shown by their name.
ERRORS: Mapping[str, str] = {"val_error": "validation error", "val_balanced_error": "balanced validation error"}


@dataclass(frozen=True)
class FrontierView:
    """Points that have cost and error, and the indices into them of hull, band and Pareto front, each ordered by cost.

    ``cost`` is the name of the cost in use: ``madds`` serves where no point has the one that was asked for, but for one that
    devices measure. Errors are
    shares, not percent; ``error`` is their name. ``eps`` and ``band_standard_errors`` are as in
    ``archsearch.frontier.convex_hull``.

    Once band and frontier were trained again (``search.confirm``), hull, band and front are made of these points alone, by the
    means of the new errors: ``confirmed`` has these by index (empty before), ``scores`` what each point was selected by.
    """

    points: tuple[Point, ...]
    cost: str
    error: str
    costs: np.ndarray
    errors: np.ndarray
    standard_errors: np.ndarray
    hull: tuple[int, ...]
    band: tuple[int, ...]
    front: tuple[int, ...]
    eps: float
    band_standard_errors: float
    scores: np.ndarray
    confirmed: Mapping[int, tuple[float, ...]]

    @classmethod
    def of(
        cls,
        points: Iterable[Point],
        *,
        cost: str = "madds",
        error: str = "val_error",
        eps: float = 0.025,
        band_standard_errors: float = 0.0,
        admits: Callable[[Point], bool] = lambda point: True,
    ) -> FrontierView:
        """Points without an error or the cost (a device has not answered), and those that ``admits`` refuses, are left out."""
        valid = [point for point in points if number(point, error) is not None and admits(point)]
        if "@" not in cost and not any(number(point, cost) is not None for point in valid):
            cost = "madds"
        valid = [point for point in valid if number(point, cost) is not None]
        costs, errors = (np.array([number(point, key) for point in valid], dtype=float) for key in (cost, error))
        deviations = np.array([number(point, deviation_of(error)) or 0.0 for point in valid], dtype=float)
        hull, band = convex_hull(costs, errors, eps, standard_errors=deviations, band_standard_errors=band_standard_errors)
        front = pareto_front(np.column_stack([costs, errors]))
        scores, confirmed = errors, confirmed_errors(valid, [*band.tolist(), *front.tolist()], error)
        if confirmed:
            valid = [
                confirmed_point(point, error, deviation_of(error)) if i in confirmed else point for i, point in enumerate(valid)
            ]
            errors, deviations = (
                np.array([number(point, key) or 0.0 for point in valid], dtype=float) for key in (error, deviation_of(error))
            )
            own = np.array(list(confirmed))
            hull, band = convex_hull(
                costs[own], errors[own], eps, standard_errors=deviations[own], band_standard_errors=band_standard_errors
            )
            front = pareto_front(np.column_stack([costs[own], errors[own]]))
            hull, band, front = own[hull], own[band], own[front]
        return cls(
            points=tuple(valid),
            cost=cost,
            error=error,
            costs=costs,
            errors=errors,
            standard_errors=deviations,
            hull=tuple(hull.tolist()),
            band=tuple(band.tolist()),
            front=tuple(front.tolist()),
            eps=eps,
            band_standard_errors=band_standard_errors,
            scores=scores,
            confirmed=confirmed,
        )

    @property
    def best(self) -> int | None:
        """Index of the lowest error, then lowest cost: the last of the hull."""
        return self.hull[-1] if self.hull else None

    def pick(self, indices: Sequence[int]) -> list[Point]:
        return [self.points[i] for i in indices]

    def entry(self, index: int) -> dict[str, JSON]:
        """One point as ``status --json`` shows it."""
        point = self.points[index]
        cost = point.metrics[self.cost]
        entry = {"id": point.id, "cost": cost, "error": float(self.errors[index]), "stage": str(point.stage)}
        entry |= {} if point.origin is None else {"origin": dict(point.origin)}
        return entry | (confirmed_entry(self.confirmed[index], float(self.scores[index])) if index in self.confirmed else {})


def summary(
    points: Sequence[Point],
    *,
    cost: str = "madds",
    error: str = "val_error",
    eps: float = 0.025,
    band_standard_errors: float = 0.0,
    admits: Callable[[Point], bool] = lambda point: True,
) -> dict[str, JSON]:
    """The frontier as JSON: ``{points, cost, error, hull, band, frontier, best}``, lists of ``{id, cost, error, stage}``.

    A point that was taken from an earlier run has ``origin`` as well. ``confirmed`` says whether the frontier was trained again
    with other seeds: then ``error`` is the mean of those, and an entry has ``selected_error``, ``confirmations`` and
    ``interval``.
    Lists are ordered by cost. ``cost`` and ``error`` name those in use, ``points`` counts the whole pool, ``best`` is None
    while there is no point.
    """
    view = FrontierView.of(points, cost=cost, error=error, eps=eps, band_standard_errors=band_standard_errors, admits=admits)
    lists = {"hull": view.hull, "band": view.band, "frontier": view.front}
    return {
        "points": len(points),
        "cost": view.cost,
        "error": view.error,
        "confirmed": bool(view.confirmed),
        **{name: [view.entry(i) for i in indices] for name, indices in lists.items()},
        "best": None if view.best is None else view.entry(view.best),
    }


def number(point: Point, key: str) -> float | None:
    """A metric of a point if it is a finite number."""
    value: Any = point.metrics.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def is_seed(point: Point) -> bool:
    return str(point.stage) in (Stage.SEED, Stage.SEED_TRAINED)


def quantity(value: float) -> str:
    """A count for people, three digits: 950, 12.3 k, 4.56 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:  # 999,600 is "1 M", not "1e+03 k"
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def deviation_of(error: str) -> str:
    """The metric that is the standard error of an error: ``val_standard_error`` of ``val_error``."""
    return f"{error.removesuffix('_error')}_standard_error"


def tested(error: str) -> str:
    """The metric that is a validation error on the test split."""
    return error.replace("val_", "test_", 1)


def error_label(name: str) -> str:
    """What kind of error that is, in words."""
    return ERRORS.get(name, name.replace("_", " "))


def cost_label(name: str) -> str:
    """The text of an axis: what is counted, and its unit."""
    what, unit = COSTS.get(name, (name.replace("_", " "), ""))
    what, unit = measured.label(name) or (what, unit)
    return f"{what} ({unit})" if unit else what


def interval(point: Point, name: str) -> tuple[float, float, bool] | None:
    """The 95 % interval of a quantity that was measured, and whether the measurement stayed noisy."""
    found: Any = point.metrics.get("measured", {}).get(name)
    return None if found is None else (found["low"], found["high"], found["noisy"])
