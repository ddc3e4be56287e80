"""The event log, artifacts and the state that they amount to; the only room with SQL.

What stands here is imported when it is first asked for: workers and devices know artifacts alone, and start without SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsearch.store.artifacts import Artifacts as Artifacts
    from archsearch.store.chain import as_stored as as_stored
    from archsearch.store.create import create_run as create_run
    from archsearch.store.create import refuse_present as refuse_present
    from archsearch.store.create import refuse_unreachable as refuse_unreachable
    from archsearch.store.database import database_url as database_url
    from archsearch.store.lease import TTL as TTL
    from archsearch.store.lease import Driver as Driver
    from archsearch.store.lease import this_host as this_host
    from archsearch.store.log import DuplicateResult as DuplicateResult
    from archsearch.store.log import SqlStore as SqlStore
    from archsearch.store.log import StoredRun as StoredRun
    from archsearch.store.log import open_store as open_store
    from archsearch.store.log import read_run as read_run
    from archsearch.store.paths import RunFolder as RunFolder
    from archsearch.store.paths import list_runs as list_runs
    from archsearch.store.reader import IncompleteRun as IncompleteRun
    from archsearch.store.retention import Retention as Retention
    from archsearch.store.state import ENDED as ENDED
    from archsearch.store.state import JobRecord as JobRecord
    from archsearch.store.state import Point as Point
    from archsearch.store.state import RunState as RunState
    from archsearch.store.text import canonical as canonical
    from archsearch.store.text import plain as plain

_NAMES = {
    "artifacts": ("Artifacts",),
    "chain": ("as_stored",),
    "create": ("create_run", "refuse_present", "refuse_unreachable"),
    "database": ("database_url",),
    "lease": ("TTL", "Driver", "this_host"),
    "log": ("DuplicateResult", "SqlStore", "StoredRun", "open_store", "read_run"),
    "paths": ("RunFolder", "list_runs"),
    "reader": ("IncompleteRun",),
    "retention": ("Retention",),
    "state": ("ENDED", "JobRecord", "Point", "RunState"),
    "text": ("canonical", "plain"),
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
