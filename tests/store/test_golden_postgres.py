"""The golden database on a real PostgreSQL server: the same as in a file, and what only a server can do to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from golden_rows import batch, row
from postgres_server import PASSWORD, PostgresServer, postgres_server
from test_golden_store import begin, points, writer

from archsearch.jobs import ArchsearchError, InputError, StoreDamaged, StoreUnavailable
from archsearch.store.golden import Added, open_golden


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


def test_two_writers_a_killed_server_process_and_what_others_put_there(server: PostgresServer) -> None:
    database = open_golden(server.url)
    with pytest.raises(InputError, match=r"there is no golden database in postgresql://127\.0\.0\.1"):
        database.observations()
    processes = [writer(server.url, start, 10, 10) for start in (0, 50)]
    for process in processes:
        begin(process)
    for process in processes:
        assert process.communicate(timeout=120)[0] == "done\n" and process.returncode == 0
    assert points(database) == list(range(150)) and len(database.recipes()) == 150
    assert database.add(*batch(140, 20), "tester") == Added(10, 10, 10)
    with pytest.raises(InputError, match="no recipe"):
        database.add(batch(200, 5)[0], [*batch(200, 5)[1], row(7000)], "tester")
    assert points(database) == list(range(160)) and len(database.recipes()) == 160

    errors: list[Exception] = []

    def add() -> None:
        try:
            database.add(*batch(1000, 15_000), "tester")
        except ArchsearchError as error:
            errors.append(error)

    adding = threading.Thread(target=add)
    adding.start()
    while adding.is_alive() and not written(server):
        time.sleep(0.01)
    assert server.kill_backends() > 0
    adding.join()
    server.wait()
    assert errors and isinstance(errors[0], StoreUnavailable) and PASSWORD not in str(errors[0])
    assert points(database) == list(range(160)) and len(database.recipes()) == 160, "all of it or nothing"

    with psycopg.connect(server.url) as connection:
        connection.execute(
            "CREATE FUNCTION archsearch_golden.more() RETURNS trigger AS 'BEGIN RETURN NULL; END' LANGUAGE plpgsql"
        )
        connection.execute(
            "CREATE TRIGGER more BEFORE INSERT ON archsearch_golden.recipes EXECUTE FUNCTION archsearch_golden.more()"
        )
    for attempt in (database.observations, lambda: database.add(*batch(500, 1), "tester"), database.there):
        with pytest.raises(StoreDamaged, match="has more, which archsearch did not make"):
            attempt()
    for number, error, words in (("2", InputError, "version 2.*newer"), ("1", StoreDamaged, "has more")):  # a later one's
        with psycopg.connect(server.url) as connection:
            connection.execute("UPDATE archsearch_golden.meta SET value = %s WHERE key = 'schema_version'", (number,))
        with pytest.raises(error, match=words):
            database.observations()
    with psycopg.connect(server.url) as connection:
        connection.execute("DROP TRIGGER more ON archsearch_golden.recipes")
        connection.execute("UPDATE archsearch_golden.observations SET task_metric = 0.99 WHERE point = 7")
    with pytest.raises(StoreDamaged, match="not what was written"):
        database.observations()


def written(server: PostgresServer) -> bool:
    """Whether the server has taken rows of the open transaction already."""
    with psycopg.connect(server.url) as connection:
        found = connection.execute("SELECT pg_relation_size('archsearch_golden.recipes')").fetchone()
    return found is not None and found[0] > 1 << 18


@pytest.mark.parametrize("change", ["127.0.0.1:1", "arch:wrong"])
def test_no_message_has_the_password(server: PostgresServer, change: str) -> None:
    url = server.url.replace(f"127.0.0.1:{server.port}", change) if ":1" in change else server.url.replace("/arch:", "/other:")
    database = open_golden(url)
    for attempt in (database.observations, lambda: database.add(*batch(0, 1), "tester"), database.there):
        with pytest.raises(StoreUnavailable) as caught:
            attempt()
        assert PASSWORD not in str(caught.value) and PASSWORD not in repr(caught.value.__cause__)
    with pytest.raises(InputError) as refused:
        open_golden(f"mysql://arch:{PASSWORD}@127.0.0.1/x")
    assert PASSWORD not in str(refused.value)
