"""The figures of recipes: which column is what, which way is better, and how values are compared."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.jobs import InputError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

ACCURACY = "relative_task_metric"

#: Metrics of cost: on the device (od_) or in the framework (if_).
COSTS = (
    "od_inf_rate_ms",
    "if_inf_macs",
    "od_total_time",
    "od_total_mem_MB",
    "od_gpu_mem_MB",
    "od_cpu_mem_MB",
    "od_unified_mem_MB",
    "if_inf_size",
    "od_size_MB",
    "od_inf_energy_mJ",
)
TIMINGS = ("od_inf_rate_ms", "od_total_time")

#: Columns of which more is better; of all others less is.
BIGGER_IS_BETTER = frozenset({ACCURACY, "task_metric", "test_metric"})

#: Columns by the names that a search has for them.
ALSO: Mapping[str, str] = {
    "latency_ms": "od_inf_rate_ms",
    "peak_memory_mb": "od_total_mem_MB",
    "energy_mj": "od_inf_energy_mJ",
    "madds": "if_inf_macs",
    "accuracy": ACCURACY,
}


def column_of(name: str, df: pd.DataFrame) -> str:
    """The frame's column that a name means.

    Raises:
        InputError: it has none; says which columns of numbers there are.
    """
    known = [str(each) for each in df.columns]
    if name in known:
        return name
    if ALSO.get(name) in known:
        return ALSO[name]
    numeric = [str(each) for each in df.select_dtypes("number").columns]
    near = difflib.get_close_matches(name, [*known, *(also for also in ALSO if ALSO[also] in known)], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(f"there is no column {name!r}{hint}; columns of numbers: {', '.join(numeric) or 'none'}")


def numbers(column: pd.Series) -> Floats:
    """A column's values, NaN where one is missing.

    Raises:
        InputError: a value is no number.
    """
    try:
        values: Floats = column.to_numpy(dtype="float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {column.name} has a value that is no number: {error}") from None
    return values


def usable(columns: Mapping[str, Floats]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows have all values, finite and not negative; and of those left out how many for which reason, each row once."""
    count = len(next(iter(columns.values())))
    good, reasons = np.ones(count, dtype=bool), {}
    for name, values in columns.items():
        with np.errstate(over="ignore", invalid="ignore"):
            if values.size and np.isfinite(values.sum()) and values.min() >= 0:  # nothing to look for one by one
                continue
        for words, bad in (
            (f"without {name}", np.isnan(values)),
            (f"with an infinite {name}", np.isinf(values)),
            (f"with a negative {name}", values < 0),
        ):
            if found := int((good & bad).sum()):
                reasons[words] = found
                good &= ~bad
    return good, reasons


def in_words(reasons: Mapping[str, int], rows: int) -> str:
    """``3 of 20 rows left out: 2 without od_gpu_mem_MB, 1 with a negative if_inf_size``."""
    return f"{sum(reasons.values())} of {rows} rows left out: " + ", ".join(f"{n} {words}" for words, n in reasons.items())


def above_zero(values: Floats) -> Floats:
    """Values to be compared by ratio. A zero (a CPU board has no GPU memory) counts as half of the smallest value above it: it
    is the best, and still finite. All zero: all 1."""
    positive = values[values > 0]
    if positive.size == len(values):
        return values
    if not positive.size:
        return np.ones_like(values)
    least = positive.min()
    return np.where(values > 0, values, max(least / 2, np.nextafter(0.0, 1.0)))


def times_better(values: Floats) -> Floats:
    """Smaller-is-better values as bigger-is-better: how many times smaller each is than the largest of them."""
    if not values.size:
        return values
    positive = above_zero(values)
    with np.errstate(over="ignore"):
        times: Any = np.minimum(positive.max() / positive, np.finfo(np.float64).max)
    return np.asarray(times, dtype=np.float64)
