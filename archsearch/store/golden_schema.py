"""The golden database's tables: recipes, and what was observed of them on devices; and how an older one is brought up to date.

Observations are only ever added. Which of several counts for a recipe on a device is decided when they are read (see
``archsearch.recipes.database``), so that two who add at once need not know of one another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Float, ForeignKey, Index, MetaData, String, Table, Text, insert, select
from sqlalchemy import update as change
from sqlalchemy.exc import SQLAlchemyError

from archsearch.jobs import InputError, StoreDamaged
from archsearch.store.text import canonical

#: What says of a database that it is one of these, in its table ``meta``.
FORMAT = "archsearch golden database"

#: What the rows that are read are told apart by.
KEY = ("recipe_id", "device", "quantisation")

#: Columns of what was measured, each with ``_low``, ``_high`` (its 95 % interval) and ``_noisy`` (0 or 1) beside it.
MEASURED = (
    "task_metric",
    "test_metric",
    "od_inf_rate_ms",
    "od_total_time",
    "od_total_mem_MB",
    "od_gpu_mem_MB",
    "od_cpu_mem_MB",
    "od_unified_mem_MB",
    "od_inf_energy_mJ",
)

#: Columns of what was counted: the same each time.
COUNTED = ("if_inf_macs", "if_inf_size", "od_size_MB")

FLAGS = tuple(f"{name}_noisy" for name in MEASURED)

#: All that was observed, column by column, with the type of its values; each but the key may be unknown.
COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(KEY, str),
    **dict.fromkeys(("task", "dataset", "dataset_hash", "task_metric_name"), str),
    **{name + end: int if end == "_noisy" else float for name in MEASURED for end in ("", "_low", "_high", "_noisy")},
    **dict.fromkeys(COUNTED, float),
    **dict.fromkeys(("fingerprint", "runtime"), str),
    "protocol": int,
    "measured_at": float,  # seconds since the epoch
    **dict.fromkeys(("run", "run_id"), str),
    "point": int,
    "archsearch_version": str,
}

#: What is read of an observation, column by column.
READ = (*COLUMNS, "added_by", "added_at", "digest")

_SQL: Mapping[type, Any] = {str: Text, float: Float(53), int: BigInteger}

TABLES = MetaData()
META = Table("meta", TABLES, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))
RECIPES = Table("recipes", TABLES, Column("id", String(64), primary_key=True), Column("text", Text, nullable=False))
OBSERVATIONS = Table(
    "observations",
    TABLES,
    Column("digest", String(64), primary_key=True),  # of all that was observed: the same is never there twice
    Column("recipe_id", String(64), ForeignKey("recipes.id"), nullable=False),
    *(Column(name, _SQL[kind], nullable=name not in KEY) for name, kind in COLUMNS.items() if name != "recipe_id"),
    Column("added_by", Text, nullable=False),
    Column("added_at", Float(53), nullable=False),
    Index("observations_key", *KEY),
)

#: Step i brings a database from schema version i + 1 to i + 2. A step that has shipped never changes.
MIGRATIONS: list[Callable[[Connection], None]] = []


def version() -> int:
    """The schema version that this code writes."""
    return len(MIGRATIONS) + 1


def digest_of(row: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what was observed: of all columns that are known, but for who added it and when. A column that a later
    version adds changes no digest while it is unknown."""
    known = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    return hashlib.sha256(canonical(known).encode()).hexdigest()


def create_tables(connection: Connection) -> None:
    """All tables and ``meta``, in the caller's transaction."""
    TABLES.create_all(connection)
    connection.execute(insert(META), [{"key": "format", "value": FORMAT}, {"key": "schema_version", "value": str(version())}])


def check_version(connection: Connection, *, write: bool) -> None:
    """
    Raises:
        InputError: it is no golden database, needs a newer archsearch, or is older and is only being read.
    """
    try:
        found = {row.key: row.value for row in connection.execute(select(META))}
        number = int(found["schema_version"])
    except (SQLAlchemyError, KeyError, TypeError, ValueError) as error:
        raise InputError("it is no golden database: its table meta does not say which version it has") from error
    if found.get("format") != FORMAT or number < 1:
        raise InputError(f"it is no golden database: its table meta says {str(found.get('format'))[:60]!r}")
    if number > version():
        raise InputError(f"it has schema version {number}, this archsearch knows {version()}: install a newer one")
    if number < version() and not write:
        raise InputError(f"it has schema version {number}, this archsearch reads {version()}: `archsearch db add` moves it up")


def migrate(connection: Connection) -> None:
    """Bring an older database to ``version()``, in the caller's transaction: all steps or none."""
    found = int(connection.execute(select(META.c.value).where(META.c.key == "schema_version")).scalar_one())
    for step in MIGRATIONS[found - 1 :]:
        step(connection)
    if found < version():
        connection.execute(change(META).where(META.c.key == "schema_version").values(value=str(version())))


def typed(row: Sequence[Any]) -> tuple[Any, ...]:
    """One row of ``observations`` as it was read, its values in the order of ``READ``.

    Raises:
        StoreDamaged: a value has another type than its column, or the row is not what was written.
    """
    was, *values = row
    known = {}
    for (name, kind), value in zip(COLUMNS.items(), values, strict=False):
        if value is not None:
            if type(value) is not kind:
                raise StoreDamaged(f"observation {str(was)[:12]}: {name} is {value!r:.60}, expected {kind.__name__}")
            known[name] = value
    if digest_of(known) != was or [type(value) for value in values[len(COLUMNS) :]] != [str, float]:
        raise StoreDamaged(f"observation {str(was)[:12]} (of recipe {values[0]}) is not what was written")
    return (*values, was)
