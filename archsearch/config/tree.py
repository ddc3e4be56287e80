"""A configuration before it is checked: values that know the file and line they came from.

Files, includes and overrides become one tree of ``Node``. Text with ``${VAR}`` stays a ``Template`` in it, so that the
snapshot of a run keeps what the user wrote, and only ``plain`` decides what such text stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

KeyPath = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)\}?")
_BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; line 0 means that the place has no lines (an override)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Template:
    """Text with ``${VAR}``, ``${VAR:default}`` or ``$${`` (a literal ``${``).

    ``plain`` means not quoted in the file, so that ``${N:3}`` may stand for a number.
    """

    text: str
    plain: bool

    def variables(self) -> list[str]:
        """Names used, in order."""
        return [self._split(match)[0] for match in _VARIABLE.finditer(self.text) if match["body"] is not None]

    def fill(self, lookup: Callable[[str], str | None]) -> str:
        """The text with each variable replaced by its value, else its default.

        Raises:
            ValueError: a variable without value and default, or ``${`` without a name; the text says which and what to do.
        """

        def one(match: re.Match[str]) -> str:
            if match["body"] is None:
                return "${"
            name, default = self._split(match)
            value = lookup(name)
            if value is None:
                value = default
            if value is None:
                raise ValueError(f"the environment variable {name} is not set. Set it, or write ${{{name}:default}}")
            return value

        return _VARIABLE.sub(one, self.text)

    @staticmethod
    def _split(match: re.Match[str]) -> tuple[str, str | None]:
        body = _BODY.fullmatch(match["body"]) if match[0].endswith("}") else None
        if body is None:
            raise ValueError(f"cannot read {match[0]!r}. Write ${{NAME}} or ${{NAME:default}}; $${{ stands for a literal ${{")
        return body["name"], body["default"]


Fill = Callable[[Template, KeyPath, Place], Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place (for a value in a mapping, the line of its key). ``value`` is a scalar, a Template, a list of
    Node or a dict of Node."""

    value: Any
    place: Place


def node_of(value: Any, place: Place) -> Node:
    """A tree of plain values that all have one place."""
    if isinstance(value, Mapping):
        return Node({key: node_of(child, place) for key, child in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([node_of(child, place) for child in value], place)
    return Node(value, place)


def merge(below: Node, above: Node) -> Node:
    """Mappings are joined key by key; anything else in ``above`` replaces what is ``below``."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    joined = dict(below.value)
    for key, node in above.value.items():
        joined[key] = merge(joined[key], node) if key in joined else node
    return Node(joined, above.place)


def plain(node: Node, fill: Fill = lambda template, path, place: template.text, path: KeyPath = ()) -> Any:
    """The tree as dicts, lists and scalars; ``fill`` says what a template stands for, by default its own text."""
    if isinstance(node.value, dict):
        return {key: plain(child, fill, (*path, key)) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child, fill, (*path, index)) for index, child in enumerate(node.value)]
    return fill(node.value, path, node.place) if isinstance(node.value, Template) else node.value


def place_of(node: Node, path: KeyPath) -> Place:
    """The place of the deepest part of ``path`` that exists."""
    for step in path:
        child = _child(node, step)
        if child is None:
            break
        node = child
    return node.place


def find(node: Node, path: KeyPath) -> Node | None:
    """The node at ``path``, or None."""
    found: Node | None = node
    for step in path:
        found = _child(found, step) if found is not None else None
    return found


def put(node: Node, path: KeyPath, new: Node) -> Node:
    """A tree with ``new`` at ``path``; missing mappings on the way are made, a list takes the index of an item it has.

    Raises:
        ValueError: the way leads through something that is neither, or past a list's end.
    """
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(node.value, dict) or node.value is None:
        children = dict(node.value or {})
        children[str(step)] = put(children.get(str(step), Node(None, new.place)), rest, new)
        return Node(children, node.place)
    if isinstance(node.value, list):
        child = _child(node, step)
        if child is None:
            raise ValueError(f"{step!r} is not an item of a list of {len(node.value)}; items count from 0")
        items = [put(item, rest, new) if item is child else item for item in node.value]
        return Node(items, node.place)
    raise ValueError(f"{step!r} cannot be set inside {node.value!r}, which is neither a mapping nor a list")


def dotted(path: KeyPath) -> str:
    """``("a", "b", 0)`` as ``a.b.0``; a dot in a key is written ``\\.``"""
    return ".".join(str(step).replace(".", "\\.") for step in path)


def undotted(text: str) -> KeyPath:
    """The reverse of ``dotted``, with indices left as text.

    Raises:
        ValueError: an empty part.
    """
    parts = tuple(part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", text))
    if not all(parts):
        raise ValueError(f"{text!r} is not a path of keys such as search.max_madd")
    return parts


def templates(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Every template in the tree with its path."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from templates(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from templates(child, (*path, index))
    elif isinstance(node.value, Template):
        yield path, node


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node.value, dict):
        found = node.value.get(step)
        return found if isinstance(found, Node) else None
    if isinstance(node.value, list) and str(step).isdecimal() and int(step) < len(node.value):
        item = node.value[int(step)]
        return item if isinstance(item, Node) else None
    return None
