"""The normal distribution function of arrays."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from archsearch.frontier.checks import Floats

#: Beyond this Phi is 0 or 1 but for 1e-19.
_REACH = 9.0
_STEPS = 512


def normal_cdf(x: Floats) -> Floats:
    """Phi(x), to the last digit or two in absolute terms: a table with steps of 1/512, and four terms of the series between."""
    nodes, values, densities = _table()
    near = np.clip(x, -_REACH, _REACH)
    k = np.rint((near + _REACH) * _STEPS).astype(np.intp)
    at = nodes[k]
    d = near - at
    square = at * at
    series = d * (1 + d * (-at / 2 + d * ((square - 1) / 6 - d * (square - 3) * at / 24)))
    result: Floats = values[k] + densities[k] * series
    return result


@lru_cache(maxsize=1)
def _table() -> tuple[Floats, Floats, Floats]:
    """Nodes, Phi and its density there."""
    nodes = np.arange(round(2 * _REACH * _STEPS) + 1) / _STEPS - _REACH
    values = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in nodes.tolist()])
    return nodes, values, np.exp(-nodes * nodes / 2) / math.sqrt(2 * math.pi)
