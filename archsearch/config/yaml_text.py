"""YAML text to a tree with line numbers, and back. Nothing that is read can run code or grow without bounds.

Scalars follow YAML 1.2: ``1e-3`` is a number, ``on``, ``no`` and ``12:30`` are text (PyYAML's own reading is YAML 1.1).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from archsearch.config.tree import Node, Place, Template
from archsearch.jobs import InputError

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_SCALARS = [
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", re.compile(r"(?:[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)\Z"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"(?:[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+0123456789."),
    ),
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way; filled below


class _Dumper(yaml.SafeDumper):
    """Quotes what either reading of YAML would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<\Z"), ["<"])


def _represent_template(dumper: yaml.SafeDumper, template: Template) -> yaml.Node:
    return dumper.represent_scalar(_TAG + "str", template.text, style=None if template.plain else "'")


_Dumper.add_representer(Template, _represent_template)


def dump(values: Any, *, inline: bool = False) -> str:
    """YAML of plain values and templates, in the given order; ``${`` in ordinary text is written ``$${``. ``inline``: lists and
    mappings of nothing but scalars take one line."""
    flow = None if inline else False
    return yaml.dump(_escaped(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=flow)


def _escaped(value: Any) -> Any:
    """A copy with ``${`` escaped in text; keys are never filled in, so they stay."""
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def parse(text: str, file: str, problems: list[tuple[Place, str]], *, expandable: bool = True) -> Node:
    """The tree of one YAML document; ``file`` is its name in messages. With ``expandable=False``, ``${`` is ordinary text.

    Duplicate keys, odd keys and odd tags are added to ``problems`` and reading goes on.

    Raises:
        InputError: not YAML, or too large, too deep or with aliases that expand to too much.
    """
    check_size(file, len(text.encode("utf-8", "surrogatepass")))
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise InputError(_syntax(file, text, error)) from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise InputError(f"{file}: not readable as YAML: {reason}.") from None
    if root is None:
        return Node(None, Place(file, 1))
    return _Builder(file, problems, expandable).build(root)


def check_size(file: str, size: int) -> None:
    """Refuses what is too large to be a configuration.

    Raises:
        InputError: more than ``MAX_BYTES``.
    """
    if size > MAX_BYTES:
        raise InputError(f"{file}: larger than {MAX_BYTES >> 20} MiB, which no configuration is. Name the right file.")


def resolve(text: str) -> Any:
    """What an unquoted scalar of that text means: null, a boolean, a number or text; never a list or a mapping."""
    for name, pattern, _ in _SCALARS:
        if pattern.match(text):
            return _scalar(name, text)
    return text


def _scalar(name: str, text: str) -> Any:
    if name == "null":
        return None
    if name == "bool":
        return text.lower() == "true"
    digits = text.replace("_", "").lower()
    if name == "int":
        return int(digits, 0) if digits[:2] in ("0x", "0o") else int(digits)
    return float(digits.replace(".inf", "inf").replace(".nan", "nan"))


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    rows = text.splitlines() or [""]
    row = rows[min(line, len(rows) - 1)]
    hint = ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        hint = " Indent with spaces, not tabs."
    elif "${" in row:
        hint = ' Inside [ ] and { } put "${NAME}" in quotes.'
    what = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{file}:{line + 1}: not readable as YAML: {what}; the line is {row.strip()[:80]!r}.{hint}"


class _Builder:
    """Constructs the tree from PyYAML's nodes; aliases are copied, within the bounds on nodes and depth."""

    def __init__(self, file: str, problems: list[tuple[Place, str]], expandable: bool) -> None:
        self.file, self.problems, self.expandable = file, problems, expandable
        self.nodes = 0

    def build(self, node: yaml.Node, place: Place | None = None, depth: int = 0) -> Node:
        place = place or self._place(node)
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            limit = f"more than {MAX_NODES} values" if self.nodes > MAX_NODES else f"nested deeper than {MAX_DEPTH} levels"
            raise InputError(f"{place}: {limit} (does an alias contain itself, or repeat others many times?).")
        name = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and name == "map":
            return Node(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode) and name == "seq":
            return Node([self.build(item, None, depth + 1) for item in node.value], place)
        if isinstance(node, yaml.ScalarNode):
            if name in ("str", "merge"):
                is_template = self.expandable and "${" in node.value
                return Node(Template(node.value, node.style is None) if is_template else node.value, place)
            if name in ("null", "bool", "int", "float"):
                try:
                    return Node(_scalar(name, node.value), place)
                except ValueError:
                    self.problems.append((place, f"{node.value[:40]!r} is not a readable {name}."))
                    return Node(None, place)
        self.problems.append((place, f"the YAML tag {node.tag!r} is not allowed here: write plain values, lists and mappings."))
        return Node(None, place)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append((place, "a key must be a word, not a list or a mapping."))
            elif key_node.tag == _TAG + "merge":
                value = self.build(value_node, None, depth + 1).value
                for part in [item.value for item in value] if isinstance(value, list) else [value]:
                    if isinstance(part, dict):
                        merged = part | merged
                    else:
                        self.problems.append((place, "<< takes a mapping, or a list of mappings, such as <<: *name."))
            elif key_node.value in own:
                first = own[key_node.value].place.line
                self.problems.append((place, f"the key {key_node.value!r} is there twice (first on line {first}). Remove one."))
            else:
                own[key_node.value] = self.build(value_node, place, depth + 1)
        return merged | own

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)
