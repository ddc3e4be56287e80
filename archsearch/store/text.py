"""An event's data as it lies in the log: the small values parsed, the one large value left as text until it is looked into.

A history is mostly architectures and rankings, and few of them are ever looked at again. Kept as text they take a fifth of
the memory and cost nothing to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache

from pydantic_core import from_json

from archsearch.jobs import JSON, EventKind


class JsonText(Mapping[str, JSON]):
    """A JSON object as text. What was looked into lately stays parsed; nothing may be changed in it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __getitem__(self, key: str) -> JSON:
        return _parsed(self.text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_parsed(self.text))

    def __len__(self) -> int:
        return len(_parsed(self.text))

    def __repr__(self) -> str:
        return f"JsonText({self.text!r})"


@lru_cache(maxsize=1024)  # the band and what runs: parents are asked about again and again
def _parsed(text: str) -> dict[str, JSON]:
    found: dict[str, JSON] = loads(text)
    return found


def loads(text: str) -> JSON:
    """What ``json.loads`` gives, sooner: small texts take a third of the time, and equal strings are one object.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return from_json(text)
    except ValueError:  # also what only Python's json takes: half a surrogate pair, hundreds of levels
        return json.loads(text)


class Recorded(dict[str, JSON]):
    """The data of a stored event, with the text that it was read from. Its large value is a ``JsonText``."""

    __slots__ = ("text",)
    text: str


def canonical(data: JSON) -> str:
    """JSON text that is equal for equal data, in ASCII. NaN and infinities are kept as Python's json writes them."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=_opened)


def _opened(value: object) -> JSON:
    if isinstance(value, JsonText):
        return _parsed(value.text)
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def plain(data: JSON) -> JSON:
    """``data`` as it will be read back from the store: tuples become lists, numeric keys become text."""
    return loads(canonical(data))


def read(kind: str, text: str) -> Recorded:
    """The data of an event of that kind, from its canonical text.

    The spec of an ``asked`` job and the ranking of a search that was ``told`` become ``JsonText``.
    """
    span = _spec(text) if kind == EventKind.ASKED else _ranking(text) if kind == EventKind.TOLD else None
    data = None if span is None else _without(text, *span)
    recorded = Recorded(loads(text) if data is None else data)
    recorded.text = text
    return recorded


#: What the value belongs to ("" for the data itself), its name, and where it lies in the text.
Span = tuple[str, str, int, int]


def _spec(text: str) -> Span | None:
    """The spec of a job: after it come, in the order of canonical text, a stage and a work without a bare quotation mark."""
    start, end = text.find('"spec":') + 7, text.rfind(',"stage":"')
    return ("", "spec", start, end) if 7 <= start < end and text[start] == "{" else None


def _ranking(text: str) -> Span | None:
    """The ranking among a result's metrics, if it is the only one and holds lists and no object."""
    start = text.find('"ranked":') + 9
    end = text.find("}", start) + 1
    only = text.find('"ranked":', end) < 0
    return ("metrics", "ranked", start, end) if 9 <= start < end and only and text[start] == "{" else None


def _without(text: str, holder: str, name: str, start: int, end: int) -> dict[str, JSON] | None:
    """The data with the value in ``text[start:end]`` as a ``JsonText``.

    None if no value of that name lies there: cut at another place, the rest is no JSON or lacks the name.
    """
    try:
        data: dict[str, JSON] = loads(f"{text[:start]}null{text[end:]}")
    except ValueError:
        return None
    inside = data.get(holder) if holder else data
    if not isinstance(inside, dict) or inside.get(name, "") is not None:
        return None
    inside[name] = JsonText(text[start:end])
    return data
