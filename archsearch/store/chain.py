"""Events as rows: each carries a CRC chained to the row before, so that a changed, missing or moved row is seen."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from archsearch.jobs import JSON, Event, EventKind, StoreDamaged
from archsearch.store.head import Head
from archsearch.store.schema import EVENTS, canonical

#: Number and CRC of one event: where the chain stands.
Link = tuple[int, int]


def genesis(meta: Mapping[str, JSON]) -> Link:
    """Where a run's chain begins: its id, so that another run's events do not fit."""
    return 0, zlib.crc32(canonical(meta["id"]).encode())


def linked(previous: int, number: int, time: float, kind: str, job: int | None, data: str) -> int:
    return zlib.crc32(f"{number} {time!r} {kind} {job} {data}".encode(), previous)


def ends(event: Event) -> bool:
    """Whether the event is the last word on its job."""
    final = event.kind is EventKind.FAILED and bool(event.data.get("final"))
    return final or event.kind in (EventKind.TOLD, EventKind.CANCELLED, EventKind.PRUNED)


def rows_of(events: Sequence[Event], tip: Link) -> list[dict[str, Any]]:
    """Rows that continue the chain after ``tip``.

    Raises:
        ValueError: the numbers do not follow on from it, or an ending event names no job.
        TypeError: data that JSON does not hold.
    """
    number, crc = tip
    rows = []
    for event in events:
        number += 1
        if event.number != number:
            raise ValueError(f"event {event.number} ({event.kind}) was given where the log goes on with event {number}")
        if ends(event) and event.job is None:
            raise ValueError(f"event {event.number} ({event.kind}) must name the job that it ends")
        time, kind, data = float(event.time), str(event.kind), canonical(dict(event.data))
        job = None if event.job is None else int(event.job)
        crc = linked(crc, number, time, kind, job, data)
        ended = job if ends(event) else None
        rows.append({"number": number, "time": time, "kind": kind, "job": job, "ended": ended, "data": data, "crc": crc})
    return rows


def event_of(row: Row[Any]) -> Event:
    return Event(row.number, row.time, EventKind(row.kind), row.job, json.loads(row.data))


def last_link(connection: Connection, start: Link) -> Link:
    """The newest row's link, unchecked; ``start`` if there is none."""
    row = connection.execute(select(EVENTS.c.number, EVENTS.c.crc).order_by(EVENTS.c.number.desc()).limit(1)).one_or_none()
    return start if row is None else (row.number, row.crc)


def checked(connection: Connection, after: Link, head: Head) -> Iterator[Row[Any]]:
    """Rows that follow ``after``, in order, each checked against the one before and all against ``head``.

    Raises:
        StoreDamaged: says which events, and which is the last good one.
    """
    number, crc = after
    query = select(EVENTS).where(EVENTS.c.number > number).order_by(EVENTS.c.number)
    for row in connection.execution_options(yield_per=1000).execute(query):
        if row.number != number + 1:
            raise StoreDamaged(f"{_span(number + 1, row.number - 1)} missing; last good event {number}")
        crc = linked(crc, row.number, row.time, row.kind, row.job, row.data)
        if crc != row.crc or (row.number == head.number and crc != head.crc):
            raise StoreDamaged(f"event {row.number} is not what was written; last good event {number}")
        number = row.number
        yield row
    if number < head.number:
        raise StoreDamaged(f"{_span(number + 1, head.number)} missing; last good event {number}")


def _span(first: int, last: int) -> str:
    return f"event {first} is" if first >= last else f"events {first}-{last} are"
