"""Limits on what a search may propose: ``search.constraints: ["params < 1e6", "madds <= 5e6"]``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from archsearch.arch import Cost
from archsearch.limits import parse_bound, split_limit
from archsearch.measured import parse_objective

#: What can be limited: known from a description alone, before anything is trained.
COSTS = ("madds", "flops", "params", "activation_bytes")

_EXPECTED = (
    f"a limit such as params < 1e6 or madds <= 5_000_000; names: {', '.join(COSTS)}, or what is measured: latency_ms@DEVICE"
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """``name < limit``, or ``name <= limit``."""

    name: str
    strict: bool
    limit: float

    @property
    def measured(self) -> bool:
        """Whether only a device knows the figure."""
        return "@" in self.name

    def __str__(self) -> str:
        return f"{self.name} {'<' if self.strict else '<='} {self.limit:g}"

    def holds(self, found: Mapping[str, float]) -> bool:
        value = found[self.name]
        return value < self.limit if self.strict else value <= self.limit


def costs_by_name(found: Cost) -> dict[str, float]:
    """The figures that constraints name. flops = 2 * madds."""
    return {
        "madds": found.madds,
        "flops": 2 * found.madds,
        "params": found.params,
        "activation_bytes": found.activation_bytes,
    }


@lru_cache(maxsize=256)
def parse_constraint(text: str) -> Constraint:
    """``"params < 1e6"`` as a constraint.

    Raises:
        ValueError: another form, an unknown name, an operator other than < and <=, a limit that is no positive number.
    """
    name, operator, number = split_limit(text)
    if "@" in name:
        parse_objective(name)
    elif name not in COSTS:
        near = difflib.get_close_matches(name, COSTS, n=1)
        raise ValueError(f"no cost is called {name!r}" + (f" (did you mean {near[0]}?)" if near else ""))
    if operator not in ("<", "<="):
        raise ValueError(f"the operator {operator!r} is not one of < and <=: a constraint is an upper limit")
    limit = parse_bound(number)
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"the limit {number} is not a finite number above 0")
    return Constraint(name, operator == "<", limit)


def _checked(text: str) -> str:
    parse_constraint(text)
    return text


#: A constraint as the user wrote it, checked when the configuration is loaded.
ConstraintText = Annotated[str, AfterValidator(_checked), WithJsonSchema({"type": "string", "x-expected": _EXPECTED})]
