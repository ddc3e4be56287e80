"""The event log of one run: opened by one writer and any number of readers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

from overrides import overrides
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from archsearch.jobs import JSON, ArchsearchError, Event, EventKind, LeaseLost, Store, StoreDamaged, StoreUnavailable
from archsearch.store import lease
from archsearch.store.chain import genesis, last_link, rows_of
from archsearch.store.database import database_of
from archsearch.store.head import HeadWriter, read_head
from archsearch.store.paths import RunFolder, refuse_links
from archsearch.store.reader import Reader, refuse_absent
from archsearch.store.schema import EVENTS, LEASE, migrate

Reached = Callable[[str], None]


class DuplicateResult(ArchsearchError):
    """A job that has already ended was ended again; nothing of the commit was written. ``jobs`` names them."""

    def __init__(self, jobs: Sequence[int]) -> None:
        super().__init__(f"already ended: job {', '.join(map(str, jobs))}")
        self.jobs = tuple(jobs)


def _nothing(_point: str) -> None:
    pass


class SqlStore(Store):
    """Made by ``open_store``. ``meta`` is the run's description, ``config_text`` its configuration snapshot.

    ``reached`` is called with ``commit.head`` when events are committed and ``HEAD`` does not say so yet (for crash tests).
    """

    def __init__(
        self, folder: RunFolder, *, write: bool, whole: bool = True, ttl: float = lease.TTL, reached: Reached = _nothing
    ) -> None:
        self.folder = folder
        self._write = write
        self._ttl = ttl
        self._reached = reached
        self._mutex = RLock()
        self._connection: Connection | None = None
        self._lost = self._closed = False
        refuse_absent(folder)
        refuse_links(folder)
        self._database = database_of(folder)
        if not write:
            self._reader = Reader(folder, self._database, whole=whole)
            return
        self._lock = lease.FileLock(folder.lock)
        try:
            self._reader = Reader(folder, self._database, outdated=True)
            self._take_over()
        except BaseException:
            self._lock.release()
            raise

    @property
    def meta(self) -> dict[str, JSON]:
        return self._reader.meta

    @property
    def config_text(self) -> str:
        return str(self.meta["config"])

    @overrides
    def events(self, after: int = 0) -> Iterator[Event]:
        return self._reader.events(after)

    def events_of(self, kind: EventKind) -> list[Event]:
        """The events of one kind, in order: quick, because all others are passed over unread. Each is what was written, but
        whether any is missing is not known; ``open_store`` with ``write`` finds that out.

        Raises:
            StoreDamaged: one of them is not what was written.
        """
        return self._reader.events_of(kind)

    def driver(self) -> lease.Driver | None:
        """Who is running this run now, or None: on this host by its lock, on another by its last sign of life."""
        return self._reader.driver(self._ttl)

    def log_bytes(self) -> int:
        """Bytes that the run's tables take on their disk."""
        return self._reader.size()

    # ------------------------------------------------------------------------------------------------------- writing
    def _take_over(self) -> None:
        """Check everything while nothing has been written, then take the lease."""
        head = read_head(self.folder.head)
        if not head.digest:  # else it vouches for every byte
            for _ in self._reader.rows(0):
                pass
        with self._reader.snapshot(head) as connection:
            fault = None if head.digest else self._database.fault(connection)
            if fault:
                raise StoreDamaged(f"{fault}; the events up to {head.number} can be read")
            lease.refuse_other_host(connection, self._ttl)
            self._tip = self._acknowledged = last_link(connection, genesis(self.meta))
        with _head_errors(self.folder):
            self._head = HeadWriter(self.folder.head)
        try:
            with _head_errors(self.folder):
                self._head.open(*self._tip)  # from here on the file's digest does not count
            with self._transaction("taking over") as connection:
                self._epoch = lease.acquire(connection, self._ttl)
                migrate(connection)
            self._reader = Reader(self.folder, self._database)
        except BaseException:
            self._disconnect()
            self._head.close()
            raise

    @overrides
    def commit(self, events: Sequence[Event]) -> None:
        """
        Raises:
            LeaseLost: another driver has taken the run over.
            DuplicateResult: a job would end twice; nothing was written.
            StoreUnavailable: the same call may be made again.
            ValueError: the numbers do not continue the log.
        """
        with self._mutex:
            self._writable()
            rows = rows_of(events, self._acknowledged)
            if not rows:
                return
            links = [self._acknowledged, *((row["number"], row["crc"]) for row in rows)]
            self._check_there()
            self._connected()
            if self._tip in links:  # an earlier try may have written rows and stumbled afterwards
                rows = rows[links.index(self._tip) :]
            if rows:
                self._insert(rows)
                self._tip = links[-1]
            self._reached("commit.head")
            with _head_errors(self.folder):
                self._head.write(*self._tip)
            self._acknowledged = self._tip

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        try:
            with self._transaction("committing") as connection:
                lease.renew(connection, self._epoch)
                connection.execute(insert(EVENTS), rows)
        except IntegrityError as error:
            if not self._database.ended_twice(error):
                first = rows[0]["number"]
                raise StoreDamaged(f"{self._database}: event {first} is there already, and is another: {error.orig}") from error
            jobs = [row["ended"] for row in rows if row["ended"] is not None]
            with self._transaction("reading") as connection:
                there = set(connection.execute(select(EVENTS.c.ended).where(EVENTS.c.ended.in_(jobs))).scalars())
            raise DuplicateResult(sorted(there | {job for job in jobs if jobs.count(job) > 1})) from error

    def heartbeat(self) -> None:
        """Show drivers on other hosts that this one lives; every commit does so too. Call it several times per ``ttl``.

        Raises:
            LeaseLost: another driver has taken the run over.
            StoreUnavailable: as for ``commit``.
        """
        with self._mutex:
            self._writable()
            self._check_there()
            self._connected()
            with self._transaction("heartbeat") as connection:
                lease.renew(connection, self._epoch)

    @overrides
    def close(self) -> None:
        """Give the lease back and seal the file with its digest. What cannot be done now (disk full) is left out: nothing
        committed is lost by it, and the lock falls in any case."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            if not self._write:
                return
            try:
                if not self._lost:
                    with suppress(StoreUnavailable, LeaseLost, OSError):
                        self._seal()
            finally:
                self._disconnect()
                self._head.close()
                self._lock.release()

    def _seal(self) -> None:
        self._check_there()
        self._connected()
        with self._transaction("closing") as connection:
            lease.renew(connection, self._epoch)
            lease.clear(connection, self._epoch)
        with self._database.translated("closing"):
            settled = self._database.settled(self._connected())
        self._disconnect()
        if settled:
            self._head.write(*self._tip, digest=self._database.digest())

    def _writable(self) -> None:
        if not self._write or self._closed:
            raise RuntimeError(f"the store in {self.folder.path} {'is closed' if self._closed else 'was opened for reading'}")
        if self._lost:
            raise LeaseLost(f"the run in {self.folder.path} was taken over by another driver; nothing was written")

    def _check_there(self) -> None:
        if not self._database.there() or not self._head.is_at(self.folder.head):
            raise StoreUnavailable(f"the files in {self.folder.path} are gone or were replaced: put them back, or stop the run")

    def _connected(self) -> Connection:
        """The writing connection; after an error a new one is made, and the tables are asked where they stand: a commit whose
        answer was lost may have been carried out."""
        if self._connection is None:
            with self._database.translated("opening"):
                self._connection = self._database.open()
            with self._transaction("opening") as connection:
                # A server may still be busy with that commit: it holds the lease's row until it is decided.
                connection.execute(select(LEASE.c.epoch).with_for_update())
                self._tip = last_link(connection, genesis(self.meta))
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # after an error of the disk closing may fail too, and nothing hangs on it
                connection.close()

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[Connection]:
        try:
            connection = self._connected()
            with self._database.translated(doing), connection.begin():
                yield connection
        except StoreUnavailable:
            self._disconnect()
            raise
        except LeaseLost:
            self._lost = True
            raise

    def __enter__(self) -> SqlStore:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextmanager
def _head_errors(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{folder.head} cannot be written: {error}") from error


def open_store(
    folder: str | os.PathLike[str] | RunFolder,
    *,
    write: bool,
    whole: bool = True,
    ttl: float = lease.TTL,
    reached: Reached = _nothing,
) -> SqlStore:
    """Open the run in ``folder``: to write it (one process at a time, everything is checked first) or to read it.

    Without ``whole`` (only for reading) a closed file's digest, a second for a gigabyte, is left to the next who opens it:
    for a look at the description and ``events_of``, which have checksums of their own, before it is opened for writing.

    Raises:
        InputError: no run there, or one of a newer version; ``IncompleteRun`` if its creation was cut short.
        StoreBusy: another driver holds it (only with ``write``).
        StoreDamaged: what is there is not what was written; the text names the place and the last good event.
        StoreUnavailable: disk full, locked, gone.
    """
    return SqlStore(RunFolder.at(folder), write=write, whole=whole, ttl=ttl, reached=reached)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """All that a run's database holds: its description and its events, checked."""

    meta: Mapping[str, JSON]
    events: list[Event]


def read_run(folder: str | os.PathLike[str] | RunFolder) -> StoredRun:
    """Read a run whole, also beside its living driver. Raises as ``open_store`` does."""
    store = open_store(folder, write=False)
    return StoredRun(store.meta, list(store.events()))
