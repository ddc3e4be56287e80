"""Reading JSON values of a known kind out of data from outside; every error says where in the data it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from archsearch.jobs import JSON, InputError


def wrong(where: str, expected: str, given: Any) -> InputError:
    """The error for a value that is not what was expected; a long value is shortened."""
    text = repr(given)
    return InputError(f"{where}: expected {expected}, got {text if len(text) <= 80 else text[:77] + '...'}")


@contextmanager
def located(where: str) -> Iterator[None]:
    """Errors raised inside say where."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def as_int(value: JSON, where: str, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise wrong(where, f"a whole number of at least {minimum}", value)
    return value


def as_text(value: JSON, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(where, "a text", value)
    return value


def as_flag(value: JSON, where: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)
    return value


def as_list(value: JSON, where: str, length: int | None = None) -> list[JSON]:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
        raise wrong(where, "a list" if length is None else f"a list of {length}", value)
    return list(value)


def as_record(value: JSON, where: str, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, JSON]:
    """A mapping with exactly these keys; the ``optional`` ones may be missing."""
    record = as_mapping(value, where)
    for key in keys:
        if key not in record and key not in optional:
            raise InputError(f"{where}: the key {key!r} is missing; expected {', '.join(keys)}")
    for key in record:
        if key not in keys:
            raise InputError(f"{where}: unknown key {key!r}; expected {', '.join(keys)}")
    return record


def as_mapping(value: JSON, where: str) -> dict[str, JSON]:
    if not isinstance(value, Mapping):
        raise wrong(where, "a mapping", value)
    return {as_text(key, f"{where}: key"): item for key, item in value.items()}
