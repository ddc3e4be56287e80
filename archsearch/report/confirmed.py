"""Points whose frontier was trained again with other seeds: the mean of those errors takes the place of the lucky score.

In everything of this room a confirmed point's metrics are those of the confirmations; what selected it is kept beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from archsearch.jobs import JSON
from archsearch.report.intervals import student
from archsearch.store import Point

#: The score that put a point on the frontier, before it was trained again.
SELECTED = "selected_error"


def confirmed_errors(points: Sequence[Point], frontier: Iterable[int], error: str) -> dict[int, tuple[float, ...]]:
    """Errors of the trainings with other seeds, by index into ``points``, for those of ``frontier`` that have any.

    Nothing as long as a member of ``frontier`` was not tried again: half of a frontier confirmed is none.
    """
    members = sorted(set(frontier))
    if any("confirmations" not in points[i].metrics for i in members):
        return {}
    errors = {i: tuple(float(metrics[error]) for metrics in points[i].metrics["confirmations"]) for i in members}
    return {i: values for i, values in errors.items() if values}


def confirmed_point(point: Point, error: str, deviation: str) -> Point:
    """The point with the mean error of its confirmations as its error.

    As ``deviation`` it gets the mean of theirs: all were measured on the same validation images, so that the error of
    sampling these does not shrink by training more often.
    """
    found: Sequence[Mapping[str, JSON]] = point.metrics["confirmations"]
    own = {error: float(np.mean([metrics[error] for metrics in found])), SELECTED: point.metrics[error]}
    if all(isinstance(metrics.get(deviation), int | float) for metrics in found):
        own[deviation] = float(np.mean([metrics[deviation] for metrics in found]))
    return replace(point, metrics={**point.metrics, **own})


def confirmed_entry(errors: Sequence[float], selected: float) -> dict[str, JSON]:
    """What ``status --json`` says of a confirmed point: each error, the interval of their mean, and what selected it."""
    mean, half = student(errors)
    interval = None if half is None else [max(0.0, mean - half), min(1.0, mean + half)]
    return {"selected_error": selected, "confirmations": list(errors), "interval": interval}


def confirmed_text(errors: Sequence[float]) -> str:
    """Mean in percent ± half of its 95 % interval by Student's t; without one of a single error."""
    mean, half = student(errors)
    return f"{100 * mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
