"""A run's tables in a PostgreSQL database: each run has a schema of its own there, which ``store.json`` in its folder names.

That file holds no user and no password, and a folder alone makes archsearch connect nowhere, since it may be a stranger's: the
database must be one that this user names, by ``run.store`` of the search that this process started or by the environment
variable ``ARCHSEARCH_STORE`` (URLs, separated by spaces). Without a password in the URL the PostgreSQL library looks for one
where it always does (``~/.pgpass``, ``PGPASSWORD``).
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overrides import overrides
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from archsearch.jobs import InputError, StoreDamaged, StoreUnavailable
from archsearch.store.database import Database
from archsearch.store.head import Head
from archsearch.store.paths import RunFolder

#: Names this user's databases, with their passwords.
VARIABLE = "ARCHSEARCH_STORE"

_SCHEMA = re.compile(r"archsearch_[0-9a-f]{32}")

#: Classes of SQLSTATE that say nothing about the stored bytes: what was asked can be asked again.
_PASSING = frozenset({"08", "25", "28", "3D", "40", "42501", "53", "55", "57", "58"})

#: A server that does not answer is noticed within this time (seconds).
_CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds, as those below
    "application_name": "archsearch",
}

#: A lock is waited for so long; the session of a driver that sleeps within a transaction is ended, and its locks fall.
SETTINGS = "-c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000"


@dataclass(frozen=True, slots=True)
class Server:
    """One database of one server. ``host`` is empty for the local socket."""

    host: str
    port: int
    database: str

    @classmethod
    def of(cls, url: URL) -> Server:
        host = url.host or url.query.get("host") or ""
        return cls(str(host), url.port or 5432, str(url.database))

    def __str__(self) -> str:
        return f"postgresql://{self.host}:{self.port}/{self.database}"


_given: dict[Server, URL] = {}  # by the configurations of this process


def parsed(text: str) -> URL:
    """
    Raises:
        InputError: it is not the URL of a PostgreSQL database. The text is not shown: it may hold a password.
    """
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgresql", "postgres", "postgresql+psycopg") or not url.database:
        raise InputError("expected the URL of a PostgreSQL database: postgresql://user:password@host:5432/database")
    return url.set(drivername="postgresql+psycopg")


def database_of(folder: RunFolder, pointer: Path | None = None) -> PostgresSchema:
    """The database that the run's folder names, in ``store.json`` or the file ``pointer``.

    Raises:
        InputError: this user has not named it.
        StoreDamaged: ``store.json`` is not what was written.
    """
    server, schema = _read(pointer or folder.pointer)
    named = {Server.of(url): url for url in map(parsed, os.environ.get(VARIABLE, "").split())}
    url = _given.get(server) or named.get(server)
    if url is None:
        raise InputError(
            f"the log of the run in {folder.path} lies in {server}, and archsearch connects only where you tell it: set "
            f"{VARIABLE}=postgresql://USER:PASSWORD@{server.host}:{server.port}/{server.database} and try again"
        )
    return PostgresSchema(url, schema)


def new_schema(text: str) -> tuple[PostgresSchema, bytes]:
    """Where a new run's tables are to be, and what its ``store.json`` says; nothing is made yet.

    Raises:
        InputError: as for ``parsed``.
    """
    url = parsed(text)
    schema = f"archsearch_{uuid.uuid4().hex}"
    _given[Server.of(url)] = url
    return PostgresSchema(url, schema), json.dumps({**asdict(Server.of(url)), "schema": schema}, indent=2).encode() + b"\n"


def _read(pointer: Path) -> tuple[Server, str]:
    try:
        with pointer.open("rb") as file:
            found = json.loads(file.read(4096))
        schema = found.pop("schema")
        server = Server(**found)
        right = [type(value) for value in (server.host, server.port, server.database)] == [str, int, str]
        if right and _SCHEMA.fullmatch(schema):
            return server, schema
    except OSError as error:
        raise StoreUnavailable(f"{pointer} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise StoreDamaged(f"{pointer} is not what was written: it names no database and schema")


class PostgresSchema(Database):
    """One run's schema."""

    def __init__(self, url: URL, schema: str) -> None:
        self.url = url
        self.schema = schema
        self._made: Engine | None = None

    def __str__(self) -> str:
        return f"{Server.of(self.url)} ({self.schema})"

    def _engine(self) -> Engine:
        if self._made is None:
            try:
                arguments: dict[str, Any] = {**_CONNECTING, "options": f"-c search_path={self.schema} {SETTINGS}"}
                self._made = create_engine(self.url, poolclass=NullPool, connect_args=arguments, hide_parameters=True)
            except ModuleNotFoundError as error:
                raise InputError(f"{self} cannot be reached: {error}; pip install 'archsearch[postgres]'") from error
        return self._made

    @overrides
    def reading(self, head: Head, *, whole: bool) -> AbstractContextManager[Connection]:
        return self.snapshot()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that reads one state of the schema and writes nothing."""
        engine = self._engine().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with self.translated("reading"), engine.connect() as connection, connection.begin():
            yield connection

    @overrides
    def open(self) -> Connection:
        return self._engine().connect()

    @overrides
    def translated(self, doing: str) -> AbstractContextManager[None]:
        return self._translated(doing)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            reason = " ".join(str(error.orig).split())
            if state is None or not _PASSING.isdisjoint({state, state[:2]}):
                raise StoreUnavailable(f"{self} is not available ({doing}): {reason}") from error
            raise StoreDamaged(f"{self} is damaged ({doing}): {reason}") from error

    @overrides
    def there(self) -> bool:
        return True

    @overrides
    def ended_twice(self, error: IntegrityError) -> bool:
        return getattr(getattr(error.orig, "diag", None), "constraint_name", None) == "events_ended_key"

    @overrides
    def size(self, connection: Connection) -> int:
        total = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class WHERE relkind = 'r' AND relnamespace"
        return int(connection.exec_driver_sql(f"{total} = '{self.schema}'::regnamespace").scalar_one())

    def check(self) -> None:
        """
        Raises:
            StoreUnavailable: the server cannot be reached.
        """
        with self.translated("connecting"), self._engine().connect():
            pass

    @contextmanager
    def making(self) -> Iterator[Connection]:
        """A transaction in which the schema is new and empty: all that is done in it is there afterwards, or nothing is."""
        with self.translated("creating"), self._engine().begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {self.schema}")
            yield connection

    @overrides
    def drop(self) -> None:
        with self.translated("deleting"), self._engine().begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
