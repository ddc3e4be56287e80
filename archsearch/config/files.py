"""Reading the file that the user names, with everything that it includes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from archsearch.config import tree, yaml_text
from archsearch.config.explain import Problem
from archsearch.config.tree import Node, Template
from archsearch.jobs import InputError

MAX_FILES = 64

#: The value of a variable, or None.
Lookup = Callable[[str], str | None]


def read(path: Path, problems: list[Problem], lookup: Lookup | None) -> Node:
    """The tree of a file, always a mapping, with its includes merged below it.

    Args:
        problems: what is wrong in the text but does not keep it from being read is added.
        lookup: fills in variables in the names of included files; None: they are refused.

    Raises:
        InputError: a file that cannot be read, is no mapping, or includes itself.
    """
    return _read(path, (), problems, lookup, [])


def _read(path: Path, chain: tuple[Path, ...], problems: list[Problem], lookup: Lookup | None, seen: list[Path]) -> Node:
    """The tree of a file with its includes merged below it."""
    seen.append(path)
    if len(seen) > MAX_FILES:
        raise InputError(f"{path}: more than {MAX_FILES} files are included. Include fewer.")
    root = yaml_text.parse(_text_of(path), str(path), problems)
    if root.value is None:
        return Node({}, root.place)
    if not isinstance(root.value, dict):
        raise InputError(f"{path}: expected sections such as 'data:' and 'search:', found a {kind_of(root.value)}.")
    entry = root.value.pop("include", None)
    merged = Node({}, root.place)
    for item in (entry.value if isinstance(entry.value, list) else [entry]) if entry else []:
        other = path.parent / _include_name(item, lookup)
        here = (*chain, path)
        if any(_same(other, earlier) for earlier in here):
            route = " -> ".join(map(str, (*here, other)))
            raise InputError(f"{item.place}: files include each other in a circle: {route}. Remove one include.")
        if not other.is_file():
            raise InputError(f"{item.place}: the included file {other} is not there. Paths are relative to {path}.")
        merged = tree.merge(merged, _read(other, here, problems, lookup, seen))
    return tree.merge(merged, root)


def _include_name(item: Node, lookup: Lookup | None) -> str:
    value = item.value
    if isinstance(value, Template) and lookup is not None:
        try:
            value = value.fill(lookup)
        except ValueError as error:
            raise InputError(f"{item.place}: {error}.") from None
    if not isinstance(value, str) or not value:
        raise InputError(f"{item.place}: include takes a file name or a list of file names.")
    return value


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            payload = file.read(yaml_text.MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}. Name a configuration file.") from None
    yaml_text.check_size(str(path), len(payload))
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start}). Name a configuration file.") from None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def kind_of(value: Any) -> str:
    return "list" if isinstance(value, list) else "single value"
