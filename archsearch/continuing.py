"""What may change when a run goes on, and how a configuration given again differs from the one that the run began with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch import config as configuration
from archsearch.config import Config
from archsearch.jobs import InputError
from archsearch.store import IncompleteRun, RunFolder, open_store

#: Sections, and single keys, that may change: how long, where, who follows it; never what is searched.
RESUMABLE = frozenset(
    {
        *("budget", "resources", "cluster", "devices", "tracking"),
        *("search.max_hull_points", "search.confirm", "profile.wait", "run.keep"),
    }
)

#: Where the run is, which whoever names its folder has said, and the folder itself of its database.
_ELSEWHERE = frozenset({"run.name", "run.dir", "run.store"})


@dataclass(frozen=True)
class Changes:
    """Overrides, ``KEY=JSON``: those that the run's history keeps, and those with secrets in them, which it must not."""

    kept: tuple[str, ...]
    secret: tuple[str, ...]


def may_change(key: str) -> bool:
    """Whether a dotted key may be set when a run goes on."""
    return key.partition(".")[0] in RESUMABLE or key in RESUMABLE


def description(path: str | Path) -> Mapping[str, Any] | None:
    """What the run in a folder says of itself, or None: no run is there, or its creation was cut short."""
    if not RunFolder.at(path).started:
        return None
    try:
        with open_store(path, write=False, whole=False) as store:
            return store.meta
    except IncompleteRun:
        return None


def since(meta: Mapping[str, Any], config: Config) -> Changes:
    """What a configuration changes of the one that a run began with. Secrets, which the run does not keep, are given anew.

    Raises:
        InputError: it changes what is searched; every such key is named.
    """
    values, text, expanded = config.to_json(mask=False), meta["config"], meta["expanded"]
    left_open = configuration.left_open(text, expanded)
    given = [f"{_dotted(path)}={json.dumps(_at(values, path))}" for path in left_open]
    began = configuration.from_snapshot(text, expanded=expanded, overrides=given)
    old, new = dict(_leaves(began.to_json(mask=False))), dict(_leaves(values))
    hidden = [tuple(map(str, path)) for path in (*left_open, *config.hidden)]
    kept, secret, refused = [], [], []
    for path, value in new.items():
        key = _dotted(path)
        override = f"{key}={json.dumps(value)}"
        if key in _ELSEWHERE:
            continue
        if any(each[: len(path)] == path for each in hidden):
            secret.append(override)
        elif value == old.get(path):
            continue
        elif may_change(key):
            kept.append(override)
        else:
            then, now = (configuration.masked(each, path[-1]) for each in (old.get(path), value))
            refused.append(f"{key} was {then!r} when the run began and is {now!r} now")
    if refused:
        raise InputError(
            f"the run {meta['name']} searches something else: {'; '.join(refused)}. Give the new search another name "
            "(run.name or --run-dir), or the old configuration."
        )
    return Changes(tuple(kept), tuple(secret))


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step).replace(".", "\\.") for step in path)


def _at(values: Any, path: tuple[str | int, ...]) -> Any:
    """The value where a path leads, or None."""
    for step in path:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in nested mappings that is no mapping, or an empty one, by its path."""
    if not isinstance(values, dict) or not values:
        yield path, values
        return
    for key, value in values.items():
        yield from _leaves(value, (*path, str(key)))
