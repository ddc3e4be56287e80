"""Events as rows: each carries a CRC chained to the row before, so that a changed, missing or moved row is seen."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from archsearch.jobs import JSON, Event, EventKind, StoreDamaged
from archsearch.store.head import Head
from archsearch.store.schema import EVENTS
from archsearch.store.text import Recorded, canonical, read

#: Number and CRC of one event: where the chain stands.
Link = tuple[int, int]

#: A row that was checked: number, time, kind, job, data.
Checked = tuple[int, float, str, int | None, str]


def genesis(meta: Mapping[str, JSON]) -> Link:
    """Where a run's chain begins: its id, so that another run's events do not fit."""
    return 0, zlib.crc32(canonical(meta["id"]).encode())


def linked(previous: int, number: int, time: float, kind: str, job: int | None, data: str) -> int:
    return zlib.crc32(f"{number} {time!r} {kind} {job} {data}".encode(), previous)


def ends(event: Event) -> bool:
    """Whether the event is the last word on its job."""
    final = event.kind is EventKind.FAILED and bool(event.data.get("final"))
    return final or event.kind in (EventKind.TOLD, EventKind.CANCELLED, EventKind.PRUNED, EventKind.IMPORTED)


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
        time, kind = float(event.time), str(event.kind)
        data = event.data.text if isinstance(event.data, Recorded) else canonical(dict(event.data))
        job = None if event.job is None else int(event.job)
        crc = linked(crc, number, time, kind, job, data)
        ended = job if ends(event) else None
        rows.append({"number": number, "time": time, "kind": kind, "job": job, "ended": ended, "data": data, "crc": crc})
    return rows


def event_of(row: Checked) -> Event:
    """
    Raises:
        StoreDamaged: its checksum is right, but archsearch writes no such event: the log is a stranger's, or a newer one's.
    """
    number, time, kind, job, data = row
    try:
        event = Event(number, time, EventKind(kind), job, read(kind, data))
        named = event.data["id"] if kind == EventKind.ASKED else event.data["job"]["id"] if kind == EventKind.IMPORTED else job
        right = type(named) is type(job) and named == job and (job is None or type(job) is int)  # it becomes names of files
    except (ValueError, TypeError, KeyError, RecursionError):
        right = False
    if not right:
        raise StoreDamaged(f"event {number} ({kind}, of job {job}) is none that archsearch writes")
    return event


def as_stored(number: int, time: float, kind: EventKind, job: int | None, data: Mapping[str, JSON]) -> Event:
    """A new event as it will be read back, so that no fold can tell it from a stored one."""
    return Event(number, time, kind, job, read(kind, canonical(data)))


def last_link(connection: Connection, start: Link) -> Link:
    """The newest row's link, unchecked; ``start`` if there is none."""
    row = connection.execute(select(EVENTS.c.number, EVENTS.c.crc).order_by(EVENTS.c.number.desc()).limit(1)).one_or_none()
    return start if row is None else (row.number, row.crc)


def checked(connection: Connection, after: Link, head: Head) -> Iterator[Checked]:
    """Rows that follow ``after``, in order, each checked against the one before and all against ``head``.

    Raises:
        StoreDamaged: says which events, and which is the last good one.
    """
    number, crc = after
    columns = select(EVENTS.c.number, EVENTS.c.time, EVENTS.c.kind, EVENTS.c.job, EVENTS.c.data, EVENTS.c.crc)
    query = columns.where(EVENTS.c.number > number).order_by(EVENTS.c.number)
    for found, time, kind, job, data, stored in connection.execution_options(yield_per=1000).execute(query):
        if found != number + 1:
            raise StoreDamaged(f"{_span(number + 1, found - 1)} missing; last good event {number}")
        crc = linked(crc, found, time, kind, job, data)
        if crc != stored or (found == head.number and crc != head.crc):
            raise StoreDamaged(f"event {found} is not what was written; last good event {number}")
        number = found
        yield found, time, kind, job, data
    if number < head.number:
        raise StoreDamaged(f"{_span(number + 1, head.number)} missing; last good event {number}")


def checked_apart(connection: Connection, kind: EventKind, start: Link) -> list[Checked]:
    """The rows of one kind, each checked against the CRC that the row before it carries.

    Much less work than reading everything, and what it gives is what was written; but rows may be missing.

    Raises:
        StoreDamaged: says which event.
    """
    before = EVENTS.alias("before")
    event = EVENTS.c
    query = select(event.number, event.time, event.kind, event.job, event.data, event.crc, before.c.crc)
    query = query.join_from(EVENTS, before, before.c.number == event.number - 1, isouter=True)
    rows = []
    for number, time, found, job, data, crc, previous in connection.execute(
        query.where(event.kind == str(kind)).order_by(event.number)
    ):
        if number == start[0] + 1:
            previous = start[1]
        if not isinstance(previous, int) or linked(previous, number, time, found, job, data) != crc:
            raise StoreDamaged(f"event {number}, or the one before it, is not what was written")
        rows.append((number, time, found, job, data))
    return rows


def _span(first: int, last: int) -> str:
    return f"event {first} is" if first >= last else f"events {first}-{last} are"
