"""Small runs for the store's tests."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import text

from archsearch.jobs import Event, EventKind, Job, Stage
from archsearch.store import RunFolder, create_run, open_store
from archsearch.store.database import database_of

META = {"id": "run-1", "created": 1.5, "seed": 7, "dataset": {"hash": "abc"}}


#: Where new runs keep their tables: None for a file in their folder, or a PostgreSQL URL.
STORE: list[str | None] = [None]


def new_run(path: Path, config_text: str = "run: {seed: 7}\n") -> RunFolder:
    create_run(path, config_text=config_text, meta=META, store=STORE[0])
    return RunFolder.at(path)


def ask(folder: RunFolder, statement: str, **values: Any) -> list[dict[str, Any]]:
    """Carry out a statement on a run's tables, past the store."""
    connection = database_of(folder).open()
    try:
        with connection.begin():
            found = connection.execute(text(statement), values)
            return [dict(row._mapping) for row in found] if found.returns_rows else []
    finally:
        connection.close()


def asked(number: int, job: int | None = None, **changes: Any) -> Event:
    job = number if job is None else job
    values = {"stage": Stage.SEED_TRAINED, "work": "train", "spec": {"arch": {"n": job}}, "seed": job * 11, **changes}
    return Event(number, 1000.0 + number / 3, EventKind.ASKED, job, Job(job, **values).to_json())


def told(number: int, job: int, **metrics: Any) -> Event:
    return Event(
        number, 1000.0 + number / 3, EventKind.TOLD, job, {"attempt": 1, "metrics": metrics, "artifacts": {}, "seconds": 2.5}
    )


def history(count: int) -> list[Event]:
    """``count`` events: jobs asked and told in turn, with a few hundred bytes each."""
    return [
        asked(n, (n + 1) // 2, spec={"arch": {"pad": "x" * 300, "n": n}})
        if n % 2
        else told(n, n // 2, val_error=0.1 / n, text="é\n")
        for n in range(1, count + 1)
    ]


def killed_copy(source: RunFolder, target: Path) -> RunFolder:
    """The files as they would lie after a kill at this moment; SQLite rebuilds the shared-memory file anyway."""
    shutil.copytree(source.path, target, ignore=shutil.ignore_patterns("*-shm"))
    return RunFolder.at(target)


def checkpoint(folder: RunFolder) -> None:
    """Move the log into the database, beside the open writer: the log then starts again over its old bytes."""
    connection = sqlite3.connect(folder.db)
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    connection.close()


def closed_run(path: Path, events: list[Event]) -> RunFolder:
    folder = new_run(path)
    with open_store(folder, write=True) as store:
        store.commit(events)
    return folder
