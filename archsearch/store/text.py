"""An event's data as it lies in the log: the small values parsed, the one large value left as text until it is looked into.

A history is mostly architectures and rankings, and few of them are ever looked at again. Kept as text they take a fifth of
the memory and cost nothing to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial

import orjson
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


@lru_cache(maxsize=128)  # what runs: a job is asked about several times in a row
def _parsed(text: str) -> dict[str, JSON]:
    """The object, with the architectures of a training's spec left as text."""
    inside = _without(text, [span for span in map(partial(_architecture, text), _ARCHITECTURES) if span])
    found: dict[str, JSON] = loads(text) if inside is None else inside
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
    with suppress(TypeError):  # numbers as keys, half a surrogate pair, integers beyond 64 bits: only Python's json takes them
        text = orjson.dumps(data, default=_fragment, option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS)
        if text.isascii() and b"null" not in text:  # orjson's null may have been a NaN
            return text.decode()
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=_opened)


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)  # cut out of canonical text
    raise TypeError


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
    data = _without(text, [span] if span else [])
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


#: Where a spec has architectures: holder and name.
_ARCHITECTURES = (("", "arch"), ("inherit", "parent"))


def _architecture(text: str, place: tuple[str, str]) -> Span | None:
    """An architecture in a spec: in the order of canonical text it begins with its cells and ends with its stem."""
    holder, name = place
    start = text.find(f'"{name}":{{"cells":') + len(name) + 3
    stem = text.find('"stem":"', start)
    end = text.find('"}', stem + 8) + 2
    return (holder, name, start, end) if len(name) + 3 <= start < stem < end else None


#: Stands for a value that is cut out; a text that has it already is parsed whole.
_CUT = "\x1f"
_CUT_TEXT = r'"\u001f"'


def _without(text: str, spans: list[Span]) -> dict[str, JSON] | None:
    """The data with the values in the spans, given in the order of the text, as ``JsonText``.

    None if no values of those names lie there: cut at another place, the rest is no JSON or has the cut elsewhere.
    """
    if _CUT_TEXT in text:
        return None
    left, after = [], 0
    for _, _, start, end in spans:
        left.append(text[after:start])
        after = end
    left.append(text[after:])
    try:
        data: dict[str, JSON] = loads(_CUT_TEXT.join(left))
    except ValueError:
        return None
    for holder, name, start, end in spans:
        inside = data.get(holder) if holder else data
        if not isinstance(inside, dict) or inside.get(name) != _CUT:
            return None
        inside[name] = JsonText(text[start:end])
    return data
