"""What every room's configuration section is made of: a strict, frozen pydantic model, lengths of time, and sizes in bytes."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:\s*{_PART.pattern})+")
_EXPECTED = "a length of time such as 90 (seconds), 90s, 3m, 1h30m or 2d"


class Section(BaseModel):
    """Base of all configuration sections: a key that nobody declared is an error, and a loaded section never changes.

    A string literal under a field becomes its description, in error messages and in the editors' schema.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def parse_duration(value: Any) -> float:
    """Seconds of ``90``, ``"90s"``, ``"3m"``, ``"1h30m"``, ``"2d"``, ``"500ms"``.

    Raises:
        ValueError: not a length of time, or negative, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a length of time")
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip().lower()):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value.lower()))
    else:
        try:
            seconds = float(value)
        except (ValueError, OverflowError):
            raise ValueError("not a length of time") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a length of time is finite and not negative")
    return seconds


#: Seconds as a float; YAML may say 90, "90s", "3m", "1h30m" or "2d". ``Annotated[Duration, Field(gt=0)]`` excludes zero.
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*)+$"},
            ],
            "x-expected": _EXPECTED,  # read by archsearch.config.explain; editors ignore it
        }
    ),
]

_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?")


def parse_size(value: Any) -> int:
    """Bytes of ``4096``, ``"500MB"``, ``"1.5 GB"``, ``"2GiB"``; units are powers of 1024, as memory is counted.

    Raises:
        ValueError: not a size, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a size in bytes")
    found = _SIZE.fullmatch(str(value).strip().lower())
    if found is None:
        raise ValueError("not a size in bytes")
    return int(float(found[1]) * _BYTES[found[2]])


#: Bytes as an int; YAML may say 4096, 500MB, 1.5GB.
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT]?([iI]?[bB])?)?\s*$"},
            ],
            "x-expected": "a size in bytes such as 4096, 500MB or 1.5GB",
        }
    ),
]
