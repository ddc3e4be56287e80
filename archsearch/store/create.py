"""Making a run's folder, in an order that leaves either a whole run or one that says it is incomplete."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import insert

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
    folder: str | os.PathLike[str] | RunFolder, *, config_text: str, meta: Mapping[str, JSON], events: Sequence[Event] = ()
) -> None:
    """Make the folder with its database, ``HEAD`` and a readable copy of the configuration. What a crash left is made anew.

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
        _create(run, config_text, described, events)
    except OSError as error:
        raise StoreUnavailable(f"the run in {run.path} cannot be made: {error}") from error
    finally:
        lock.release()


def refuse_present(run: RunFolder) -> None:
    """
    Raises:
        InputError: the folder holds a run.
    """
    if run.db.exists() or (run.head.exists() and read_head(run.head).number):
        raise InputError(f"{run.path} holds a run: go on with `archsearch resume {run.path}`, or name another folder")


def _create(run: RunFolder, config_text: str, described: dict[str, JSON], events: Sequence[Event]) -> None:
    write_durably(run.config, config_text.encode())
    new = run.path / "run.db.new"
    for leftover in (*run.path.glob("run.db.new*"), *run.path.glob("run.db-*")):  # an old log would be replayed into a new file
        leftover.unlink(missing_ok=True)
    with sqlite.translated(new, "creating"), sqlite.connect(new, "rwc").begin() as connection:
        create_tables(connection, described)
        if rows := rows_of(events, genesis(described)):
            connection.execute(insert(EVENTS), rows)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    number, crc = genesis(described)
    create_head(run.head, Head(0, number, crc, sqlite.digest(new)))  # the digest vouches for the first events as well
    sync_folder(run.path)
    os.replace(new, run.db)  # last: a database always has its HEAD, and HEAD 0 without one is an incomplete run
    sync_folder(run.path)
    sync_folder(run.path.parent)
