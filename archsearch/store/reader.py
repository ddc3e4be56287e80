"""Reading a run's database, beside a living writer, after a killed one, or as it was closed. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, select

from archsearch.jobs import Event, EventKind, InputError, StoreDamaged
from archsearch.store import lease
from archsearch.store.chain import Checked, Link, checked, checked_apart, event_of, genesis
from archsearch.store.database import Database
from archsearch.store.head import Head, read_head
from archsearch.store.paths import RunFolder
from archsearch.store.schema import EVENTS, check_version, read_meta

T = TypeVar("T")


class IncompleteRun(InputError):
    """The run's creation was cut short; nothing had been searched yet."""


class Reader:
    """Reads one run. ``outdated``: its writer will migrate it, so an older schema version is no error. ``whole``: see
    ``open_store``."""

    def __init__(self, folder: RunFolder, database: Database, *, outdated: bool = False, whole: bool = True) -> None:
        self.folder = folder
        self._database = database
        self._whole = whole
        self.meta = self._ask(read_meta)
        check_version(int(self.meta["schema_version"]), write=outdated)

    def events(self, after: int = 0) -> Iterator[Event]:
        for row in self.rows(after):
            yield event_of(row)

    def events_of(self, kind: EventKind) -> list[Event]:
        """The events of one kind, in order, each checked against the event before it only."""
        return [event_of(row) for row in self._ask(lambda connection: checked_apart(connection, kind, genesis(self.meta)))]

    def driver(self, ttl: float) -> lease.Driver | None:
        """Who is running this run now, or None: on this host by its lock, on another by its last sign of life."""
        holder = lease.lock_holder(self.folder.lock)
        if holder is not None:
            return holder
        row = self._ask(lease.lease_row)
        alive = row.owner and row.host != lease.this_host() and abs(time.time() - row.heartbeat) < ttl
        return lease.Driver(row.pid or 0, str(row.host), "unknown") if alive else None

    def size(self) -> int:
        return self._ask(self._database.size)

    def rows(self, after: int) -> Iterator[Checked]:
        reached = after
        while True:
            head = read_head(self.folder.head)  # before the rows: a writer commits first and moves HEAD then
            try:
                with self.snapshot(head) as connection:
                    for row in checked(connection, self._link_at(connection, reached, head), head):
                        reached = row[0]
                        yield row
                return
            except StoreDamaged:
                if not self._reopened(head):
                    raise

    def _link_at(self, connection: Connection, number: int, head: Head) -> Link:
        if number == 0:
            return genesis(self.meta)
        crc = connection.execute(select(EVENTS.c.crc).where(EVENTS.c.number == number)).scalar_one_or_none()
        if crc is None and number <= head.number:
            raise StoreDamaged(f"event {number} is missing")
        return number, crc or 0

    @contextmanager
    def snapshot(self, head: Head) -> Iterator[Connection]:
        """A reading connection that sees one state (see ``Database.reading``)."""
        try:
            with self._database.reading(head, whole=self._whole) as connection:
                yield connection
        except StoreDamaged as error:
            if str(self.folder.path) in str(error) or str(self._database) in str(error):
                raise
            raise StoreDamaged(f"{self._database}: {error}") from error.__cause__

    def _reopened(self, head: Head) -> bool:
        """Whether a writer opened the file while it was being read as a closed one."""
        return bool(head.digest) and read_head(self.folder.head) != head

    def _ask(self, question: Callable[[Connection], T]) -> T:
        while True:
            head = read_head(self.folder.head)
            try:
                with self.snapshot(head) as connection:
                    return question(connection)
            except StoreDamaged:
                if not self._reopened(head):
                    raise


def refuse_absent(folder: RunFolder) -> None:
    """
    Raises:
        InputError: no run is there; ``IncompleteRun``: one whose creation was cut short.
        StoreDamaged: one whose database is missing.
    """
    if folder.made:
        return
    if not folder.head.exists():
        raise InputError(f"there is no run in {folder.path}: expected a folder that `archsearch search` made")
    head = read_head(folder.head)
    if head.number:
        raise StoreDamaged(f"{folder.db} is missing; HEAD names event {head.number}: restore it from a copy")
    raise IncompleteRun(f"incomplete run in {folder.path}: its creation was cut short; start the search again to make it anew")
