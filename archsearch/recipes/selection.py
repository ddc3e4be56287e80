"""Queries beyond the golden one: any metrics, several devices at once, limits, tolerance, the knee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.frontier import epsilon_front, knee, nondominated, paretoness
from archsearch.frontier.checks import Floats, Indices, Mask, tolerance
from archsearch.frontier.fuzzy import MOST_PAIRED, SIDES
from archsearch.jobs import InputError
from archsearch.limits import Limit, parse_limit
from archsearch.recipes.devices import Rows, join_devices
from archsearch.recipes.metrics import ACCURACY, BIGGER_IS_BETTER, above_zero, column_of, usable
from archsearch.recipes.ranking import METHODS, SORTS, Axis, check_choice, checked_top, in_order, smallest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Selection:
    """What ``select_recipes`` found. Rows are those that were compared: the frame's, or one a recipe and quantisation where
    several devices are asked for; indices are into them."""

    metrics: tuple[str, ...]
    """Names of the m metrics: ``COLUMN``, or ``COLUMN@DEVICE``."""
    bigger: tuple[bool, ...]
    """Of each metric whether more is better."""
    devices: tuple[str, ...]
    ids: list[Any]
    """Of each row its recipe."""
    quantisations: list[Any]
    """Of each row; empty where the frame does not say."""
    values: Floats
    """(n, m) as they stand in the frame."""
    front: Mask
    """(n,) whether the row is on the front, or behind it within the tolerance."""
    paretoness: Floats | None
    """(n,); None where the rows and metrics are too many for it and nothing needed it."""
    knee: int | None
    """Index of the front's knee, see ``archsearch.frontier.knee``; None where it has none."""
    chosen: Indices
    """Indices of the answer, best first."""
    left_out: Mapping[str, int]
    """Rows that were not compared: how many for which reason."""


def select_recipes(
    df: pd.DataFrame,
    metrics: Sequence[str] = ("od_inf_rate_ms", ACCURACY),
    *,
    devices: Sequence[str] = (),
    where: Sequence[str] = (),
    maximise: Sequence[str] = (),
    method: str = "exact",
    top: int | None = None,
    eps: float = 0.0,
    sort_by: str = SORTS[0],
) -> Selection:
    """Compare the recipes of a frame in two or more metrics.

    On several devices at once a metric is the worst of what they measured (a recipe that lacks one is left out), or that of the
    one it names: ``["od_inf_rate_ms@pi4", "od_inf_rate_ms@jetson", "relative_task_metric"]``.

    Args:
        df: as the golden database exports it: ``recipe_id``, perhaps ``device`` and ``quantisation``, columns of numbers.
        metrics: two or more columns, or the names that a search has for them (``latency_ms``, ``madds``, ``accuracy``). Less is
            better, but for the metrics of a task and what ``maximise`` names.
        devices: which to compare on; may be left out where the frame has only one, or where metrics and limits name them.
        where: limits such as ``"latency_ms<5"`` or ``"relative_task_metric >= 0.9"``, each on any column. A row that lacks the
            value is left out.
        maximise: further columns of which more is better.
        method: ``exact``: the front. ``fuzzy``: the first ``top`` by paretoness.
        top: at most so many are chosen, in this order for exact.
        eps: a share, 0.05 for 5 %: what is as good as a recipe of the front up to this factor in each metric joins it
            (``archsearch.frontier.epsilon_front``).
        sort_by: as in ``query_pareto_optimal_recipes``; custom is the first metric and accuracy the last. The angle is for two.

    Raises:
        InputError: fewer than two metrics; a column or device that the frame does not have; several devices, and none said;
            a limit of another form; what ``query_pareto_optimal_recipes`` refuses.
    """
    check_choice("method", method, METHODS)
    check_choice("sort_by", sort_by, SORTS)
    if method == "fuzzy" or top is not None:
        top = checked_top(top, "top")
    if len(set(metrics)) != len(metrics) or len(metrics) < 2:
        raise InputError(f"metrics are {', '.join(metrics) or 'none'}; expected two or more different ones")
    if sort_by == "angular_custom_to_accuracy" and len(metrics) != 2:
        raise InputError(f"{sort_by} is an order for two metrics; there are {len(metrics)}")
    slack = float(np.log1p(tolerance(eps, "eps")))
    limits = [_limit(text) for text in where]
    more = BIGGER_IS_BETTER | {column_of(name, df) for name in maximise}
    bigger = tuple(column_of(name.partition("@")[0], df) in more for name in metrics)
    rows = join_devices(df, devices, [*metrics, *(limit.name for limit in limits)], more)
    rows, left_out = _compared(rows, metrics, limits)
    columns = [rows.columns[name] for name in metrics]
    axes = [Axis.of(column, up) for column, up in zip(columns, bigger, strict=True)]
    points, ratios = np.column_stack([axis.cost for axis in axes]), [not up for up in bigger]
    n = len(points)
    front = nondominated(points) if n else np.zeros(0, dtype=bool)
    if slack and n:
        logarithms = [np.log(above_zero(column)) * (-1 if up else 1) for column, up in zip(columns, bigger, strict=True)]
        front |= epsilon_front(np.column_stack(logarithms), slack)
    needed = method == "fuzzy" or sort_by == "paretoness"
    share = paretoness(points, ratios=ratios) if needed or len(metrics) in SIDES or n <= MOST_PAIRED else None
    if method == "fuzzy":
        assert share is not None and top is not None
        chosen = smallest(share, top)
    else:
        chosen = np.flatnonzero(front)
    chosen = in_order(chosen, sort_by, axes[0], axes[-1], share)
    scaled = [np.log(axis.cost) if ratio else axis.cost for axis, ratio in zip(axes, ratios, strict=True)]
    return Selection(
        metrics=tuple(metrics),
        bigger=bigger,
        devices=rows.devices,
        ids=rows.ids,
        quantisations=rows.quantisations,
        values=np.column_stack(columns),
        front=front,
        paretoness=share,
        knee=knee(np.column_stack(scaled)) if n else None,
        chosen=chosen[:top],
        left_out=left_out,
    )


def _limit(text: str) -> Limit:
    try:
        return parse_limit(text)
    except ValueError as error:
        raise InputError(f"the limit {text!r}: {error}; write one such as latency_ms<5 or accuracy>=0.9") from None


def _compared(rows: Rows, metrics: Sequence[str], limits: Sequence[Limit]) -> tuple[Rows, dict[str, int]]:
    """The rows that have all metrics and are within all limits."""
    good, reasons = usable({name: rows.columns[name] for name in metrics})
    for limit in limits:
        within = limit.holds(rows.columns[limit.name])  # a missing value is within no limit
        if found := int((good & ~within).sum()):
            reasons[f"not {limit}"] = found
            good &= within
    return (rows if good.all() else rows.only(np.flatnonzero(good))), reasons
