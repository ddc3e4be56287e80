"""What ``report.html`` knows of the pool: points, hull and band, and each point's costs, curves and description."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from archsearch.jobs import JSON
from archsearch.report.confirmed import SELECTED, confirmed_text
from archsearch.report.tables import describe
from archsearch.report.view import (
    COSTS,
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
from archsearch.store import Point, RunState

#: More points than this make a page that a phone cannot draw. The frontier, the band and their forebears stay in any case.
MOST_POINTS = 1500
#: Epochs of a curve that are kept: more cannot be told apart in a picture of this size.
MOST_EPOCHS = 120
#: Metrics that have a row of their own, or a picture.
SHOWN = {"curve", "tensorwatch", "best_epoch", "epochs", "seconds_training", SELECTED}
#: Errors in the order in which they are shown, and their names; the balanced ones only where the frontier is drawn by them.
ERROR_ROWS = {
    "val_error": "validation error",
    "test_error": "test error",
    "val_balanced_error": "balanced validation error",
    "test_balanced_error": "balanced test error",
    "train_error": "training error",
}


def points_data(view: FrontierView, state: RunState) -> dict[str, JSON]:
    """``points`` (by order of training), ``hull`` and ``band`` as drawn, and the names of what they are measured in."""
    chosen = _chosen(view)
    hull, band, front = set(view.hull), set(view.band), set(view.front)
    points = []
    for index in chosen:
        point = view.points[index]
        record = state.jobs.get(point.id)
        points.append(
            {
                "id": point.id,
                "kind": "seed" if is_seed(point) else "grown",
                "parent": point.parent,
                "cost": float(view.costs[index]),
                "costText": quantity(float(view.costs[index])),
                "error": float(view.errors[index]),
                "curveError": number(point, "val_error") if record is None else record.metrics.get("val_error"),
                "interval": None if (ends := interval(point, view.cost)) is None else list(ends),
                "selected": float(view.scores[index]) if index in view.confirmed else None,
                "se": float(view.standard_errors[index]),
                "test": number(point, tested(view.error)),
                "testSe": number(point, deviation_of(tested(view.error))),
                "hull": index in hull,
                "band": index in band,
                "front": index in front,
                "summary": describe(point.arch),
                "arch": point.arch,
                "curve": _curve(point.metrics.get("curve")),
                "rows": list(_rows(point, 0.0 if record is None else record.seconds, view.error)),
                "more": list(_more(point, view.error)),
            }
        )
    line, limit = _band(view)
    return {
        "points": points,
        "pool": len(view.points),
        "frontierSize": len(view.front),
        "best": None if view.best is None else view.points[view.best].id,
        "costLabel": cost_label(view.cost),
        "costName": view.cost,
        "errorLabel": error_label(view.error),
        "eps": view.eps,
        "bandStandardErrors": view.band_standard_errors,
        "hull": line,
        "band": limit,
    }


def objective_data(view: FrontierView) -> dict[str, JSON]:
    """The frontier on one measured quantity: its points with intervals, for a picture beside the others."""
    front = set(view.front)
    points = []
    for index in sorted(_chosen(view), key=lambda index: float(view.costs[index])):
        point = view.points[index]
        low, high, noisy = interval(point, view.cost) or (view.costs[index], view.costs[index], False)
        kind = "seed" if is_seed(point) else "grown"
        figures = {"cost": float(view.costs[index]), "low": float(low), "high": float(high), "error": float(view.errors[index])}
        points.append({"id": point.id, "kind": kind, "noisy": bool(noisy), "front": index in front, **figures})
    noisy_ones = sum(bool(each["noisy"]) for each in points)
    return {"name": view.cost, "label": cost_label(view.cost), "points": points, "noisy": noisy_ones}


def _chosen(view: FrontierView) -> list[int]:
    """Indices of the points that the page shows: all, or the important ones and the newest."""
    total = len(view.points)
    if total <= MOST_POINTS:
        return list(range(total))
    place = {point.id: index for index, point in enumerate(view.points)}
    kept: set[int] = set()
    for index in (*view.front, *view.hull, *view.band[:MOST_POINTS]):
        at: int | None = index
        while at is not None and at not in kept:
            kept.add(at)
            parent = view.points[at].parent
            at = None if parent is None else place.get(parent)
    for index in reversed(range(total)):
        if len(kept) >= MOST_POINTS:
            break
        kept.add(index)
    return sorted(kept)


def _band(view: FrontierView) -> tuple[list[list[float]], list[list[float]]]:
    """The hull and the band's upper edge as polylines, dense enough that they bend rightly on a logarithmic axis."""
    if not view.hull:
        return [], []
    corners = list(view.hull)
    hull_x, hull_y = view.costs[corners], view.errors[corners]
    low, high = float(hull_x[0]), float(max(view.costs.max(), hull_x[-1]))
    spread = np.geomspace if low > 0 else np.linspace
    x = np.unique(np.concatenate([spread(low, high, 120), hull_x]))
    x = x[(x >= low) & (x <= high)]
    y = np.interp(x, hull_x, hull_y)
    deviation = np.interp(x, hull_x, view.standard_errors[corners])
    limit = y + np.maximum(view.eps * np.maximum(y, 0), view.band_standard_errors * deviation)
    return np.column_stack([x, y]).tolist(), np.column_stack([x, limit]).tolist()


def _curve(curve: JSON) -> list[list[JSON]]:
    """[[epoch, training loss, validation error], ...], thinned; empty if the work reported something else."""
    if not isinstance(curve, Sequence) or isinstance(curve, str):
        return []
    rows = [list(row) for row in curve if isinstance(row, Sequence) and len(row) == 3 and all(map(_is_number, row))]
    step = math.ceil(len(rows) / MOST_EPOCHS)
    return rows if step <= 1 else [*rows[:-1:step], rows[-1]]


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(point: Point, seconds: float, chosen: str) -> Iterator[list[str]]:
    """Label and text of the figures that people ask for first, as far as they are known."""
    if point.origin is not None:
        yield ["taken from", f"{point.origin['run']}, point {point.origin['point']}"]
    if (selected := number(point, SELECTED)) is not None:
        errors = [metrics[chosen] for metrics in point.metrics["confirmations"]]
        yield [
            "confirmed error",
            f"{confirmed_text(errors)} % (mean of {len(errors)} other seeds, 95 % interval by Student's t)",
        ]
        yield ["score that selected it", f"{100 * selected:.2f} %"]
    for error, label in ERROR_ROWS.items():
        if error == chosen and selected is not None:
            continue
        share, deviation = number(point, error), number(point, deviation_of(error))
        if share is not None and _has_row(error, chosen):
            yield [label, f"{100 * share:.2f} %" + (f" ± {100 * deviation:.2f}" if deviation is not None else "")]
    for name in COSTS:
        value = number(point, name)
        if value is not None:
            yield [cost_label(name), f"{value:,.0f}" if value >= 1000 else quantity(value)]
    for name, figure in (point.metrics.get("measured") or {}).items():
        ends = f"{quantity(figure['low'])} to {quantity(figure['high'])}{', noisy' if figure['noisy'] else ''}"
        yield [cost_label(name), f"{quantity(figure['value'])} ({ends})"]
    for device, assigned in (point.metrics.get("assignments") or {}).items():
        yield [f"backends on {device}", assigned["words"]]
    best, epochs = number(point, "best_epoch"), number(point, "epochs")
    if epochs is not None:
        yield ["epochs", f"{epochs:g}" + (f" (best: {best:g})" if best is not None else "")]
    if seconds:
        yield ["time in a slot", f"{seconds:.1f} s"]
    yield ["chosen as parent", f"{point.sampling_count} \N{MULTIPLICATION SIGN}"]


def _has_row(error: str, chosen: str) -> bool:
    return "balanced" not in error or "balanced" in chosen


def _more(point: Point, chosen: str) -> Iterator[list[str]]:
    """Every other number that the work reported."""
    metrics = point.metrics
    rows = {name for error in ERROR_ROWS if _has_row(error, chosen) for name in (error, deviation_of(error))}
    for name in metrics:
        value = None if name in SHOWN or name in rows or name in COSTS or "@" in name else number(point, name)
        if value is not None:
            yield [str(name).replace("_", " "), f"{value:.4g}"]
    counted = metrics.get("tensorwatch")
    for name, value in counted.items() if isinstance(counted, Mapping) else ():
        if _is_number(value):
            yield [f"TensorWatch: {name}", f"{value:.4g}"]
