"""From a YAML file, its includes and ``--set`` overrides to checked sections; and from the snapshot that a run keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from archsearch import registry
from archsearch.config import tree, yaml_text
from archsearch.config.explain import Models, Problem, explain, report, unknown_section
from archsearch.config.files import Lookup, kind_of, read
from archsearch.config.secrets import MASK, is_secret_name, mask_text, masked
from archsearch.config.tree import KeyPath, Node, Place, Template
from archsearch.jobs import InputError


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Attributes:
        sections: one frozen pydantic model for every registered section, defaults filled in.
        source_text: YAML of what the user wrote, includes and overrides merged in, ``${VAR}`` left as it is.
        expanded: ``{"data.path": value}`` for each key whose text used variables, secrets left out. A run keeps it beside
            its snapshot: ``from_snapshot(source_text, expanded=expanded)`` gives equal sections on any machine, without
            ever reading the environment.
        hidden: what is shown of values that came from variables which are secrets by their names, by key.
    """

    sections: Mapping[str, BaseModel]
    source_text: str = field(repr=False)
    expanded: Mapping[str, Any] = field(repr=False)
    hidden: Mapping[KeyPath, str] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.sections[name]

    def to_json(self, *, mask: bool = True) -> dict[str, Any]:
        """All sections with defaults and variables filled in, as JSON values; secrets are masked unless told otherwise."""
        values = {name: section.model_dump(mode="json") for name, section in self.sections.items()}
        for path, shown in self.hidden.items() if mask else ():
            _hide(values, path, shown)
        return masked(values) if mask else values

    def to_yaml(self, *, mask: bool = True) -> str:
        """``to_json`` as YAML, which can be loaded again when nothing is masked."""
        return yaml_text.dump(self.to_json(mask=mask))


def load(path: str | os.PathLike[str], *, overrides: Sequence[str] = (), expand_env: bool = True) -> Config:
    """Read and check a configuration file.

    Args:
        path: the file that the user names. ``include: other.yaml`` (or a list) in it is read first, relative to it; mappings
            are merged, what comes later wins.
        overrides: ``"search.max_madd=1e6"``: the value is YAML and replaces what is there. ``${`` has no meaning in it.
        expand_env: fill in ``${VAR}`` and ``${VAR:default}``; without it such text is an error.

    Raises:
        InputError: everything that is wrong, by file and line.
    """
    problems: list[Problem] = []
    lookup = os.environ.get if expand_env else None
    root = read(Path(path), problems, lookup)
    return _check(str(path), root, overrides, problems, lookup=lookup)


def from_values(values: Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Config:
    """A configuration from plain values in Python, where ``${`` has no meaning.

    Raises:
        InputError: everything that is wrong.
    """
    try:
        copied = json.loads(json.dumps(values))
    except (TypeError, ValueError) as error:
        raise InputError(f"a configuration is made of dicts, lists, text, numbers and booleans: {error}.") from None
    return _check("configuration", tree.node_of(copied, Place("configuration")), overrides, [])


def from_snapshot(
    text: str,
    *,
    expanded: Mapping[str, Any] = MappingProxyType({}),
    overrides: Sequence[str] = (),
    settable: Collection[str] | None = None,
    strict: bool = True,
    file: str = "config.yaml",
) -> Config:
    """Read what a run or a recipe holds, perhaps a stranger's: no environment variable is read and no file is included.

    Args:
        text: ``Config.source_text``.
        expanded: ``Config.expanded`` as it was kept; fills in what stood as ``${VAR}`` when the run was made.
        overrides: as for ``load``.
        settable: sections or single keys (``"budget"``, ``"search.max_hull_points"``) that overrides may change, or None for
            all. A key whose ``${VAR}`` has no kept value may always be set.
        strict: refuse a ``${VAR}`` without a kept value (a secret), as going on with a run must. With False it stays as
            text, which is enough to look at a run.
        file: the snapshot's name in messages.

    Raises:
        InputError: everything that is wrong; for a ``${VAR}`` without a kept value, to give it with ``--set``.
    """
    problems: list[Problem] = []
    root = yaml_text.parse(text, file, problems)
    if isinstance(root.value, dict) and "include" in root.value:
        problems.append((tree.place_of(root, ("include",)), "a stored configuration cannot include other files."))
        root = Node({key: node for key, node in root.value.items() if key != "include"}, root.place)
    return _check(file, root, overrides, problems, expanded=expanded, settable=settable, strict=strict)


def without(text: str, key: str) -> str:
    """A snapshot (``Config.source_text``) that no longer says what one of its keys is.

    Raises:
        InputError: the text is no configuration.
    """
    problems: list[Problem] = []
    root, path = yaml_text.parse(text, "config.yaml", problems), tree.undotted(key)
    if problems:
        raise report("config.yaml", problems)
    if tree.find(root, path) is None:
        return text
    return yaml_text.dump(tree.plain(tree.put(root, path, Node(None, root.place)), lambda template, *_: template))


def parse_override(text: str) -> tuple[KeyPath, Node]:
    """``"a.b=c"`` as a path and a value.

    Raises:
        InputError: no ``=``, an empty key or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    place = Place(f"--set {key}={MASK}" if is_secret_name(key) else f"--set {mask_text(text)}")
    try:
        if not equals:
            raise ValueError("there is no =")
        path = tree.undotted(key.strip())
    except ValueError as error:
        raise InputError(f"{place}: {error}. Write KEY=VALUE with the full key, such as search.max_madd=1e6.") from None
    problems: list[Problem] = []
    node = yaml_text.parse(value, place.file, problems, expandable=False)
    if problems:
        raise report(place.file, [(place, what) for _, what in problems])
    return path, tree.node_of(tree.plain(node), place)


# -------------------------------------------------------------------------------------------------------------- checking
def _check(
    what: str,
    root: Node,
    overrides: Sequence[str],
    problems: list[Problem],
    *,
    lookup: Lookup | None = None,
    expanded: Mapping[str, Any] = MappingProxyType({}),
    settable: Collection[str] | None = None,
    strict: bool = True,
) -> Config:
    if not isinstance(root.value, dict):
        root = Node({}, root.place) if root.value is None else root
        if not isinstance(root.value, dict):
            raise InputError(f"{root.place}: expected sections such as 'data:' and 'search:', found a {kind_of(root.value)}.")
    hidden = dict.fromkeys(_secrets_given_again(root, overrides), MASK)
    root = _override(root, overrides, expanded, settable, problems)
    broken: list[KeyPath] = []
    kept: dict[str, Any] = {}

    value_of = lookup or (lambda name: None)

    def fill(template: Template, path: KeyPath, place: Place) -> Any:
        key = tree.dotted(path)
        try:
            names = template.variables()
            if names and lookup is None:
                if key not in expanded and not strict:
                    return template.text
                if key not in expanded:
                    raise ValueError(f"{template.text} is not filled in for what is stored. Give the value: --set {key}=VALUE")
                kept[key] = expanded[key]
                return expanded[key]
            text = template.fill(value_of)
            value = yaml_text.resolve(text) if template.plain else text
        except ValueError as error:
            broken.append(path)
            problems.append((place, f"{key}: {error}."))
            return None
        if names and not any(map(is_secret_name, (*names, *map(str, path)))) and masked(value) == value:
            kept[key] = value
        elif names:
            hidden[path] = template.fill(lambda name: MASK if is_secret_name(name) else value_of(name))
        return value

    values = tree.plain(root, fill)
    sections = _sections(root, values, problems, broken)
    if problems:
        raise report(what, problems)
    return Config(
        MappingProxyType(sections),
        yaml_text.dump(tree.plain(root, lambda template, *_: template)),
        MappingProxyType(kept),
        MappingProxyType(hidden),
    )


def _secrets_given_again(root: Node, overrides: Sequence[str]) -> Iterator[KeyPath]:
    """Keys that overrides replace and whose text used a variable that is a secret by its name."""
    for override in overrides:
        path, _ = parse_override(override)
        old = tree.find(root, path)
        if old is not None and isinstance(old.value, Template):
            with suppress(ValueError):  # text that nobody can read
                if any(map(is_secret_name, old.value.variables())):
                    yield path


def _hide(values: Any, path: KeyPath, shown: str) -> None:
    """Put what is shown where ``path`` leads, if it leads anywhere: a section may have changed what was written."""
    *above, last = path
    try:
        for step in above:
            values = values[step]
        values[last]
    except (KeyError, IndexError, TypeError):
        return
    values[last] = shown


def _override(
    root: Node,
    overrides: Sequence[str],
    expanded: Mapping[str, Any],
    settable: Collection[str] | None,
    problems: list[Problem],
) -> Node:
    for override in overrides:
        path, new = parse_override(override)
        old = tree.find(root, path)
        unknown_value = old is not None and isinstance(old.value, Template) and tree.dotted(path) not in expanded
        if settable is not None and not unknown_value and not _is_within(path, settable):
            problems.append((new.place, f"this cannot be changed any more; only {', '.join(sorted(settable))} can."))
            continue
        try:
            root = tree.put(root, path, new)
        except ValueError as error:
            problems.append((new.place, f"{error}."))
    return root


def _is_within(path: KeyPath, keys: Collection[str]) -> bool:
    """Whether ``path`` is one of the dotted keys or lies below one."""
    return any(tree.dotted(path[:end]) in keys for end in range(1, len(path) + 1))


def _sections(root: Node, values: dict[str, Any], problems: list[Problem], broken: list[KeyPath]) -> dict[str, BaseModel]:
    known = list(registry.SECTIONS)
    for name in values:
        if name not in known:
            problems.append((tree.place_of(root, (name,)), unknown_section(name, known)))
    order = [name for name in values if name in known] + [name for name in known if name not in values]
    models: Models = {}
    sections: dict[str, BaseModel] = {}
    for name in order:
        given = values.get(name)
        values[name] = given = {} if given is None else given
        if not isinstance(given, dict):
            problems.append((tree.place_of(root, (name,)), f"{name} is a section: write keys below it, not {given!r}."))
            continue
        try:
            models[name] = model_of(registry.SECTIONS.get(name), given)
        except ValueError as error:  # an unknown searcher, for example
            problems.append((tree.place_of(root, (name, "name")), f"{name}: {error}"))
    for name, model in models.items():
        try:
            sections[name] = model.model_validate(values[name])
        except ValidationError as error:
            for path, problem in explain(name, models, error, values[name], root):
                if not any(path == bad[: len(path)] or bad == path[: len(bad)] for bad in broken):
                    problems.append(problem)
    for section in sections.values() if not problems else ():
        if hasattr(section, "across"):  # what depends on other sections is said once each is good by itself
            problems += [(tree.place_of(root, path), f"{tree.dotted(path)}: {text}") for path, text in section.across(sections)]
    return sections


def model_of(section: Any, values: dict[str, Any]) -> type[BaseModel]:
    """The model that checks a section: itself, or the one it chooses for these values."""
    chosen = section.model_for(values) if hasattr(section, "model_for") else section
    assert isinstance(chosen, type) and issubclass(chosen, BaseModel), section
    return chosen
