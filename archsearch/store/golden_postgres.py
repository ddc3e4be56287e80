"""A golden database on a PostgreSQL server: the schema ``archsearch_golden`` of the database that a URL names.

Without a password in the URL the PostgreSQL library looks for one where it always does (``~/.pgpass``, ``PGPASSWORD``). Others
than its owner need ``GRANT USAGE ON SCHEMA archsearch_golden`` and rights on its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from overrides import overrides
from sqlalchemy import Connection

from archsearch.jobs import InputError, StoreDamaged
from archsearch.store.golden import Place
from archsearch.store.golden_schema import TABLES, check_version, create_tables, migrate
from archsearch.store.postgres import PostgresSchema, parsed

T = TypeVar("T")

SCHEMA = "archsearch_golden"

#: Locked by whoever writes, until its transaction ends: any number that archsearch uses for nothing else.
_LOCK = 0x41534744

#: How long a writer waits for another one.
_PATIENCE = "60s"


class PostgresPlace(Place):
    """The golden database at a URL."""

    def __init__(self, url: str) -> None:
        self._schema = PostgresSchema(parsed(url), SCHEMA)

    def __str__(self) -> str:
        return str(self._schema)

    @overrides
    def check(self) -> bool:
        with self._schema.snapshot() as connection:
            if made := _made(connection):
                _refuse_foreign(connection)
                check_version(connection, write=True)
            return made

    @overrides
    def ask(self, question: Callable[[Connection], T]) -> T:
        with self._schema.snapshot() as connection:
            if not _made(connection):
                raise InputError(f"there is no golden database in {self}: `archsearch db add URL RUN` makes one")
            _refuse_foreign(connection)
            check_version(connection, write=False)
            return question(connection)

    @overrides
    def writing(self) -> AbstractContextManager[Connection]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._schema.translated("writing"), self._schema.open() as connection, connection.begin():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            if not _made(connection):
                connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                create_tables(connection)
            _refuse_foreign(connection)
            check_version(connection, write=True)
            migrate(connection)
            yield connection


def _made(connection: Connection) -> bool:
    return connection.exec_driver_sql(f"SELECT to_regclass('{SCHEMA}.meta')").scalar() is not None


def _refuse_foreign(connection: Connection) -> None:
    """
    Raises:
        StoreDamaged: the schema has views, triggers or tables that archsearch does not make: they could do what it never would.
        InputError: they may well be what a newer archsearch makes.
    """
    relations = (
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind <> 'i' "
        "AND NOT (relkind = 'r' AND relname = ANY(%s))"
    )
    triggers = (
        "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE relnamespace = to_regnamespace(%s) AND NOT tgisinternal"
    )
    rules = "SELECT rulename FROM pg_rules WHERE schemaname = %s"
    for statement, values in ((relations, (SCHEMA, list(TABLES.tables))), (triggers, (SCHEMA,)), (rules, (SCHEMA,))):
        if (found := connection.exec_driver_sql(statement, values).scalar()) is not None:
            meta = f"SELECT relkind::text FROM pg_class WHERE oid = to_regclass('{SCHEMA}.meta')"
            if connection.exec_driver_sql(meta).scalar() == "r":
                check_version(connection, write=True)
            raise StoreDamaged(f"its schema has {found}, which archsearch did not make")
