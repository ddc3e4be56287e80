"""Limits as users write them, ``NAME < NUMBER``: read alike for a search's constraints and for queries of recipes."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: What an operator says of a value and a bound; also of an array of values, one by one.
OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_TEXT = re.compile(r"\s*([A-Za-z_]\w*(?:@[\w.-]+)?)\s*(<=|>=|==|!=|<|>|=)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """``name < bound``; the operator is one of ``OPERATORS``."""

    name: str
    operator: str
    bound: float

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.bound:g}"

    def holds(self, value: Any) -> Any:
        """Whether a number is within the limit, or each of an array."""
        return OPERATORS[self.operator](value, self.bound)


def parse_limit(text: str) -> Limit:
    """``"latency_ms<5"`` or ``"accuracy >= 0.9"`` as a limit. Nothing in the text is evaluated.

    Raises:
        ValueError: another form, another operator, a bound that is no finite number.
    """
    name, sign, number = split_limit(text)
    if sign not in OPERATORS:
        raise ValueError(f"the operator {sign!r} is not one of {', '.join(OPERATORS)}")
    bound = parse_bound(number)
    if not math.isfinite(bound):
        raise ValueError(f"the limit {number} is not a finite number")
    return Limit(name, sign, bound)


def split_limit(text: str) -> tuple[str, str, str]:
    """Name, operator and number of a limit, as they stand in the text. The name may end in ``@DEVICE``.

    Raises:
        ValueError: another form.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("not of the form NAME < NUMBER or NAME <= NUMBER")
    name, sign, number = match.groups()
    return name, sign, number


def parse_bound(number: str) -> float:
    """The number in a limit.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(number)
    except ValueError:
        raise ValueError(f"the limit {number!r} is not a number") from None
