"""The golden database: what is read from it and written to it, wherever it lies. What the rows mean: ``archsearch.recipes``."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select

from archsearch.jobs import InputError, StoreDamaged
from archsearch.store.golden_schema import KEY, OBSERVATIONS, READ, RECIPES, digest_of, typed

T = TypeVar("T")

#: So many ids are asked for in one statement: fewer than any database's limit of parameters.
_TOGETHER = 500


class Place(ABC):
    """Where a golden database lies. Making one opens nothing; ``str`` names it, never with a password."""

    @abstractmethod
    def check(self) -> bool:
        """Whether there is a golden database, which could be written, or nothing yet. Raises as ``ask`` for what is neither."""

    @abstractmethod
    def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer to a question, of one state of the database, which has been found to be one. It may be asked twice.

        Raises:
            InputError: there is no golden database.
            StoreDamaged: it is not whole, or holds what archsearch never makes.
            StoreUnavailable: it cannot be reached.
        """

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction with the database to itself: all that is done in it is there afterwards, or nothing is. The database is
        made if there is none. Raises as ``ask``."""


@dataclass(frozen=True, slots=True)
class Added:
    """How many recipes and observations came in, and how many observations were there already."""

    recipes: int
    rows: int
    present: int


class GoldenDatabase:
    """Made by ``open_golden``."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __str__(self) -> str:
        return str(self._place)

    def there(self) -> bool:
        """Whether there is one. Raises as ``Place.ask`` if there is something else: before any work is put into what shall be
        added."""
        return self._named(self._place.check)

    def observations(self) -> list[tuple[Any, ...]]:
        """All that was ever added, as ``golden_schema.READ`` says, ordered by key and then by time. Raises as ``Place.ask``."""
        rows = self._ask(lambda connection: [typed(row) for row in connection.execute(select(OBSERVATIONS))])
        measured_at = READ.index("measured_at")
        return sorted(rows, key=lambda row: (*row[: len(KEY)], row[measured_at] or 0.0, row[-1]))

    def recipes(self, ids: Sequence[str] | None = None) -> dict[str, str]:
        """The texts of recipes by id: of all, or of those of ``ids`` that are there."""

        def question(connection: Connection) -> dict[str, str]:
            if ids is None:
                return {row.id: row.text for row in connection.execute(select(RECIPES))}
            found: dict[str, str] = {}
            for part in _parts(ids):
                found |= {row.id: row.text for row in connection.execute(select(RECIPES).where(RECIPES.c.id.in_(part)))}
            return found

        return self._ask(question)

    def recipe(self, beginning: str) -> tuple[str, str]:
        """Id and text of the recipe whose id begins so.

        Raises:
            InputError: none does, or several do.
        """
        if not beginning.isalnum():
            raise InputError(
                f"{beginning!r} is no id of a recipe: expected hexadecimal digits, as `archsearch db list` shows them"
            )
        begins = RECIPES.c.id.startswith(beginning)
        found = self._ask(lambda connection: list(connection.execute(select(RECIPES).where(begins).limit(2))))
        if len(found) != 1:
            why = "several recipes whose ids begin" if found else "no recipe whose id begins"
            raise InputError(f"{self} has {why} with {beginning!r}; `archsearch db list {self}` shows them")
        return found[0].id, found[0].text

    def add(self, recipes: Mapping[str, str], rows: Sequence[Mapping[str, Any]], by: str) -> Added:
        """Add what is not there yet, in one transaction.

        Args:
            recipes: texts by id; each recipe that ``rows`` name is among them or in the database.
            rows: by column, as ``golden_schema.COLUMNS`` has them; a column that is left out is unknown.
            by: who adds them.

        Raises: as ``Place.ask``, and
            InputError: a row names a recipe that nobody has.
        """
        return self._named(lambda: self._add(recipes, rows, by))

    def _add(self, recipes: Mapping[str, str], rows: Sequence[Mapping[str, Any]], by: str) -> Added:
        now = time.time()
        new = {digest_of(row): row for row in rows}
        with self._place.writing() as connection:
            missing = _absent(connection, RECIPES.c.id, list(recipes))
            if missing:
                connection.execute(insert(RECIPES), [{"id": id_, "text": recipes[id_]} for id_ in missing])
            unknown = _absent(connection, RECIPES.c.id, sorted({str(row["recipe_id"]) for row in rows}))
            if unknown:
                raise InputError(f"{self} has no recipe {unknown[0]}, and its text was not given")
            fresh = _absent(connection, OBSERVATIONS.c.digest, list(new))
            empty = dict.fromkeys(column.name for column in OBSERVATIONS.c) | {"added_by": by, "added_at": now}
            for part in _parts(fresh):
                connection.execute(insert(OBSERVATIONS), [{**empty, **new[digest], "digest": digest} for digest in part])
        return Added(len(missing), len(fresh), len(rows) - len(fresh))

    def _ask(self, question: Callable[[Connection], T]) -> T:
        return self._named(lambda: self._place.ask(question))

    def _named(self, asked: Callable[[], T]) -> T:
        """Errors name the database."""
        try:
            return asked()
        except (StoreDamaged, InputError) as error:
            if str(self) in str(error):
                raise
            raise type(error)(f"{self}: {error}") from error


def open_golden(place: str | Path) -> GoldenDatabase:
    """The database at a path, or at a PostgreSQL URL; nothing is opened or made yet.

    Raises:
        InputError: it is neither; a URL is not shown, for it may hold a password.
    """
    text = str(place)
    if "://" in text or text.startswith(("postgres:", "postgresql:")):
        from archsearch.store.golden_postgres import PostgresPlace

        return GoldenDatabase(PostgresPlace(text))
    from archsearch.store.golden_sqlite import SqlitePlace

    return GoldenDatabase(SqlitePlace(Path(text)))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER))


def _absent(connection: Connection, column: Any, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that no row has."""
    found: set[str] = set()
    for part in _parts(ids):
        found.update(connection.execute(select(column).where(column.in_(part))).scalars())
    return [id_ for id_ in ids if id_ not in found]
