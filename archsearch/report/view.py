"""The points of a run beside their frontier: what every table and picture of this room is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsearch.frontier import convex_hull, pareto_front
from archsearch.jobs import JSON, Stage
from archsearch.store import Point

#: Cost name -> (what it is, its unit). Others are shown by their name.
COSTS: Mapping[str, tuple[str, str]] = {
    "madds": ("multiply-adds", "per image"),
    "flops": ("floating-point operations", "per image"),
    "params": ("parameters", ""),
    "activation_bytes": ("activation memory", "bytes per image"),
}


@dataclass(frozen=True)
class FrontierView:
    """Points that have cost and error, and the indices into them of hull, band and Pareto front, each ordered by cost.

    ``cost`` is the name of the cost in use: ``madds`` serves while no point has the one that was asked for. Errors are
    shares, not percent. ``eps`` and ``band_standard_errors`` are as in ``archsearch.frontier.convex_hull``.
    """

    points: tuple[Point, ...]
    cost: str
    costs: np.ndarray
    errors: np.ndarray
    standard_errors: np.ndarray
    hull: tuple[int, ...]
    band: tuple[int, ...]
    front: tuple[int, ...]
    eps: float
    band_standard_errors: float

    @classmethod
    def of(
        cls, points: Iterable[Point], *, cost: str = "madds", eps: float = 0.025, band_standard_errors: float = 0.0
    ) -> FrontierView:
        """Points without an error or the cost (a device has not answered) are left out."""
        valid = [point for point in points if number(point, "val_error") is not None]
        if not any(number(point, cost) is not None for point in valid):
            cost = "madds"
        valid = [point for point in valid if number(point, cost) is not None]
        costs, errors = (np.array([number(point, key) for point in valid], dtype=float) for key in (cost, "val_error"))
        deviations = np.array([number(point, "val_standard_error") or 0.0 for point in valid], dtype=float)
        hull, band = convex_hull(costs, errors, eps, standard_errors=deviations, band_standard_errors=band_standard_errors)
        front = pareto_front(np.column_stack([costs, errors]))
        return cls(
            points=tuple(valid),
            cost=cost,
            costs=costs,
            errors=errors,
            standard_errors=deviations,
            hull=tuple(hull.tolist()),
            band=tuple(band.tolist()),
            front=tuple(front.tolist()),
            eps=eps,
            band_standard_errors=band_standard_errors,
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
        return {"id": point.id, "cost": cost, "error": float(self.errors[index]), "stage": str(point.stage)}


def summary(
    points: Sequence[Point], *, cost: str = "madds", eps: float = 0.025, band_standard_errors: float = 0.0
) -> dict[str, JSON]:
    """The frontier as JSON: ``{points, cost, hull, band, frontier, best}``, lists of ``{id, cost, error, stage}`` by cost.

    ``cost`` names the cost in use, ``points`` counts the whole pool, ``best`` is None while there is no point.
    """
    view = FrontierView.of(points, cost=cost, eps=eps, band_standard_errors=band_standard_errors)
    lists = {"hull": view.hull, "band": view.band, "frontier": view.front}
    return {
        "points": len(points),
        "cost": view.cost,
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


def cost_label(name: str) -> str:
    """The text of an axis: what is counted, and its unit."""
    what, unit = COSTS.get(name, (name.replace("_", " "), ""))
    return f"{what} ({unit})" if unit else what
