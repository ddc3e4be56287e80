"""A golden database in a SQLite file, which may be a stranger's: it is looked at before SQLite opens it, and again before
anything of it is believed. Reading writes nothing into it.

What can be switched off in a connection is: functions in a schema that are not harmless, extensions, cells that lie about
their size, values that would fill the memory. What cannot be (views, triggers, virtual tables) is refused by name.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from overrides import overrides
from sqlalchemy import Connection

from archsearch.jobs import InputError, StoreDamaged, StoreUnavailable
from archsearch.store.durable import TEMPORARY, make_folders, sync_folder
from archsearch.store.golden import Place
from archsearch.store.golden_schema import TABLES, check_version, create_tables, migrate
from archsearch.store.sqlite import connect, refuse_foreign, translated

T = TypeVar("T")

#: Stands in the file's header, so that another program's database is known before it is opened: "ASGD".
APPLICATION = 0x41534744

#: Seconds that a writer waits for another one.
PATIENCE = 60.0

#: Bytes of a file that is opened at all.
LARGEST = 1 << 32

_MAGIC = b"SQLite format 3\x00"


class SqlitePlace(Place):
    """The file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()
        self._shown = path

    def __str__(self) -> str:
        return str(self._shown)

    @overrides
    def check(self) -> bool:
        return self._path.exists() and self._ask(lambda connection: True, write=True)

    @overrides
    def ask(self, question: Callable[[Connection], T]) -> T:
        """A closed file is read as it lies, without a trace; beside a writer, or after one was killed, its log is read too."""
        return self._ask(question, write=False)

    def _ask(self, question: Callable[[Connection], T], *, write: bool) -> T:
        while True:
            before = self._look()
            mode = "ro" if self._logged() else "immutable"
            try:
                with translated(self._path, "reading"), connect(self._path, mode).connect() as connection:
                    _harden(connection)
                    with connection.begin():
                        self._check(connection, write=write)
                        answer = question(connection)
            except (StoreDamaged, InputError):
                if mode == "ro" or self._same(before):
                    raise
                continue  # a writer was at work on the file
            except StoreUnavailable:
                if mode == "immutable" or self._logged():
                    raise
                continue  # the writer has just left, and taken its log away
            if mode == "ro" or self._same(before):
                return answer

    @overrides
    def writing(self) -> AbstractContextManager[Connection]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if not self._path.exists():
            self._create()
        self.check()  # before anything could be written into what is no such database
        with translated(self._path, "writing"), connect(self._path, "rw", timeout=PATIENCE).connect() as connection:
            _harden(connection)
            with connection.begin():
                _refuse_foreign(connection)
                check_version(connection, write=True)
                migrate(connection)
                yield connection

    def _check(self, connection: Connection, *, write: bool) -> None:
        _refuse_foreign(connection)
        if (found := connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()) != "ok":
            raise StoreDamaged(f"{self} is damaged: {found}")
        check_version(connection, write=write)

    def _beside(self, end: str) -> Path:
        return self._path.with_name(self._path.name + end)

    def _logged(self) -> bool:
        """Whether there is something that is only in the log: a writer's who is at work, or was killed."""
        try:
            return self._beside("-wal").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _same(self, before: os.stat_result) -> bool:
        """Whether the file has not been changed or replaced since."""
        now = os.stat(self._path)
        return (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)

    def _look(self) -> os.stat_result:
        """What can be seen of the file without SQLite.

        Raises:
            InputError: there is none, or it is no golden database.
            StoreDamaged: its end is missing.
            StoreUnavailable: it cannot be read.
        """
        try:
            if not self._path.exists():
                raise InputError(f"there is no golden database {self}: `archsearch db add {self} RUN` makes one")
            if not self._path.is_file():
                run = (self._path / "run.db").exists()
                why = "a run's folder; the database comes first: `archsearch db add DB RUN`" if run else "not a file"
                raise InputError(f"{self} is {why}")
            with self._path.open("rb") as file:
                about, header = os.fstat(file.fileno()), file.read(100)
        except OSError as error:
            raise StoreUnavailable(f"{self} cannot be read: {error}") from error
        if len(header) < 100 or not header.startswith(_MAGIC):
            raise InputError(
                f"{self} is no SQLite file; a snapshot (.csv, .parquet, .json) gets in with `archsearch db import`"
            )
        if struct.unpack(">I", header[68:72])[0] != APPLICATION:
            raise InputError(f"{self} is a SQLite file, but no golden database: `archsearch db add` makes those")
        if about.st_size > LARGEST:
            raise InputError(f"{self} has {about.st_size} bytes; more than {LARGEST} are not opened: use PostgreSQL")
        if header[18:20] != b"\x02\x02" or self._beside("-journal").exists():
            raise InputError(
                f"{self} has been used with another journal than archsearch's; if you trust the file, "
                f"`sqlite3 {self} 'PRAGMA journal_mode=WAL'` puts that right"
            )
        page = struct.unpack(">H", header[16:18])[0]
        pages = struct.unpack(">I", header[28:32])[0]
        if about.st_size < pages * (65536 if page == 1 else page):
            raise StoreDamaged(f"{self} is damaged: its end is missing ({about.st_size} bytes of {pages * page})")
        return about

    def _create(self) -> None:
        """An empty database under its name at once, or another process's that was quicker."""
        new = self._path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            make_folders(self._path.parent)
            with translated(new, "creating"), connect(new, "rwc").begin() as connection:
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION}")
                create_tables(connection)
            with new.open("rb") as file:
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(new, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise StoreUnavailable(f"{self} cannot be made: {error}") from error
        finally:
            for end in ("", "-wal", "-shm"):
                with suppress(OSError):
                    new.with_name(new.name + end).unlink()


def _refuse_foreign(connection: Connection) -> None:
    """
    Raises:
        StoreDamaged: the file has what archsearch does not make.
        InputError: it may well be what a newer archsearch makes.
    """
    try:
        refuse_foreign(connection, TABLES)
    except StoreDamaged:
        meta = "SELECT 1 FROM sqlite_schema WHERE name = 'meta' AND type = 'table' AND sql LIKE 'CREATE TABLE %'"
        if connection.exec_driver_sql(meta).scalar():
            check_version(connection, write=True)
        raise


def _harden(connection: Connection) -> None:
    """On top of what ``connect`` switches off."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("PRAGMA cell_size_check=ON")
    driver.execute("PRAGMA mmap_size=0")
    driver.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    driver.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    if sys.version_info >= (3, 12):
        driver.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        driver.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        driver.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW, False)
