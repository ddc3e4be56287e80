"""Events go in and come out equal, once, in order; what cannot be written now can be written later."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from store_helpers import asked, closed_run, history, killed_copy, new_run, told

from archsearch.jobs import Event, EventKind, StoreDamaged, StoreUnavailable
from archsearch.store import DuplicateResult, RunFolder, open_store, read_run, sqlite
from archsearch.store.head import read_head


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if not path.name.endswith("-shm")}


def test_events_come_back_equal_in_order_and_from_any_place(tmp_path: Path) -> None:
    folder, events = new_run(tmp_path / "run"), history(40)
    with open_store(folder, write=True) as store:
        for group in (events[:1], events[1:9], events[9:]):
            store.commit(group)
        assert list(store.events()) == events
        assert list(store.events(after=33)) == events[33:]
        assert list(store.events(after=40)) == []
    with open_store(folder, write=False) as reader:
        assert list(reader.events()) == events
        assert list(reader.events(after=39)) == events[39:]
        assert reader.meta["seed"] == 7 and reader.config_text == "run: {seed: 7}\n"


def test_floats_and_texts_survive_to_the_last_bit(tmp_path: Path) -> None:
    draw = random.Random(5)
    data = {
        "values": [draw.uniform(-1e300, 1e300) * 10 ** draw.randrange(-300, 5) for _ in range(200)],
        "text": "\ud800 é\x00\n",
    }
    event = Event(1, draw.uniform(1e9, 2e9), EventKind.REPORTED, None, data)
    folder = closed_run(tmp_path / "run", [event, Event(2, 3, EventKind.REPORTED, None, {"infinite": float("inf")})])
    assert read_run(folder).events == [event, Event(2, 3.0, EventKind.REPORTED, None, {"infinite": float("inf")})]


def test_numbers_must_continue_the_log_and_an_end_must_name_its_job(tmp_path: Path) -> None:
    with open_store(new_run(tmp_path / "run"), write=True) as store:
        store.commit([asked(1)])
        for wrong in ([asked(1)], [asked(3)], [asked(2), asked(4)]):
            with pytest.raises(ValueError, match="where the log goes on with event"):
                store.commit(wrong)
        with pytest.raises(ValueError, match="must name the job"):
            store.commit([Event(2, 1.0, EventKind.TOLD, None, {})])
        store.commit([])
        store.commit([asked(2)])
        assert [event.number for event in store.events()] == [1, 2]


def ending(number: int, kind: EventKind) -> Event:
    return Event(number, 1.0, kind, 1, {"final": True, "attempt": 1})


@pytest.mark.parametrize("kind", [EventKind.TOLD, EventKind.FAILED, EventKind.CANCELLED, EventKind.PRUNED])
def test_a_job_ends_once_and_the_refused_commit_leaves_nothing(tmp_path: Path, kind: EventKind) -> None:
    with open_store(new_run(tmp_path / "run"), write=True) as store:
        store.commit([asked(1, 1), Event(2, 1.0, EventKind.FAILED, 1, {"final": False}), ending(3, kind)])
        with pytest.raises(DuplicateResult) as error:
            store.commit([asked(4, 2), told(5, 2), told(6, 1, val_error=0.5)])
        assert error.value.jobs == (1,)
        assert [event.number for event in store.events()] == [1, 2, 3]
        with pytest.raises(DuplicateResult) as error:
            store.commit([asked(4, 2), told(5, 2), told(6, 2)])
        assert error.value.jobs == (2,)
        store.commit([asked(4, 2), told(5, 2)])  # the same numbers without the duplicate
        assert len(list(store.events())) == 5


def test_a_reader_beside_the_writer_sees_growing_whole_histories(tmp_path: Path, count: int = 600) -> None:
    """The writer is another process that commits, closes and reopens; no race may look like damage."""
    folder = new_run(tmp_path / "run")
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from archsearch.store import open_store; from store_helpers import history\n"
        f"events = history({count})\n"
        f"for start in range(0, {count}, 40):\n"
        "    with open_store(sys.argv[1], write=True) as store:\n"
        "        for n in range(start, start + 40, 4): store.commit(events[n:n + 4])\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(folder.path), str(Path(__file__).parent)])
    try:
        seen, looks, expected = 0, 0, history(count)
        reader = open_store(folder, write=False)
        followed: list[Event] = []
        while writer.poll() is None:
            events = read_run(folder).events
            assert events == expected[: len(events)] and len(events) >= seen
            seen, looks = len(events), looks + 1
            followed += reader.events(after=len(followed))
        assert writer.returncode == 0 and looks > 3
        followed += reader.events(after=len(followed))
        assert followed == read_run(folder).events == expected
    finally:
        writer.kill()
        writer.wait()


def test_reading_changes_nothing(tmp_path: Path) -> None:
    closed = closed_run(tmp_path / "run", history(20))
    before = contents(closed)
    assert len(read_run(closed).events) == 20
    assert contents(closed) == before and "run.db-wal" not in before
    with open_store(closed, write=True) as store:
        store.commit([asked(21, 99)])
        killed = killed_copy(closed, tmp_path / "killed")
    before = contents(killed)
    for _ in range(2):
        assert len(read_run(killed).events) == 21
        assert contents(killed) == before  # not even a checkpoint: what is there stays evidence


def test_a_reader_cannot_write_and_a_closed_store_neither(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with pytest.raises(RuntimeError, match="opened for reading"):
        open_store(folder, write=False).commit([asked(1)])
    store = open_store(folder, write=True)
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="is closed"):
        store.commit([asked(1)])


def test_locked_by_another_connection_then_the_same_commit_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    folder = new_run(tmp_path / "run")
    with open_store(folder, write=True) as store:
        store.commit([asked(1)])
        other = sqlite3.connect(folder.db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="locked"):
                store.commit([asked(2), told(3, 2)])
        other.execute("ROLLBACK")
        other.close()
        store.commit([asked(2), told(3, 2)])
        assert list(store.events()) == [asked(1), asked(2), told(3, 2)]
    assert read_head(folder.head).number == 3


def fill(ballast: Path) -> None:
    """Take all the room that is left on the disk."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_disk_full_leaves_no_half_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    folder, events = new_run(small_disk / "run"), history(400)
    groups = [events[n : n + 4] for n in range(0, 400, 4)]
    ballast = small_disk / "ballast"
    with open_store(folder, write=True) as store:
        failed = 0
        for done, group in enumerate(groups):
            if done == 10:
                fill(ballast)
            try:
                store.commit(group)
            except StoreUnavailable as error:
                failed += 1
                assert "full" in str(error) or "failed" in str(error) or "opened" in str(error)
                for _ in range(3):
                    with pytest.raises(StoreUnavailable):
                        store.commit(group)
                ballast.unlink()
                store.commit(group)
        assert failed == 1
        assert list(store.events()) == events
    assert read_run(folder).events == events


def test_disk_full_when_closing_and_when_creating(small_disk: Path, tmp_path: Path) -> None:
    folder = new_run(small_disk / "run")
    store = open_store(folder, write=True)
    store.commit(history(40))
    ballast = small_disk / "ballast"
    fill(ballast)
    store.close()  # cannot move the log into the file; nothing is lost
    with pytest.raises(StoreUnavailable):
        new_run(small_disk / "second")
    ballast.unlink()
    assert read_run(folder).events == history(40)
    assert read_run(new_run(small_disk / "second")).events == []


@pytest.mark.parametrize("failing", ["write", "fdatasync"])
def test_head_that_cannot_be_written_after_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """The rows are in, the caller is told to repeat: the repetition must not write them twice."""
    folder = new_run(tmp_path / "run")

    def broken(*_arguments: object) -> int:
        raise OSError(5, "Input/output error")

    with open_store(folder, write=True) as store:
        store.commit([asked(1)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite" if failing == "write" else "fdatasync", broken)
            with pytest.raises(StoreUnavailable, match="HEAD"):
                store.commit([asked(2), asked(3)])
        store.commit([asked(2), asked(3), asked(4)])  # grown meanwhile
        assert list(store.events()) == [asked(1), asked(2), asked(3), asked(4)]
        assert read_head(folder.head).number == 4


def test_commit_that_happened_although_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails when the rows are already safe; the same call again finds them there."""
    folder, real = new_run(tmp_path / "run"), sqlite.translated

    @contextmanager
    def failing(path: Path, doing: str) -> Iterator[None]:
        with real(path, doing):
            yield
        if doing == "committing":
            raise StoreUnavailable("input/output error")

    with open_store(folder, write=True) as store:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "translated", failing)
            with pytest.raises(StoreUnavailable):
                store.commit([asked(1), asked(2)])
        store.commit([asked(1), asked(2)])
        store.commit([asked(3)])
        assert list(store.events()) == [asked(1), asked(2), asked(3)]


def test_reading_goes_on_when_a_writer_opens_the_closed_file_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real, writers = closed_run(tmp_path / "run", history(3)), sqlite.digest, []

    def digest(path: Path) -> str:
        if not writers:
            writers.append(None)
            writers[0] = open_store(folder, write=True)
            writers[0].commit([asked(4, 9)])
        return real(path)

    monkeypatch.setattr(sqlite, "digest", digest)
    assert read_run(folder).events == [*history(3), asked(4, 9)]
    writers[0].close()


def test_run_folder_moved_away_and_back(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with open_store(folder, write=True) as store:
        store.commit([asked(1)])
        folder.path.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable, match="gone"):
            store.commit([asked(2)])
        (tmp_path / "elsewhere").rename(folder.path)
        store.commit([asked(2)])
    assert read_run(folder).events == [asked(1), asked(2)]


def test_killed_between_commit_and_head(tmp_path: Path) -> None:
    """The event is there although HEAD does not say so: it counts, and HEAD catches up."""
    folder, copies = new_run(tmp_path / "run"), []

    def reached(point: str) -> None:
        assert point == "commit.head"
        copies.append(killed_copy(folder, tmp_path / f"copy{len(copies)}"))

    with open_store(folder, write=True, reached=reached) as store:
        store.commit([asked(1)])
        store.commit([asked(2)])
    assert read_head(copies[1].head).number == 1
    assert read_run(copies[1]).events == [asked(1), asked(2)]
    with open_store(copies[1], write=True) as store:
        assert read_head(copies[1].head).number == 2
        store.commit([asked(3)])
    assert read_run(copies[1]).events == [asked(1), asked(2), asked(3)]


def test_a_row_that_a_stranger_adds_is_seen(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with open_store(folder, write=True) as store:
        store.commit([asked(1)])
        other = sqlite3.connect(folder.db)
        other.execute("INSERT INTO events VALUES (2, 1.0, 'asked', 2, NULL, '{}', 5)")
        other.commit()
        other.close()
        with pytest.raises(StoreDamaged, match="event 2"):
            store.commit([asked(2)])
        with pytest.raises(StoreDamaged, match="event 2 is not what was written; last good event 1"):
            list(store.events())
