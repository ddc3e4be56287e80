"""Checks that every entry of this room makes on what it is given."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsearch.jobs import InputError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def vector(values: ArrayLike, name: str) -> Floats:
    """``values`` as a finite (n,) float64 array, with -0.0 made 0.0."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; expected one dimension, one value per point")
    _finite(array, name)
    return array + 0.0


def matrix(values: ArrayLike, name: str) -> Floats:
    """``values`` as a finite (n, m) float64 array, with -0.0 made 0.0; an empty list has shape (0, 0)."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1 and array.size == 0:
        return array.reshape(0, 0)
    if array.ndim != 2:
        raise InputError(f"{name} has shape {array.shape}; expected (points, objectives)")
    _finite(array, name)
    return array + 0.0


def same_length(first: Floats, second: Floats, names: str) -> None:
    if len(first) != len(second):
        raise InputError(f"{names} have lengths {len(first)} and {len(second)}; expected one value of each per point")


def tolerance(value: float, name: str) -> float:
    """A finite number that is not negative."""
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value}; expected a finite number of at least 0")
    return float(value)


def _finite(array: Floats, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        where = tuple(int(i) for i in np.unravel_index(bad[0], array.shape))
        place = ", ".join(map(str, where))
        raise InputError(f"{name}[{place}] is {array[where]}; expected finite numbers: leave points without a value out")
