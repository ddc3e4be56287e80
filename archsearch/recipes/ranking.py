"""Which rows of a query come into its answer, and in which order."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from archsearch.frontier.checks import Floats, Indices
from archsearch.jobs import InputError
from archsearch.recipes.metrics import above_zero, times_better

METHODS = ("exact", "fuzzy")
SORTS = ("metric_custom_best_to_worst", "metric_accuracy_best_to_worst", "angular_custom_to_accuracy", "paretoness")


class Axis(NamedTuple):
    """A metric of all rows: ``cost``, smaller is better, and ``shown``, the same turned into bigger is better."""

    cost: Floats
    shown: Floats

    @classmethod
    def of(cls, values: Floats, bigger: bool) -> Axis:
        """From values as they stand in a frame, of which more is better or less."""
        return cls(-values, values) if bigger else cls(above_zero(values), times_better(values))


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """
    Raises:
        InputError: ``value`` is none of those allowed, which the text names.
    """
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")


def checked_top(value: Any, name: str) -> int:
    """How many are wanted.

    Raises:
        InputError: no whole number of at least 1.
    """
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of at least 1, which method fuzzy needs")
    return count


def smallest(values: Floats, count: int) -> Indices:
    """Indices of the ``count`` smallest values (of all, if there are fewer), in the order of rows; of equal ones the first."""
    if count >= len(values):
        return np.arange(len(values))
    bound = np.partition(values, count - 1)[count - 1]
    below, equal = np.flatnonzero(values < bound), np.flatnonzero(values == bound)
    return np.sort(np.concatenate((below, equal[: count - len(below)])))


def in_order(chosen: Indices, sort_by: str, custom: Axis, accuracy: Axis, share: Floats | None) -> Indices:
    """The chosen rows, best first; equal ones in the order of rows.

    Args:
        chosen: (k,) rising indices into the others.
        sort_by: one of ``SORTS``. Angular: by the angle of the chosen, seen from where their least values meet, from the custom
            axis to that of the accuracy.
        share: (n,) paretoness; needed to sort by it only.
    """
    if not len(chosen):
        return chosen
    if sort_by == "metric_custom_best_to_worst":
        keys = custom.cost[chosen]
    elif sort_by == "metric_accuracy_best_to_worst":
        keys = accuracy.cost[chosen]
    elif sort_by == "angular_custom_to_accuracy":
        x, y = custom.shown[chosen], accuracy.shown[chosen]
        keys = np.arctan2(y - y.min(), x - x.min())
    else:
        assert share is not None
        keys = share[chosen]
    return chosen[np.argsort(keys, kind="stable")]
