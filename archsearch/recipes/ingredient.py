"""What a recipe is made of: ingredients, each of a kind, with parameters that the section checks which the code itself uses.

A kind is a plug-in (``archsearch.registry.INGREDIENTS``): it knows its version, how parameters are checked, and which slots
an ingredient of it has for others. What is read here is plain YAML or JSON; nothing of it can run code or read a variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from archsearch.config.explain import Problem, did_you_mean, explain, report
from archsearch.config.tree import Node, Place, Template, node_of, place_of, plain
from archsearch.jobs import JSON, InputError
from archsearch.registry import INGREDIENTS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = ("kind", "name", "version", "parameters", "sha256", "slots")


@dataclass(frozen=True)
class Slot:
    """A place for an ingredient of one of these kinds. An ``optional`` one may stay empty: ``empty`` says what that means."""

    kinds: tuple[str, ...]
    optional: bool = False
    empty: str = ""


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of ingredients.

    ``model`` checks the parameters; ``settle`` then refuses (InputError) what only the code itself can tell, and returns them
    as they are kept. A kind without ``model`` has its whole check in ``settle``. ``version`` grows when the same parameters
    come to mean something else. ``content``: its parameters lead to something that a SHA-256 can stand for, and whoever uses
    an ingredient with one checks that.
    """

    name: str
    about: str
    version: int = 1
    model: type[BaseModel] | None = None
    settle: Callable[[dict[str, JSON]], dict[str, JSON]] = lambda parameters: parameters
    slots: Mapping[str, Slot] = field(default_factory=dict)
    content: bool = False


@dataclass(frozen=True)
class Ingredient:
    """One ingredient. ``sha256`` is the content that its parameters lead to (a data set's hash): where it is known, it is what
    the ingredient is, and the parameters only say where to find it. ``slots``: None stands for an empty one."""

    kind: str
    name: str
    version: int
    parameters: Mapping[str, JSON]
    sha256: str | None = None
    slots: Mapping[str, Ingredient | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """Plain dictionaries and lists, all slots named."""
        found: dict[str, JSON] = {"kind": self.kind, "name": self.name, "version": self.version}
        found["parameters"] = plain(node_of(self.parameters, Place("ingredient")))
        if self.sha256 is not None:
            found["sha256"] = self.sha256
        if self.slots:
            found["slots"] = {name: each and each.to_json() for name, each in self.slots.items()}
        return found

    @classmethod
    def from_json(cls, data: JSON) -> Ingredient:
        """The ingredient of ``to_json``'s data.

        Raises:
            InputError: everything that is wrong with it.
        """
        problems: list[Problem] = []
        made = read_ingredient(node_of(data, Place("ingredient")), problems)
        if problems or made is None:
            raise report("ingredient", problems)
        return made

    def identity(self) -> dict[str, JSON]:
        """What makes it this ingredient and no other: not its name, not a place on a disk."""
        found: dict[str, JSON] = {"kind": self.kind, "version": self.version}
        if self.sha256 is None:
            found["parameters"] = self.to_json()["parameters"]
        else:
            found["sha256"] = self.sha256
        if filled := {name: each.identity() for name, each in self.slots.items() if each is not None}:
            found["slots"] = filled
        return found


def made(kind: str, name: str, parameters: JSON, sha256: str | None = None, **slots: Ingredient | None) -> Ingredient:
    """An ingredient of this version of archsearch, checked.

    Raises:
        InputError: no such kind, or parameters that are wrong.
    """
    known: Kind = INGREDIENTS.get(kind)
    data = {"kind": kind, "name": name, "version": known.version, "parameters": parameters}
    inside = {each: filled and filled.to_json() for each, filled in slots.items()}
    return Ingredient.from_json(data | ({"sha256": sha256} if sha256 else {}) | ({"slots": inside} if inside else {}))


def read_ingredient(node: Node, problems: list[Problem], where: str = "") -> Ingredient | None:
    """The ingredient that stands at a node, or None where it is wrong; all that is wrong is added to ``problems``.

    Args:
        where: its path of slots in a recipe, such as ``training.optimizer``; empty for one by itself.
    """
    before = len(problems)
    values = record(node, _KEYS, problems, where or "an ingredient")
    if values is None:
        return None
    data = {name: text_of(each, problems) for name, each in values.items() if name not in ("parameters", "slots")}
    for key in ("kind", "name", "version", "parameters"):
        if key not in values:
            problems.append(
                (node.place, f"{_at(where, key)} is missing. An ingredient has a kind, a name, a version, parameters.")
            )
    name, kind = data.get("name"), known_kind(data.get("kind"), values.get("kind", node).place, problems)
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        text = (
            f"{_at(where, 'name')} is {name!r}: expected letters, digits, '_', '-' and '.', beginning with a letter or digit."
        )
        problems.append((values["name"].place, text))
    sha256 = data.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        problems.append((values["sha256"].place, f"{_at(where, 'sha256')} is {sha256!r}: expected 64 hexadecimal digits."))
    if kind is None:
        return None
    if sha256 is not None and not kind.content:  # else it would hide the parameters from the id
        text = f"{_at(where, 'sha256')}: what a {kind.name} is stands in its parameters. Leave sha256 out."
        problems.append((values["sha256"].place, text))
    if "version" in data and data["version"] != kind.version:
        problems.append((values["version"].place, _wrong_version(_at(where, "version"), kind, data["version"])))
    parameters = _parameters(kind, values["parameters"], problems) if "parameters" in values else {}
    slots = read_slots(values.get("slots"), kind.slots, problems, where)
    if len(problems) > before or parameters is None:
        return None
    return Ingredient(kind.name, str(name), kind.version, parameters, sha256, slots)


def read_slots(
    node: Node | None, known: Mapping[str, Slot], problems: list[Problem], where: str = ""
) -> dict[str, Ingredient | None]:
    """What stands in the slots, in the order in which they are ``known``; slots that are not named are empty."""
    values = record(node, tuple(known), problems, _at(where, "slots")) if node is not None and node.value is not None else {}
    found: dict[str, Ingredient | None] = dict.fromkeys(known)
    for name, slot in known.items():
        each = (values or {}).get(name)
        if each is None or each.value is None:
            continue
        path = _at(where, name)
        found[name] = filled = read_ingredient(each, problems, path)
        if filled is not None and filled.kind not in slot.kinds:
            text = f"{path}: {filled.name} is of kind {filled.kind}, but this slot takes {' or '.join(slot.kinds)}."
            problems.append((place_of(each, ("kind",)), text))
    return found


def record(node: Node, keys: Collection[str], problems: list[Problem], what: str) -> dict[str, Node] | None:
    """The nodes of a mapping that has no other keys than these; others are added to ``problems``."""
    if not isinstance(node.value, dict):
        problems.append((node.place, f"{what}: expected a mapping with {', '.join(keys)}, not {plain(node)!r}."))
        return None
    for name, child in node.value.items():
        if name not in keys:
            hint = did_you_mean(name, keys) or f" Keys: {', '.join(keys)}."
            problems.append((child.place, f"{what}: unknown key {name}.{hint}"))
    return {name: child for name, child in node.value.items() if name in keys}


def known_kind(name: JSON, place: Place, problems: list[Problem]) -> Kind | None:
    """The kind of that name, or None and a problem."""
    if name is None:
        return None  # said already
    if isinstance(name, str) and name in INGREDIENTS:
        kind: Kind = INGREDIENTS.get(name)
        return kind
    hint = did_you_mean(name, list(INGREDIENTS)) if isinstance(name, str) else ""
    problems.append((place, f"no kind of ingredients is called {name!r}.{hint} Known: {', '.join(INGREDIENTS)}."))
    return None


def text_of(node: Node, problems: list[Problem]) -> JSON:
    """A node as plain values: ``$${`` is ``${``, and variables are refused, since what is stored means the same everywhere."""

    def fill(template: Template, path: Any, place: Place) -> str:
        try:
            return template.fill(lambda name: None)
        except ValueError:
            problems.append(
                (place, f"{template.text!r}: variables are not read here. Write the value, or $${{ for a plain ${{.")
            )
            return ""

    return plain(node, fill)


def _parameters(kind: Kind, node: Node, problems: list[Problem]) -> dict[str, JSON] | None:
    """The parameters as they are kept: those that were given, each as its type says."""
    values: Any = text_of(node, problems)
    values = {} if values is None else values
    if not isinstance(values, dict):
        problems.append((node.place, f"{kind.name}: parameters are keys with values, not {values!r}."))
        return None
    try:
        if kind.model is not None:
            values = kind.model.model_validate(values).model_dump(mode="json", exclude_unset=True)
        settled: dict[str, JSON] = kind.settle(dict(values))
        return settled
    except ValidationError as error:
        root = Node({kind.name: node}, node.place)
        problems += [problem for _, problem in explain(kind.name, {kind.name: kind.model or BaseModel}, error, values, root)]
    except InputError as error:
        problems.append((node.place, f"{kind.name}: {error}"))
    return None


def _wrong_version(what: str, kind: Kind, given: JSON) -> str:
    text = f"{what} is {given!r}, but this archsearch knows version {kind.version} of {kind.name}."
    newer = isinstance(given, int) and given > kind.version
    return f"{text} It was written for a newer one: upgrade archsearch." if newer else f"{text} Write it anew for that version."


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def paths(
    slots: Mapping[str, Ingredient | None], known: Mapping[str, Slot], where: Sequence[str] = ()
) -> list[tuple[str, Slot]]:
    """Every slot of a tree with its dotted path, parents before what is in them."""
    found = []
    for name, slot in known.items():
        path = (*where, name)
        found.append((".".join(path), slot))
        inside = slots.get(name)
        if inside is not None:
            found += paths(inside.slots, INGREDIENTS.get(inside.kind).slots, path)
    return found
