"""The tables, the run's description in ``meta``, and how an older file is brought up to date."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, String, Table, Text, insert, select, update

from archsearch.jobs import JSON, InputError, StoreDamaged
from archsearch.store.text import canonical

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite makes only an INTEGER key the row's own number

TABLES = MetaData()
META = Table("meta", TABLES, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))
EVENTS = Table(
    "events",
    TABLES,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("time", Float(53), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("job", _NUMBER),
    Column("ended", _NUMBER, unique=True),  # the job that this event ends: a second end violates it
    Column("data", Text, nullable=False),
    Column("crc", BigInteger, nullable=False),
)
LEASE = Table(
    "lease",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", String(256)),
    Column("host", String(256)),
    Column("pid", BigInteger),
    Column("heartbeat", Float(53), nullable=False),
)

#: Step i brings a file from schema version i + 1 to i + 2. A step that has shipped never changes.
MIGRATIONS: list[Callable[[Connection], None]] = []


def version() -> int:
    """The schema version that this code writes."""
    return len(MIGRATIONS) + 1


def _checksum(values: Mapping[str, str]) -> str:
    return f"{zlib.crc32(canonical({key: text for key, text in values.items() if key != 'checksum'}).encode()):08x}"


def create_tables(connection: Connection, meta: Mapping[str, JSON]) -> None:
    """All tables, ``meta`` and a lease that nobody holds, in the caller's transaction."""
    TABLES.create_all(connection)
    values = {key: canonical(value) for key, value in meta.items()} | {"schema_version": canonical(version())}
    values["checksum"] = _checksum(values)
    connection.execute(insert(META), [{"key": key, "value": value} for key, value in values.items()])
    connection.execute(insert(LEASE), {"id": 1, "epoch": 0, "heartbeat": 0.0})


def read_meta(connection: Connection) -> dict[str, JSON]:
    """The run's description, with ``schema_version``.

    Raises:
        StoreDamaged: its checksum is not right.
    """
    values = {row.key: row.value for row in connection.execute(select(META))}
    texts = all(isinstance(text, str) for pair in values.items() for text in pair)
    if not texts or values.get("checksum") != _checksum(values):
        raise StoreDamaged("the run's description (table meta) is not what was written")
    return {key: json.loads(text) for key, text in values.items() if key != "checksum"}


def check_version(found: int, *, write: bool) -> None:
    """
    Raises:
        InputError: the file needs a newer archsearch, or is older and is only being read.
    """
    if found > version():
        raise InputError(f"the run has schema version {found}, this archsearch knows {version()}: install a newer one")
    if found < version() and not write:
        raise InputError(
            f"the run has schema version {found}, this archsearch reads {version()}: `archsearch resume` moves it up"
        )


def migrate(connection: Connection) -> None:
    """Bring an older file to ``version()``, in the caller's transaction: all steps or none."""
    found = int(read_meta(connection)["schema_version"])
    if found == version():
        return
    for step in MIGRATIONS[found - 1 :]:
        step(connection)
    values = {row.key: row.value for row in connection.execute(select(META))} | {"schema_version": canonical(version())}
    values["checksum"] = _checksum(values)
    for key in ("schema_version", "checksum"):
        connection.execute(update(META).where(META.c.key == key).values(value=values[key]))
