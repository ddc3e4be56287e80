"""The golden database in a SQLite file: writers side by side, kills in the middle, files that are a stranger's or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_rows import batch, recipe, row
from sqlalchemy import Connection

from archsearch.jobs import InputError, StoreDamaged, StoreUnavailable
from archsearch.store import golden_schema
from archsearch.store.golden import Added, GoldenDatabase, open_golden

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from golden_rows import batch
from archsearch.store.golden import open_golden

database, start, times, count = open_golden(sys.argv[2]), *map(int, sys.argv[3:6])
print("ready", flush=True)
sys.stdin.readline()
for each in range(times):
    database.add(*batch(start + each * count, count), "writer")
print("done", flush=True)
"""


def writer(place: object, start: int, times: int, count: int) -> subprocess.Popen[str]:
    """A process that is ready to add ``times`` batches of ``count`` rows; it begins when it gets a line."""
    words = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(place), str(start), str(times), str(count)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def made(path: Path, count: int = 40) -> GoldenDatabase:
    database = open_golden(path)
    assert database.add(*batch(0, count), "tester") == Added(count, count, 0)
    return database


def points(database: GoldenDatabase) -> list[int]:
    from archsearch.store.golden_schema import READ

    return sorted(values[READ.index("point")] for values in database.observations())


def test_two_processes_make_the_database_and_add_to_it_at_once(tmp_path: Path) -> None:
    """Of the same rows too: half of what the second adds the first has as well."""
    path = tmp_path / "golden.db"
    processes = [writer(path, start, 10, 10) for start in (0, 50)]
    for process in processes:
        begin(process)
    for process in processes:
        assert process.communicate(timeout=120)[0] == "done\n" and process.returncode == 0
    assert points(open_golden(path)) == list(range(150))
    assert len(open_golden(path).recipes()) == 150
    assert [file.name for file in tmp_path.iterdir()] == ["golden.db"], "nothing is left lying about"


def test_killed_in_the_middle_of_an_add_it_has_all_of_it_or_nothing(tmp_path: Path) -> None:
    path, count = tmp_path / "golden.db", 12_000
    made(path)
    log = tmp_path / "golden.db-wal"
    process = writer(path, 1000, 1, count)
    begin(process)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size > 1 << 20):  # rows of the transaction are on the disk already
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.communicate()[0] == "", "it was not done yet"
    assert log.stat().st_size > 1 << 20
    database = open_golden(path)
    assert points(database) == list(range(40)) and len(database.recipes()) == 40
    assert database.add(*batch(30, 20), "tester") == Added(10, 10, 10)
    assert points(open_golden(path)) == list(range(50))

    process = writer(path, 1000, 1, 200)
    begin(process)
    assert process.stdout is not None and process.stdout.readline() == "done\n"
    process.kill()
    process.communicate()
    assert points(open_golden(path)) == [*range(50), *range(1000, 1200)], "what was said to be done is there"


def test_a_row_of_a_recipe_that_nobody_has_adds_nothing(tmp_path: Path) -> None:
    database = made(tmp_path / "golden.db")
    recipes, rows = batch(100, 5)
    with pytest.raises(InputError, match=f"no recipe {recipe(7000)[0]}"):
        database.add(recipes, [*rows, row(7000)], "tester")
    assert points(database) == list(range(40)) and len(database.recipes()) == 40
    assert database.add(recipes, [*rows, *rows, row(3, device="pi4")], "tester") == Added(5, 6, 5)
    id_, text = recipe(3)
    assert database.recipe(id_[:8]) == (id_, text)
    for wrong in ("0000000000", "%", "", "a_"):
        with pytest.raises(InputError, match="recipe"):
            database.recipe(wrong)


# ---------------------------------------------------------------------------------------------------------- foreign files
def by_sql(*statements: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            assert connection.execute(statement).fetchone() in (None, ("ok",), ("delete",))
        connection.commit()
        connection.close()

    return change


def by_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(path: Path) -> None:
    """One bit of one figure, which SQLite's own check does not see."""
    payload = bytearray(path.read_bytes())
    at = payload.index(b"classification")
    payload[at] ^= 2
    path.write_bytes(bytes(payload))
    by_sql("PRAGMA integrity_check")(path)


def another(path: Path) -> None:
    path.unlink()
    by_sql("CREATE TABLE notes (text)")(path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


VIEW = "ALTER TABLE recipes RENAME TO hidden", "CREATE VIEW recipes AS SELECT id, text FROM hidden"
TRIGGER = "CREATE TRIGGER more AFTER INSERT ON recipes BEGIN DELETE FROM observations; END"

LARGE = by_sql("UPDATE observations SET od_size_MB = 'large'")
BETTER = by_sql("UPDATE observations SET task_metric = 0.99 WHERE point = 7")
WRONG_ROWS = (flipped, LARGE, BETTER)

FOREIGN = [
    ("a trigger", by_sql(TRIGGER), StoreDamaged, "trigger more"),
    ("a view", by_sql(*VIEW), StoreDamaged, "which archsearch did not make"),
    ("a virtual table", by_sql("CREATE VIRTUAL TABLE meta2 USING fts5(a)"), StoreDamaged, "meta2.*did not make"),
    ("another table", by_sql("CREATE TABLE more (a)"), StoreDamaged, "the table more"),
    ("another program's", another, InputError, "no golden database"),
    ("no SQLite file", lambda path: path.write_text("recipe_id,device\n" * 20), InputError, "no SQLite file.*db import"),
    ("an empty file", lambda path: path.write_bytes(b""), InputError, "no SQLite file"),
    ("a pipe", fifo, InputError, "not a file"),
    ("half a file", by_bytes(lambda all_: all_[: len(all_) // 2]), StoreDamaged, "its end is missing"),
    ("a page of zeros", by_bytes(lambda all_: all_[:8192] + bytes(4096) + all_[12288:]), StoreDamaged, "damaged"),
    ("a flipped bit", flipped, StoreDamaged, "not what was written"),
    ("a later version", by_sql("UPDATE meta SET value = '2' WHERE key = 'schema_version'"), InputError, "version 2.*newer"),
    (
        "a later version's table",
        by_sql("CREATE TABLE tags (a)", "UPDATE meta SET value = '2' WHERE key = 'schema_version'"),
        InputError,
        "version 2.*newer",
    ),
    ("no version", by_sql("DELETE FROM meta"), InputError, "no golden database"),
    ("text for a number", LARGE, StoreDamaged, "od_size_MB is 'large'"),
    ("a changed figure", BETTER, StoreDamaged, "not what was written"),
    ("another journal", by_sql("PRAGMA journal_mode=DELETE"), InputError, "another journal"),
    ("a journal beside it", lambda path: path.with_name("g.db-journal").write_bytes(b"x" * 600), InputError, "another journal"),
]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "g.db"
    made(path)
    return path


def bytes_in(folder: Path) -> dict[str, bytes | None]:
    return {file.name: None if file.is_fifo() else file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(("change", "error", "words"), [each[1:] for each in FOREIGN], ids=[each[0] for each in FOREIGN])
def test_a_foreign_or_damaged_file_is_refused_and_stays_as_it_is(
    golden: Path, tmp_path: Path, change: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    path = tmp_path / "g.db"
    shutil.copy(golden, path)
    change(path)
    before = bytes_in(tmp_path)
    database = open_golden(path)
    attempts = [database.observations]
    if change not in WRONG_ROWS:  # one of which harms no other
        attempts += [lambda: database.add(*batch(900, 1), "tester"), database.there]
    for attempt in attempts:
        with pytest.raises(error, match=words) as caught:
            attempt()
        assert "g.db" in str(caught.value)
    assert bytes_in(tmp_path) == before, "nothing was written"


def test_an_older_database_is_moved_up_by_who_adds_to_it(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later archsearch will find this one's: reading says what to do, writing brings all of it up to date or nothing."""
    path = tmp_path / "g.db"
    shutil.copy(golden, path)
    database, steps = open_golden(path), list[str]()

    def step(connection: Connection) -> None:
        steps.append("made")
        connection.exec_driver_sql("ALTER TABLE recipes ADD COLUMN note TEXT")

    def broken(connection: Connection) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(golden_schema, "MIGRATIONS", [step, broken])
    with pytest.raises(InputError, match="version 1, this archsearch reads 3: `archsearch db add` moves it up"):
        database.observations()
    with pytest.raises(StoreUnavailable, match="full"):
        database.add(*batch(100, 5), "tester")
    monkeypatch.setattr(golden_schema, "MIGRATIONS", [step])
    with pytest.raises(InputError, match="version 1, this archsearch reads 2"):
        database.observations()
    assert database.there() and database.add(*batch(100, 5), "tester") == Added(5, 5, 0) and len(steps) == 2
    assert points(database) == [*range(40), *range(100, 105)] and len(database.recipes()) == 45
    assert database.add(*batch(104, 2), "tester") == Added(1, 1, 1) and len(steps) == 2, "it is up to date"
    monkeypatch.setattr(golden_schema, "MIGRATIONS", [])
    with pytest.raises(InputError, match="version 2, this archsearch knows 1: install a newer one"):
        database.observations()


def test_reading_writes_nothing_beside_a_writer_neither(golden: Path, tmp_path: Path) -> None:
    """A file in a folder that cannot be written; and one whose writer has not closed it yet."""
    path = tmp_path / "g.db"
    shutil.copy(golden, path)
    before = os.stat(path)
    assert points(open_golden(path)) == list(range(40)) and list(tmp_path.iterdir()) == [path]
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    living = sqlite3.connect(path)
    living.execute("BEGIN IMMEDIATE")
    living.execute("DELETE FROM observations WHERE point > 20")
    assert points(open_golden(path)) == list(range(40)), "what is not committed is not there"
    living.commit()
    assert points(open_golden(path)) == list(range(21)), "what is in its log only is there"
    living.close()


def test_what_is_not_there_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no golden database .*absent\.db: `archsearch db add"):
        open_golden(tmp_path / "absent.db").observations()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        open_golden(tmp_path / "file" / "golden.db").add(*batch(0, 1), "tester")
