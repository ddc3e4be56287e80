"""The golden query: the recipes of a frame that are worth their cost."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.frontier import nondominated, paretoness
from archsearch.recipes.metrics import ACCURACY, COSTS, TIMINGS, column_of, in_words, numbers, usable
from archsearch.recipes.ranking import METHODS, SORTS, Axis, check_choice, checked_top, in_order, smallest

if TYPE_CHECKING:
    import pandas as pd

META = (
    "metric_custom",
    "metric_accuracy",
    "metric_custom_name",
    "metric_accuracy_name",
    "metric_custom_all",
    "metric_accuracy_all",
)


def query_pareto_optimal_recipes(
    df: pd.DataFrame,
    method: str = "exact",
    metric_custom: str = "od_inf_rate_ms",
    sort_by: str = "metric_custom_best_to_worst",
    top_N_fuzzy: int | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """The recipes that are best in a metric of cost and in ``relative_task_metric`` (bigger is better), as far as one can be.

    For other metrics, several devices, constraints and tolerances: ``select_recipes``.

    Args:
        df: rows of one device, as the golden database exports them: ``recipe_id``, ``relative_task_metric`` and the metric.
            Rows that lack a value are left out, as are those with one that is infinite or negative, with a warning that counts
            them; and there is a warning where a metric on the device comes from several devices.
        method: ``exact``: the rows that no other beats, equal ones all kept. ``fuzzy``: the first ``top_N_fuzzy`` by paretoness
            (see ``archsearch.frontier.fuzzy``), which ranks down what is easy to beat and may take a row behind the front.
        metric_custom: one of ``archsearch.recipes.metrics.COSTS``, smaller is better. A zero is the best value, and counts as
            half of the smallest one above it.
        sort_by: ``metric_custom_best_to_worst``, ``metric_accuracy_best_to_worst``, ``angular_custom_to_accuracy`` (the angle
            of the chosen from the axis of the metric to that of the accuracy, measured from their least values) or
            ``paretoness``. Equal ones stay in the order of rows.
        top_N_fuzzy: how many; all, if there are fewer.

    Returns:
        (ids, meta): ids of the recipes, best first, and lists of floats in the same order, ``metric_custom`` (the largest value
        of all rows divided by this one's: bigger is better) and ``metric_accuracy``; what they are,
        ``metric_custom_name`` ("x times faster" or "x times smaller") and ``metric_accuracy_name``; and the same of all rows
        that were not left out, ``metric_custom_all`` and ``metric_accuracy_all``. If all were: [], six empty lists, a warning.

    Raises:
        InputError (a ValueError): another method, metric or order than those named, fuzzy without ``top_N_fuzzy`` or with one
            below 1, a column that is missing or has no numbers.
    """
    check_choice("method", method, METHODS)
    check_choice("metric_custom", metric_custom, COSTS)
    check_choice("sort_by", sort_by, SORTS)
    top = checked_top(top_N_fuzzy, "top_N_fuzzy") if method == "fuzzy" else 0
    ids = df[column_of("recipe_id", df)]
    columns = {name: numbers(df[column_of(name, df)]) for name in (metric_custom, ACCURACY)}
    good, reasons = usable(columns)
    if not good.any():
        warnings.warn(f"no row has both {metric_custom} and {ACCURACY}: nothing was found", stacklevel=2)
        return [], {name: [] for name in META}
    if reasons:
        warnings.warn(in_words(reasons, len(df)), stacklevel=2)
    if metric_custom.startswith("od_") and "device" in df.columns and (devices := df["device"][good].nunique()) > 1:
        warnings.warn(f"{metric_custom} of {devices} devices is compared: choose the rows of one", stacklevel=2)

    rows = None if good.all() else np.flatnonzero(good)
    kept = [values if rows is None else values[rows] for values in columns.values()]
    custom, accuracy = Axis.of(kept[0], bigger=False), Axis.of(kept[1], bigger=True)
    points = np.column_stack((custom.cost, accuracy.cost))
    share = paretoness(points, ratios=(True, False)) if method == "fuzzy" or sort_by == "paretoness" else None
    if method == "fuzzy":
        assert share is not None
        chosen = smallest(share, top)
    else:
        chosen = np.flatnonzero(nondominated(points))
    chosen = in_order(chosen, sort_by, custom, accuracy, share)
    found = chosen if rows is None else rows[chosen]
    return ids.iloc[found].tolist(), {
        "metric_custom": custom.shown[chosen].tolist(),
        "metric_accuracy": accuracy.shown[chosen].tolist(),
        "metric_custom_name": "x times faster" if metric_custom in TIMINGS else "x times smaller",
        "metric_accuracy_name": ACCURACY,
        "metric_custom_all": custom.shown.tolist(),
        "metric_accuracy_all": accuracy.shown.tolist(),
    }
