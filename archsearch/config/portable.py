"""A configuration for another machine, or to be kept: complete in itself, and without a secret in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from archsearch.config import tree, yaml_text
from archsearch.config.loading import Config
from archsearch.config.secrets import is_secret_name, mask_text
from archsearch.config.tree import KeyPath, Node, Template
from archsearch.jobs import InputError


def portable_text(config: Config) -> str:
    """YAML that means the same in another environment: variables are filled in, but for secrets, which stay ``${VAR}``.

    Raises:
        InputError: a secret stands in the configuration itself; the text names its key.
    """
    root = yaml_text.parse(config.source_text, "configuration", [])
    for path in _written_secrets(tree.plain(root, lambda *_: None)):
        raise InputError(
            f"{tree.dotted(path)} holds a secret, and secrets do not travel. Write a variable whose name tells what it is, "
            "such as ${MY_PASSWORD}, and set it where the search is to run."
        )
    return yaml_text.dump(tree.plain(root, lambda template, path, _: config.expanded.get(tree.dotted(path), template)))


def without_secrets(text: str) -> str:
    """A snapshot's text with ``${VAR}`` where a secret was written out: whoever goes on with it is asked for the value."""
    root = yaml_text.parse(text, "configuration", [])
    for path in list(_written_secrets(tree.plain(root, lambda *_: None))):
        name = re.sub(r"\W+", "_", tree.dotted(path)).upper()
        variable = name if is_secret_name(name) else f"{name}_SECRET"
        root = tree.put(root, path, Node(Template(f"${{{variable}}}", plain=True), root.place))
    return yaml_text.dump(tree.plain(root, lambda template, *_: template))


def left_open(text: str, expanded: Mapping[str, Any]) -> list[KeyPath]:
    """Where a snapshot holds variables whose values were not kept: secrets."""
    root = yaml_text.parse(text, "config.yaml", [])
    found = ((path, node.value) for path, node in tree.templates(root) if isinstance(node.value, Template))
    return [path for path, template in found if template.variables() and tree.dotted(path) not in expanded]


def _written_secrets(value: Any, path: KeyPath = (), secret: bool = False) -> Iterator[KeyPath]:
    """Where plain values hold what would be masked when they are shown."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _written_secrets(child, (*path, key), secret or is_secret_name(str(key)))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _written_secrets(child, (*path, index), secret)
    elif (secret and value not in (None, "")) or (isinstance(value, str) and mask_text(value) != value):
        yield path
