"""Making a run's folder, in an order that leaves either a whole run or one that says it is incomplete."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from archsearch.jobs import JSON, Event, InputError, StoreUnavailable
from archsearch.store import sqlite
from archsearch.store.chain import genesis, rows_of
from archsearch.store.durable import sync_folder, write_durably
from archsearch.store.head import Head, create_head, read_head
from archsearch.store.lease import FileLock
from archsearch.store.paths import RunFolder
from archsearch.store.schema import EVENTS, create_tables
from archsearch.store.text import plain


def create_run(
    folder: str | os.PathLike[str] | RunFolder,
    *,
    config_text: str,
    meta: Mapping[str, JSON],
    events: Sequence[Event] = (),
    store: str | None = None,
) -> None:
    """Make the folder with its database, ``HEAD`` and a readable copy of the configuration. What a crash left is made anew.

    ``store`` is the URL of a PostgreSQL database that holds the run's tables; without it they are a file in the folder.

    ``meta`` describes the run and never changes: seed, data set's hash, versions... ``id``, ``name`` and ``created``
    (seconds since the epoch) are added where absent, and ``config``, the snapshot. ``events``, numbered from 1, are what the
    run begins with: there is no moment at which it exists without them.

    Raises:
        InputError: the folder already holds a run.
        StoreBusy: another process is making one there.
        StoreUnavailable: disk full, or the folder cannot be written.
    """
    run = RunFolder.at(folder)
    described = {"id": uuid.uuid4().hex, "name": run.name, "created": time.time(), **plain(dict(meta)), "config": config_text}
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{run.path} cannot be made: {error}") from error
    lock = FileLock(run.lock)
    try:
        refuse_present(run)
        _create(run, config_text, described, events, store)
    except OSError as error:
        raise StoreUnavailable(f"the run in {run.path} cannot be made: {error}") from error
    finally:
        lock.release()


def refuse_present(run: RunFolder) -> None:
    """
    Raises:
        InputError: the folder holds a run.
    """
    if run.made or (run.head.exists() and read_head(run.head).number):
        raise InputError(f"{run.path} holds a run: go on with `archsearch resume {run.path}`, or name another folder")


def refuse_unreachable(store: str | None) -> None:
    """
    Raises:
        InputError: ``store`` is no URL of a PostgreSQL database, or what it takes to reach one is not installed.
        StoreUnavailable: no server answers there, or it lets nobody in.
    """
    if store is not None:
        from archsearch.store import postgres

        postgres.new_schema(store)[0].check()


def _create(run: RunFolder, config_text: str, described: dict[str, JSON], events: Sequence[Event], store: str | None) -> None:
    write_durably(run.config, config_text.encode())
    _remove_leftovers(run)
    rows = rows_of(events, genesis(described))
    new, name, digest = _file(run, described, rows) if store is None else _schema(run, described, rows, store)
    create_head(run.head, Head(0, *genesis(described), digest))  # the digest vouches for the first events as well
    sync_folder(run.path)
    os.replace(new, name)  # last: a database always has its HEAD, and HEAD 0 without one is an incomplete run
    sync_folder(run.path)
    sync_folder(run.path.parent)


def _remove_leftovers(run: RunFolder) -> None:
    """What a creation that was cut short may have made."""
    for leftover in (*run.path.glob("run.db.new*"), *run.path.glob("run.db-*")):  # an old log would be replayed into a new file
        leftover.unlink(missing_ok=True)
    pointer = _unfinished(run.pointer)
    if pointer.exists():
        from archsearch.store import postgres

        postgres.database_of(run, pointer).drop()
        pointer.unlink()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _file(run: RunFolder, described: dict[str, JSON], rows: Sequence[Mapping[str, Any]]) -> tuple[Path, Path, str]:
    """A SQLite file with all tables, under another name than its own; both names and its digest."""
    new = _unfinished(run.db)
    with sqlite.translated(new, "creating"), sqlite.connect(new, "rwc").begin() as connection:
        _fill(connection, described, rows)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    return new, run.db, sqlite.digest(new)


def _schema(
    run: RunFolder, described: dict[str, JSON], rows: Sequence[Mapping[str, Any]], store: str
) -> tuple[Path, Path, str]:
    """A schema with all tables on a PostgreSQL server, and the file that names it; its two names, and no digest."""
    from archsearch.store import postgres

    database, pointer = postgres.new_schema(store)
    new = _unfinished(run.pointer)
    write_durably(new, pointer)  # before the schema is made, so that what a crash leaves of it can be found
    with database.making() as connection:
        _fill(connection, described, rows)
    return new, run.pointer, ""


def _fill(connection: Connection, described: dict[str, JSON], rows: Sequence[Mapping[str, Any]]) -> None:
    create_tables(connection, described)
    if rows:
        connection.execute(insert(EVENTS), rows)
