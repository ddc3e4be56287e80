"""All that is particular to SQLite: connections, pragmas, what its errors mean, checkpoints and the closed file's digest."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

from overrides import overrides
from sqlalchemy import Connection, Engine, MetaData, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from archsearch.jobs import StoreDamaged, StoreUnavailable
from archsearch.store.database import Database
from archsearch.store.head import Head
from archsearch.store.paths import RunFolder
from archsearch.store.schema import TABLES

#: Seconds that a commit waits for another process's lock before it gives up for the moment.
PATIENCE = 2.0

#: Bytes of the longest value: a stranger's file must not fill the memory.
LONGEST = 1 << 26

#: Primary result codes that say nothing about the stored bytes: what was asked can be asked again.
_PASSING = {
    sqlite3.SQLITE_BUSY: "it is locked by another process",
    sqlite3.SQLITE_LOCKED: "it is locked by another process",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_PERM: "access is not allowed",
    sqlite3.SQLITE_AUTH: "access is not allowed",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_PROTOCOL: "it is locked by another process",
    sqlite3.SQLITE_INTERRUPT: "the operation was interrupted",
}


def connect(path: Path, mode: str, *, timeout: float = 5.0) -> Engine:
    """An engine without a pool. ``mode``: ``rwc`` makes the file, ``rw`` writes, ``ro`` reads beside a living writer,
    ``immutable`` reads a closed file and leaves no trace. ``timeout``: seconds to wait for another's lock."""
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    uri = f"file:{quote(str(path))}?{query}"

    def opened() -> sqlite3.Connection:
        # Autocommit here, BEGIN below: the driver's own transactions begin too late to hold the lock over a read.
        connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        return connection

    engine = create_engine("sqlite://", creator=opened, poolclass=NullPool)
    writes = mode in ("rw", "rwc")

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        if writes:
            mode_now = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode_now != "wal":
                raise StoreUnavailable(f"{path} cannot have a write-ahead log (journal mode {mode_now}): use a local disk")
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turns the driver's errors into ours; a violated constraint passes as it is.

    Raises:
        StoreUnavailable: locked, full, gone: the same can be tried again.
        StoreDamaged: everything else, since our statements are right: the file is not what was written.
    """
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = _PASSING.get(getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF)
        if reason is None:
            raise StoreDamaged(f"{path} is damaged ({doing}): {cause}") from error
        raise StoreUnavailable(f"{path} is not available ({doing}): {reason}: {cause}") from error


def digest(path: Path) -> str:
    """SHA-256 (hex) of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_foreign(connection: Connection, own: MetaData) -> None:
    """
    Raises:
        StoreDamaged: the file has triggers, views or tables that are not among its ``own``: they could do what archsearch
            never would.
    """
    found = connection.exec_driver_sql("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
    for kind, name, table, text in found:
        plain = kind == "index" or (kind == "table" and text.startswith("CREATE TABLE "))
        if not plain or table not in own.tables:
            raise StoreDamaged(f"its schema has the {kind} {name}, which archsearch did not make")


class SqliteFile(Database):
    """``run.db`` in the run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._path = folder.db
        self._digest_of: Head | None = None  # the closing whose digest was found right
        self._stat: os.stat_result | None = None

    def __str__(self) -> str:
        return str(self._path)

    @overrides
    def reading(self, head: Head, *, whole: bool) -> AbstractContextManager[Connection]:
        return self._reading(head, whole)

    @contextmanager
    def _reading(self, head: Head, whole: bool) -> Iterator[Connection]:
        """A cleanly closed file is read as it lies, without a trace, and must have the digest that it was closed with; beside
        a writer, or after one was killed, its log is read too."""
        if head.digest and whole:
            self._check_digest(head)
        with translated(self._path, "reading"):
            engine = connect(self._path, "immutable" if head.digest else "ro")
            with engine.connect() as connection, connection.begin():
                refuse_foreign(connection, TABLES)
                yield connection

    def _check_digest(self, head: Head) -> None:
        if head == self._digest_of:
            return
        log = self._folder.wal
        try:
            found, size = digest(self._path), log.stat().st_size if log.exists() else 0
        except FileNotFoundError as error:
            raise StoreDamaged(f"{self} is missing; HEAD names event {head.number}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self} cannot be read: {error}") from error
        if found != head.digest or size:
            where = log if size else self._path
            raise StoreDamaged(f"{where} was changed after the run was closed with event {head.number}: restore it from a copy")
        self._digest_of = head

    @overrides
    def open(self) -> Connection:
        connection = connect(self._path, "rw", timeout=PATIENCE).connect()
        self._stat = os.stat(self._path)
        return connection

    @overrides
    def translated(self, doing: str) -> AbstractContextManager[None]:
        return translated(self._path, doing)

    @overrides
    def there(self) -> bool:
        """SQLite goes on writing to a file that has been deleted; nobody would ever read it again."""
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        return self._stat is None or os.path.samestat(now, self._stat)

    @overrides
    def ended_twice(self, error: IntegrityError) -> bool:
        return "events.ended" in str(error.orig)

    @overrides
    def size(self, connection: Connection) -> int:
        return sum(path.stat().st_size for path in (self._path, self._folder.wal) if path.exists())

    @overrides
    def fault(self, connection: Connection) -> str | None:
        """What SQLite's own check finds wrong with pages, rows and indexes. Reads the whole file."""
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        return None if found == "ok" else str(found)

    @overrides
    def settled(self, connection: Connection) -> bool:
        """Move the write-ahead log into the file and truncate it; False when a reader stands in the way."""
        driver = connection.connection.driver_connection  # past SQLAlchemy, which would begin a transaction first
        busy = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] if driver is not None else 1
        return bool(busy == 0)

    @overrides
    def digest(self) -> str:
        return digest(self._path)
