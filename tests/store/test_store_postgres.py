"""The log on a real PostgreSQL server: the same contract as on SQLite, and what only a server can do to a run."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import store_helpers
import test_store_create as creating
import test_store_lease as leasing
import test_store_log as logging
from postgres_server import PASSWORD, PostgresServer, postgres_server
from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError
from store_helpers import ask, asked, closed_run, history, new_run, told
from test_store_lease import lease_row, owning

from archsearch.jobs import Event, EventKind, InputError, LeaseLost, StoreDamaged, StoreUnavailable
from archsearch.store import IncompleteRun, RunFolder, SqlStore, create_run, lease, open_store, postgres, read_run
from archsearch.store.chain import rows_of
from archsearch.store.head import read_head
from archsearch.store.schema import EVENTS


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _runs_there(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_helpers, "STORE", [server.url])
    monkeypatch.setenv(postgres.VARIABLE, server.url)


#: Tests of the log that say the same of both kinds of database.
CONTRACT = [
    logging.test_events_come_back_equal_in_order_and_from_any_place,
    logging.test_floats_and_texts_survive_to_the_last_bit,
    logging.test_numbers_must_continue_the_log_and_an_end_must_name_its_job,
    logging.test_a_reader_cannot_write_and_a_closed_store_neither,
    logging.test_run_folder_moved_away_and_back,
    leasing.test_a_second_writer_is_refused_by_name_and_a_reader_is_not,
    leasing.test_taken_over_at_once_after_kill_9,
    leasing.test_a_driver_that_slept_while_another_host_took_over_cannot_commit,
    leasing.test_a_lock_file_that_was_removed_leaves_the_epoch_to_decide,
    leasing.test_closing_after_the_run_was_taken_over_touches_nothing,
    leasing.test_an_old_lease_of_another_host_is_taken,
]


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda test: test.__name__.removeprefix("test_"))
def test_as_on_sqlite(contract: Callable[[Path], None], tmp_path: Path) -> None:
    contract(tmp_path)
    assert not list(tmp_path.rglob("run.db"))
    assert all(PASSWORD not in path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())


def test_a_reader_beside_the_writer(tmp_path: Path) -> None:
    logging.test_a_reader_beside_the_writer_sees_growing_whole_histories(tmp_path, 120)


def test_another_host_is_refused_by_the_row_in_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leasing.test_another_host_is_waited_for_until_its_sign_of_life_is_old(tmp_path)
    leasing.test_heartbeats_and_commits_are_signs_of_life(tmp_path / "second", monkeypatch)


@pytest.mark.parametrize("kind", [EventKind.TOLD, EventKind.FAILED])
def test_a_job_ends_once(tmp_path: Path, kind: EventKind) -> None:
    logging.test_a_job_ends_once_and_the_refused_commit_leaves_nothing(tmp_path, kind)


def test_several_runs_in_one_database_are_apart_and_one_is_deleted_alone(tmp_path: Path) -> None:
    first, second = closed_run(tmp_path / "a", history(6)), closed_run(tmp_path / "b", history(9))
    assert (len(read_run(first).events), len(read_run(second).events)) == (6, 9)
    postgres.database_of(first).drop()
    with pytest.raises(StoreDamaged, match="does not exist"):
        read_run(first)
    assert len(read_run(second).events) == 9


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE events SET data = replace(data, '0', '1') WHERE number = 20", "event 20 is not what was written"),
        ("UPDATE events SET time = time + 1e-6 WHERE number = 20", "event 20 is not what was written"),
        ("DELETE FROM events WHERE number BETWEEN 20 AND 22", "events 20-22 are missing; last good event 19"),
        ("DELETE FROM events WHERE number > 38", "events 39-40 are missing; last good event 38"),
        ("UPDATE meta SET value = '8' WHERE key = 'seed'", "description"),
        ("DELETE FROM lease", "lease"),
        ("DROP TABLE events CASCADE", "damaged"),
    ],
)
def test_changes_by_others_are_named(tmp_path: Path, statement: str, text: str) -> None:
    folder = closed_run(tmp_path / "run", history(40))
    ask(folder, statement)
    with pytest.raises(StoreDamaged, match=text) as error:
        open_store(folder, write=True)
    assert "archsearch_" in str(error.value) and PASSWORD not in str(error.value)


def test_an_older_schema_is_migrated_in_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    creating.test_only_the_missing_steps_are_taken(tmp_path, monkeypatch)


# ---------------------------------------------------------------------------------------------------- losing the server
def test_the_server_stops_in_the_middle_and_the_same_commit_goes_in_once_it_is_back(
    tmp_path: Path, server: PostgresServer
) -> None:
    folder = new_run(tmp_path / "run")
    with open_store(folder, write=True) as store:
        store.commit([asked(1)])
        server.stop()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as error:
                    store.commit([asked(2), told(3, 2)])
            assert PASSWORD not in str(error.value) and "127.0.0.1" in str(error.value)
            with pytest.raises(StoreUnavailable):
                read_run(folder)
        finally:
            server.start()
        store.commit([asked(2), told(3, 2)])
        assert server.kill_backends() >= 1
        with pytest.raises(StoreUnavailable):
            store.commit([asked(4)])
        server.wait()
        store.commit([asked(4)])
        assert list(store.events()) == [asked(1), asked(2), told(3, 2), asked(4)]
    assert read_head(folder.head).number == 4


def proxied(server: PostgresServer, cut: threading.Event) -> tuple[int, Callable[[], None]]:
    """A relay on loopback that lets everything through to the server, until a COMMIT passes while ``cut`` is set: its answer is
    thrown away and the client dropped, so the answer is lost and the commit is not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def outward(client: socket.socket, onward: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if cut.is_set() and b"COMMIT" in data:
                    lost.set()  # before the server can answer
                    cut.clear()
                onward.sendall(data)
        with contextlib.suppress(OSError):
            onward.shutdown(socket.SHUT_RDWR)

    def inward(client: socket.socket, onward: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := onward.recv(65536)) and not lost.is_set():
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            ends = client, socket.create_connection(("127.0.0.1", server.port)), threading.Event()
            threading.Thread(target=outward, args=ends, daemon=True).start()
            threading.Thread(target=inward, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], listener.close


def test_a_commit_whose_answer_was_lost_is_found_there_and_not_repeated(
    tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = threading.Event()
    port, close = proxied(server, cut)
    try:
        url = server.url.replace(str(server.port), str(port))
        monkeypatch.setenv(postgres.VARIABLE, url)
        create_run(tmp_path / "run", config_text="", meta=store_helpers.META, store=url + "?sslmode=disable")
        with open_store(tmp_path / "run", write=True) as store:
            store.commit([asked(1)])
            cut.set()
            with pytest.raises(StoreUnavailable):
                store.commit([asked(2), told(3, 2)])
            assert not cut.is_set()  # it was the COMMIT that was cut
            number = ask(RunFolder.at(tmp_path / "run"), "SELECT max(number) AS number FROM events")[0]["number"]
            assert number == 3  # carried out, though nobody was told
            store.commit([asked(2), told(3, 2), asked(4)])
            assert list(store.events()) == [asked(1), asked(2), told(3, 2), asked(4)]
    finally:
        close()


def session_of(store: SqlStore, event: Event) -> Connection:
    """Another session of the same driver, in the middle of the transaction that commits ``event``."""
    connection = postgres.database_of(store.folder).open()
    connection.begin()
    lease.renew(connection, store._epoch)
    connection.execute(insert(EVENTS), rows_of([event], store._acknowledged))
    return connection


def test_a_commit_that_the_server_is_still_busy_with_is_waited_for(tmp_path: Path) -> None:
    """The connection is lost while the transaction goes on over there: the next try must not write its rows a second time."""
    with open_store(new_run(tmp_path / "run"), write=True) as store:
        store.commit([asked(1)])
        lost = session_of(store, asked(2))
        store._disconnect()
        threading.Timer(0.7, lost.commit).start()
        start = time.monotonic()
        store.commit([asked(2), asked(3)])
        assert time.monotonic() - start > 0.4
        assert list(store.events()) == [asked(1), asked(2), asked(3)]
        lost.close()


def test_a_driver_that_falls_asleep_in_a_transaction_does_not_hold_up_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its session; awake again, the driver finds the run taken over."""
    monkeypatch.setattr(postgres, "SETTINGS", postgres.SETTINGS.replace("timeout=10000", "timeout=1000"))
    folder = new_run(tmp_path / "run")
    with open_store(folder, write=True) as store:
        asleep = session_of(store, asked(1, 77))
        folder.lock.unlink()
        with open_store(folder, write=True) as other:  # waits for the row until the server has given it up
            other.commit([asked(1)])
            with pytest.raises(DBAPIError, match=r"terminat|closed"):
                asleep.exec_driver_sql("SELECT 1")
            with pytest.raises(LeaseLost):
                store.commit([asked(1)])
        asleep.invalidate()
    assert read_run(folder).events == [asked(1)]


# -------------------------------------------------------------------------------------------------------- making a run
def test_a_wrong_password_or_no_server_leaves_nothing_and_says_no_password(tmp_path: Path, server: PostgresServer) -> None:
    for url in (server.url.replace(PASSWORD, "wrong-one"), server.url.replace(str(server.port), "1")):
        with pytest.raises(StoreUnavailable) as error:
            create_run(tmp_path / "run", config_text="", meta={}, store=url)
        assert "wrong-one" not in str(error.value) and PASSWORD not in str(error.value)
        assert not RunFolder.at(tmp_path / "run").made
        (tmp_path / "run" / "store.json.new").unlink()
    for url in ("mysql://me:pass-word@x/y", "postgresql://me:pass-word@x", "nonsense pass-word"):
        with pytest.raises(InputError, match="expected the URL") as wrong:
            create_run(tmp_path / "other", config_text="", meta={}, store=url)
        assert "pass-word" not in str(wrong.value)


def test_creation_cut_short_leaves_no_schema_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def schemas() -> int:
        query = "SELECT count(*) AS n FROM pg_namespace WHERE nspname LIKE 'archsearch%'"
        return int(ask(there, query)[0]["n"])

    there, real = new_run(tmp_path / "there"), store_helpers.open_store
    before = schemas()
    for name in ("create_head", "sync_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(f"archsearch.store.create.{name}", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                new_run(tmp_path / "run")
        with pytest.raises((InputError, IncompleteRun)):
            real(tmp_path / "run", write=True)
    assert schemas() == before + 1  # the second try has removed what the first had left
    new_run(tmp_path / "run")
    assert schemas() == before + 1 and read_run(tmp_path / "run").events == []


def test_a_folder_alone_makes_archsearch_connect_nowhere(
    tmp_path: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = closed_run(tmp_path / "run", history(3))
    monkeypatch.delenv(postgres.VARIABLE)
    monkeypatch.setattr(postgres, "_given", {})
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(InputError, match=r"ARCHSEARCH_STORE=postgresql://USER:PASSWORD@127.0.0.1") as error:
        read_run(folder)
    assert PASSWORD not in str(error.value)
    monkeypatch.setenv(postgres.VARIABLE, f"postgresql://x@elsewhere/y {server.url.replace(':' + PASSWORD, '')}")
    assert len(read_run(folder).events) == 3  # its password as PostgreSQL's own programs find it
    for text in ("[]", "{", '{"schema": 5}', json.dumps({**json.loads(folder.pointer.read_text()), "schema": "public"})):
        folder.pointer.write_text(text)
        with pytest.raises(StoreDamaged, match=r"store\.json is not what was written"):
            read_run(folder)


def test_kill_9_of_a_writer_in_the_middle_leaves_whole_commits(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with owning(folder) as owner:
        for n in range(1, 40):
            assert owner.commit() == f"committed {n}"
        owner.say("commit")
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        events = read_run(folder).events
        assert events == [asked(n) for n in range(1, len(events) + 1)] and len(events) in (39, 40)
    assert lease_row(folder)["epoch"] == 1
