"""A run is made whole or says that it is incomplete; older files are brought up to date."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, text
from store_helpers import META, asked, closed_run, history, new_run

from archsearch.jobs import Event, EventKind, InputError, Job, Stage, StoreDamaged
from archsearch.store import (
    DuplicateResult,
    IncompleteRun,
    RunFolder,
    RunState,
    create_run,
    list_runs,
    open_store,
    read_run,
    schema,
)
from archsearch.store.section import RunSection


def test_a_new_run_holds_its_description(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "deep" / "run")
    create_run(folder, config_text="a: ä\n", meta={"seed": 3, "versions": {"torch": "2"}, "splits": (1, 2)})
    stored = read_run(folder)
    assert stored.events == [] and folder.config.read_text() == "a: ä\n" and stored.meta["config"] == "a: ä\n"
    assert stored.meta["splits"] == [1, 2] and stored.meta["name"] == "run" and len(stored.meta["id"]) == 32
    assert abs(stored.meta["created"] - os.stat(folder.db).st_mtime) < 60
    with pytest.raises(InputError, match="archsearch resume"):
        create_run(folder, config_text="", meta={})
    assert read_run(folder).meta == stored.meta


@pytest.mark.parametrize("call", range(1, 15))
def test_creation_cut_short_at_any_step_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Each durable step in turn is the one at which the process dies."""

    class Killed(BaseException):
        pass

    left = [call]

    def counted(function):  # type: ignore[no-untyped-def]
        def wrapped(*arguments, **options):  # type: ignore[no-untyped-def]
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments, **options)

        return wrapped

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            new_run(path)
            whole = True
        except Killed:
            whole = False
    assert whole == (left[0] > 0)
    if RunFolder.at(path).db.exists():  # the last name was given: only its durability was still to come
        assert read_run(path).events == []
        return
    expected = IncompleteRun if RunFolder.at(path).head.exists() else InputError
    for write in (False, True):
        with pytest.raises(expected):
            open_store(path, write=write)
    (path / "run.db-wal").write_bytes(b"left over")
    new_run(path)
    with open_store(path, write=True) as store:
        store.commit([asked(1)])
    assert read_run(path).events == [asked(1)]


def test_what_is_left_of_a_run_is_not_taken_for_an_incomplete_one(tmp_path: Path) -> None:
    folder = closed_run(tmp_path / "run", history(4))
    folder.db.unlink()
    for write in (False, True):
        with pytest.raises(StoreDamaged, match="HEAD names event 4"):
            open_store(folder, write=write)
    with pytest.raises(InputError, match="holds a run"):
        new_run(folder.path)


def test_no_run_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        for write in (False, True):
            with pytest.raises(InputError, match="no run in"):
                open_store(path, write=write)
    assert list(tmp_path.iterdir()) == []


def test_list_runs_finds_whole_and_broken_ones(tmp_path: Path) -> None:
    new_run(tmp_path / "b")
    new_run(tmp_path / "a").db.unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    assert [run.name for run in list_runs(tmp_path)] == ["a", "b"]
    assert list_runs(tmp_path / "absent") == []


def test_an_older_file_is_migrated_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, events = closed_run(tmp_path / "run", history(6)), history(8)
    calls: list[int] = []

    def first(connection: Connection) -> None:
        calls.append(1)
        connection.execute(text("ALTER TABLE lease ADD COLUMN note TEXT"))

    def second(connection: Connection) -> None:
        calls.append(2)
        connection.execute(text("UPDATE lease SET note = 'moved'"))

    def failing(_connection: Connection) -> None:
        raise RuntimeError("a step that fails")

    monkeypatch.setattr(schema, "MIGRATIONS", [first, failing])
    with pytest.raises(InputError, match="schema version 1"):
        open_store(folder, write=False)
    with pytest.raises(RuntimeError):
        open_store(folder, write=True)
    monkeypatch.setattr(schema, "MIGRATIONS", [])
    assert read_run(folder).events == events[:6]  # nothing of the failed migration is left
    monkeypatch.setattr(schema, "MIGRATIONS", [first, second])
    calls.clear()
    for number in (6, 7):
        with open_store(folder, write=True) as store:
            store.commit([events[number]])
            assert store.meta["schema_version"] == 3
            assert store._connected().exec_driver_sql("SELECT note FROM lease").scalar() == "moved"
            store._connected().rollback()
    assert calls == [1, 2]
    assert read_run(folder).events == events and read_run(folder).meta["seed"] == META["seed"]


def test_only_the_missing_steps_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    steps = [lambda connection, number=number: calls.append(number) for number in (1, 2, 3)]
    monkeypatch.setattr(schema, "MIGRATIONS", steps[:1])
    folder = new_run(tmp_path / "run")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    open_store(folder, write=True).close()
    assert calls == [2, 3]


def test_a_newer_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", [lambda connection: None])
    folder = new_run(tmp_path / "run")
    monkeypatch.undo()
    for write in (False, True):
        with pytest.raises(InputError, match="install a newer one"):
            open_store(folder, write=write)


def test_run_section() -> None:
    section = RunSection(name="my_run-1.2", seed=5)
    assert (section.dir, section.seed, section.artifacts) == ("runs", 5, None)
    for wrong in ({"name": "a/b"}, {"name": ".."}, {"name": ""}, {"seed": -1}, {"dir": ""}, {"nmae": "x"}):
        with pytest.raises(ValidationError):
            RunSection(**wrong)


def imports(count: int) -> list[Event]:
    """Points of an earlier run, as the first events of a new one."""
    made = []
    for number in range(1, count + 1):
        job = Job(number, Stage.SEED_TRAINED, "train", {"arch": {"n": number}, "hash": "h"}, 0)
        origin = {"run": "old", "id": "x", "point": 7 * number}
        data = {"job": job.to_json(), "metrics": {"val_error": 0.5}, "artifacts": {}, "origin": origin}
        made.append(Event(number, 5.0, EventKind.IMPORTED, number, data))
    return made


def test_a_run_can_begin_with_events(tmp_path: Path) -> None:
    """They are in the database from its first moment, and watched over like all others."""
    path = tmp_path / "run"
    create_run(path, config_text="", meta={}, events=imports(3))
    stored = read_run(path)
    assert [(event.number, event.kind, event.job) for event in stored.events] == [(n, "imported", n) for n in (1, 2, 3)]
    assert RunState(stored.events).point(2).origin == {"run": "old", "id": "x", "point": 14}
    shutil.copytree(path, tmp_path / "damaged")
    content = bytearray((tmp_path / "damaged" / "run.db").read_bytes())
    content[content.index(b'"point":14') + 8] ^= 1
    (tmp_path / "damaged" / "run.db").write_bytes(content)
    with pytest.raises(StoreDamaged):
        read_run(tmp_path / "damaged")
    with open_store(path, write=True) as store:
        store.commit([asked(4, 4)])
        with pytest.raises(DuplicateResult):
            store.commit([Event(5, 6.0, EventKind.TOLD, 2, {"metrics": {}, "artifacts": {}, "seconds": 1.0})])
    assert [event.number for event in read_run(path).events] == [1, 2, 3, 4]


def test_first_events_that_are_not_numbered_from_one_make_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="event 2"):
        create_run(tmp_path / "run", config_text="", meta={}, events=imports(3)[1:])
    assert not (tmp_path / "run" / "run.db").exists()
    create_run(tmp_path / "run", config_text="", meta={}, events=imports(1))
