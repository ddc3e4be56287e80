"""A flipped or cut byte anywhere: either everything reads back equal, or the damage is named. Never silently shorter."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from store_helpers import META, asked, checkpoint, closed_run, history, killed_copy, new_run

from archsearch.jobs import Event, EventKind, StoreDamaged
from archsearch.store import RunFolder, open_store
from archsearch.store.reader import Reader

EVENTS = history(60)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """``closed``: in order. ``log``: killed with all events in the log. ``mixed``: killed after a checkpoint and more."""
    base = tmp_path_factory.mktemp("damage")
    runs = {"closed": closed_run(base / "closed", EVENTS)}
    for name in ("log", "mixed"):
        live = new_run(base / f"live-{name}")
        with open_store(live, write=True) as store:
            for number, event in enumerate(EVENTS):
                if name == "mixed" and number == 40:
                    checkpoint(live)
                store.commit([event])
            runs[name] = killed_copy(live, base / name)
    return runs


def verdict(folder: RunFolder, *, write: bool) -> str:
    try:
        with open_store(folder, write=write) as store:
            assert list(store.events()) == EVENTS, "other events than were written"
            assert {key: store.meta[key] for key in META} == META and store.config_text == "run: {seed: 7}\n"
    except StoreDamaged as error:
        assert str(folder.path) in str(error), f"the place is not named: {error}"
        return "named"
    return "equal"


def verdicts(run: RunFolder, place: Path, name: str, data: bytes) -> str:
    """Read, open for writing, read again: a refusal changes nothing, and what opens for writing is whole."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run.path, place)
    (place / name).write_bytes(data)
    folder = RunFolder.at(place)
    read, written, again = verdict(folder, write=False), verdict(folder, write=True), verdict(folder, write=False)
    assert (read, written) != ("named", "equal") and again == read
    return written


FILES = ("run.db", "run.db-wal", "HEAD")
CASES = [(run, file) for run in ("closed", "log", "mixed") for file in FILES if (run, file) != ("closed", "run.db-wal")]


@pytest.mark.parametrize(("run", "file"), CASES)
def test_flipped_bytes(runs: dict[str, RunFolder], tmp_path: Path, run: str, file: str) -> None:
    draw, found = random.Random(f"flip {run} {file}"), Counter[str]()
    original = (runs[run].path / file).read_bytes()
    count = 15 if file == "HEAD" else 50
    for _ in range(count):
        data = bytearray(original)
        data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        found[verdicts(runs[run], tmp_path / "copy", file, bytes(data))] += 1
    if (run, file) in (("closed", "run.db"), ("log", "run.db-wal")):
        assert found == {"named": count}  # the digest; every frame of the log is needed
    if (run, file) == ("mixed", "run.db-wal"):
        assert found["named"] > 10 and found["equal"] > 10  # behind the new log lie the old one's bytes
    if file == "HEAD":
        assert found == {"equal": count}  # the other record is intact


@pytest.mark.parametrize(("run", "file"), CASES)
def test_cut_files(runs: dict[str, RunFolder], tmp_path: Path, run: str, file: str) -> None:
    draw = random.Random(f"cut {run} {file}")
    original = (runs[run].path / file).read_bytes()
    lengths = {0, 1, 100, 511, 512, 513, 4096, len(original) - 1, *(draw.randrange(len(original)) for _ in range(8))}
    found = Counter(
        verdicts(runs[run], tmp_path / "copy", file, original[:length]) for length in sorted(lengths) if length < len(original)
    )
    assert found["named"] > 0
    if (run, file) in (("closed", "run.db"), ("log", "run.db-wal")):
        assert found["equal"] == 0


@pytest.mark.parametrize("run", ["closed", "log", "mixed"])
def test_missing_files(runs: dict[str, RunFolder], tmp_path: Path, run: str) -> None:
    for file in FILES:
        place = tmp_path / file
        shutil.copytree(runs[run].path, place)
        (place / file).unlink(missing_ok=True)
        expected = "equal" if (run, file) == ("closed", "run.db-wal") else "named"
        assert verdict(RunFolder.at(place), write=False) == verdict(RunFolder.at(place), write=True) == expected


def test_the_text_says_which_events_and_the_last_good_one(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(runs["log"].path, place)
    log = place / "run.db-wal"
    log.write_bytes(log.read_bytes()[:-1])
    good = []
    with pytest.raises(StoreDamaged, match=r"event 60 is missing; last good event 59"):
        for event in open_store(place, write=False).events():
            good.append(event)
    assert good == EVENTS[:59]
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    with pytest.raises(StoreDamaged, match=r"events \d+-60 are missing; last good event \d+"):
        open_store(place, write=True)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            "UPDATE events SET data = replace(data, '0', '1') WHERE number = 20",
            "event 20 is not what was written; last good event 19",
        ),
        ("UPDATE events SET time = time + 1e-6 WHERE number = 20", "event 20 is not what was written; last good event 19"),
        ("DELETE FROM events WHERE number BETWEEN 20 AND 22", "events 20-22 are missing; last good event 19"),
        ("DELETE FROM events WHERE number > 58", "events 59-60 are missing; last good event 58"),
        ("DELETE FROM events", "events 1-60 are missing; last good event 0"),
        ("UPDATE meta SET value = '8' WHERE key = 'seed'", "description"),
        ("DELETE FROM meta WHERE key = 'seed'", "description"),
        ("UPDATE lease SET epoch = 'x'", "lease"),
    ],
)
def test_changes_that_sqlite_finds_right(runs: dict[str, RunFolder], tmp_path: Path, statement: str, text: str) -> None:
    for run in ("mixed", "closed"):
        place = tmp_path / run
        shutil.copytree(runs[run].path, place)
        connection = sqlite3.connect(place / "run.db")
        connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(StoreDamaged, match=text if run == "mixed" else "was changed after the run was closed"):
            open_store(place, write=True)


def test_a_stale_index_is_found_before_writing(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    """The unique index decides whether a job may end: it must hold what the rows hold."""
    place = tmp_path / "copy"
    shutil.copytree(runs["mixed"].path, place)
    connection = sqlite3.connect(place / "run.db")
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE (ended)', 'UNIQUE (job)') WHERE name = 'events'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreDamaged):
        open_store(place, write=True)


def test_an_older_digest_does_not_come_back(tmp_path: Path) -> None:
    """The record with the digest is gone from both places before the reopened file changes."""
    folder = closed_run(tmp_path / "run", EVENTS[:10])
    with open_store(folder, write=True):
        copy = killed_copy(folder, tmp_path / "copy")
    for half in (0, 512):
        data = bytearray((tmp_path / "copy" / "HEAD").read_bytes())
        data[half + 20] ^= 1
        shutil.copytree(copy.path, tmp_path / f"half{half}")
        (tmp_path / f"half{half}" / "HEAD").write_bytes(data)
        assert list(open_store(tmp_path / f"half{half}", write=False).events()) == EVENTS[:10]


def test_another_history_of_the_same_run_is_not_taken_for_this_one(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    """Whole in itself, and longer: only the checksum in HEAD tells that it is another."""
    other = new_run(tmp_path / "other")
    with open_store(other, write=True) as store:
        store.commit([*history(58), asked(59, 777), *[asked(n) for n in range(60, 70)]])
        copy = killed_copy(other, tmp_path / "copy")
    shutil.copy(runs["log"].head, copy.head)
    for write in (False, True):
        with pytest.raises(StoreDamaged, match="event 60 is not what was written; last good event 59"):
            list(open_store(copy, write=write).events())


def test_a_log_beside_a_closed_file_is_named(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    shutil.copytree(runs["closed"].path, tmp_path / "copy")
    shutil.copy(runs["log"].wal, tmp_path / "copy")
    for write in (False, True):
        with pytest.raises(StoreDamaged, match=r"run\.db-wal was changed after the run was closed"):
            open_store(tmp_path / "copy", write=write)


@pytest.mark.parametrize(
    ("statement", "event"),
    [
        ("UPDATE events SET data = replace(data, '4', '9') WHERE number = 3", 3),
        ("UPDATE events SET time = time + 1e-6 WHERE number = 1", 1),
        ("UPDATE events SET kind = 'budget' WHERE number = 2", 2),
        ("UPDATE events SET crc = crc + 1 WHERE number = 2", 3),
        ("UPDATE events SET crc = 'x' WHERE number = 2", 3),
        ("DELETE FROM events WHERE number = 2", 3),
        ("UPDATE events SET data = replace(data, '7', '8') WHERE number = 2", None),
        ("SELECT 1", None),
    ],
)
def test_events_of_one_kind_are_those_that_were_written(tmp_path: Path, statement: str, event: int | None) -> None:
    """Each is checked on its own; what is between them is for ``open_store`` to find."""
    budgets = [Event(number, 1.5, EventKind.BUDGET, None, {"set": {"budget.jobs": 10 + number}}) for number in (1, 4)]
    third = Event(3, 1.5, EventKind.BUDGET, None, {"set": {"budget.jobs": 14}})
    run = new_run(tmp_path / "run")
    with open_store(run, write=True) as store:
        store.commit([budgets[0], asked(2, 7), third, budgets[1], asked(5, 8)])
        copy = killed_copy(run, tmp_path / "copy")
    connection = sqlite3.connect(copy.db)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with open_store(copy, write=False, whole=False) as store:
        if event is None:
            assert store.events_of(EventKind.BUDGET) == [budgets[0], third, budgets[1]]
        else:
            with pytest.raises(StoreDamaged, match=f"event {event}, or the one before it, is not what was written"):
                store.events_of(EventKind.BUDGET)
    if statement != "SELECT 1":
        with pytest.raises(StoreDamaged):
            open_store(copy, write=True)


def test_a_closed_file_is_checked_by_its_digest_alone_and_a_killed_one_row_by_row(
    runs: dict[str, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    rows = Reader.rows
    monkeypatch.setattr(Reader, "rows", lambda self, after: (read.append(row[0]) or row for row in rows(self, after)))
    for run, expected in (("closed", []), ("mixed", [event.number for event in EVENTS])):
        shutil.copytree(runs[run].path, tmp_path / run)
        with open_store(tmp_path / run, write=True):
            assert read == expected


def test_a_look_leaves_the_digest_to_the_next_and_checks_what_it_gives(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "copy")
    shutil.copytree(runs["closed"].path, folder.path)
    connection = sqlite3.connect(folder.db)
    connection.execute("UPDATE events SET data = replace(data, '0', '1') WHERE number = 20")
    connection.commit()
    connection.close()
    with open_store(folder, write=False, whole=False) as store:
        assert store.meta["seed"] == 7 and store.events_of(EventKind.BUDGET) == []
        with pytest.raises(StoreDamaged, match="event 20 is not what was written"):
            list(store.events())
    for write in (False, True):
        with pytest.raises(StoreDamaged, match="was changed after the run was closed"):
            open_store(folder, write=write)
    connection = sqlite3.connect(folder.db)
    connection.execute("UPDATE meta SET value = '8' WHERE key = 'seed'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreDamaged, match="description"):
        open_store(folder, write=False, whole=False)
