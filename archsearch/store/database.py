"""Where the tables of one run lie: a SQLite file in its folder, or a schema of a PostgreSQL database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from archsearch.store.head import Head
    from archsearch.store.paths import RunFolder


class Database(ABC):
    """The tables of one run. Making one opens nothing; ``str`` names the place, never with a password."""

    @abstractmethod
    def reading(self, head: Head, *, whole: bool) -> AbstractContextManager[Connection]:
        """A connection that reads one state and writes nothing. ``whole``: check all that ``head`` vouches for first."""

    @abstractmethod
    def open(self) -> Connection:
        """The writer's connection: each transaction on it is durable once committed."""

    @abstractmethod
    def translated(self, doing: str) -> AbstractContextManager[None]:
        """Turns the driver's errors into ours; a violated constraint passes as it is.

        Raises:
            StoreUnavailable: locked, full, gone: the same can be tried again.
            StoreDamaged: everything else, since our statements are right: what is there is not what was written.
        """

    @abstractmethod
    def there(self) -> bool:
        """Whether what ``open`` opened can still be found by others."""

    @abstractmethod
    def ended_twice(self, error: IntegrityError) -> bool:
        """Whether it says that a job would end a second time."""

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Bytes on disk."""

    def fault(self, connection: Connection) -> str | None:
        """What the database's own check finds wrong, or None."""
        return None

    def settled(self, connection: Connection) -> bool:
        """At the end of writing: whether ``digest`` can vouch for all that was written."""
        return False

    def digest(self) -> str:
        """SHA-256 (hex) of what is settled; empty where nothing vouches for every byte."""
        return ""

    def drop(self) -> None:  # noqa: B027 - a file goes with its folder
        """Delete the run's tables, if they are there and lie outside its folder."""


def database_of(folder: RunFolder) -> Database:
    """The database of the run in ``folder``, as its files say.

    Raises:
        InputError: it lies in a database that this user has not named (see ``archsearch.store.postgres``).
        StoreDamaged: the file that names it is not what was written.
    """
    if folder.pointer.exists():
        from archsearch.store import postgres

        return postgres.database_of(folder)
    from archsearch.store import sqlite

    return sqlite.SqliteFile(folder)


def database_url(folder: RunFolder) -> str | None:
    """The URL, with its password, of the PostgreSQL database that holds a run's tables; None for a SQLite file. Raises as
    ``database_of``."""
    if not folder.pointer.exists():
        return None
    from archsearch.store import postgres

    return postgres.database_of(folder).url.render_as_string(hide_password=False)
