"""Whole searches whose log lies in a real PostgreSQL database: the server stops and comes back, drivers die, all verbs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PASSWORD, PostgresServer, postgres_server
from store_runs import Driver, archsearch, config, results

import archsearch as api
from archsearch.store import postgres, read_run


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


def test_a_search_through_a_stopped_server_and_killed_drivers_and_every_verb_on_it(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reference, points = tmp_path / "run", tmp_path / "reference", {"max_hull_points": 10}
    api.search(config(search=points), run_dir=reference)  # on SQLite, undisturbed
    monkeypatch.setenv(postgres.VARIABLE, server.url)
    driver = Driver(path, config(run={"store": "${ARCHSEARCH_STORE}"}, search=points))
    driver.more(2)
    server.stop()
    driver.wait_for(driver.says("paused: postgresql://127.0.0.1"), "it pauses")
    assert "trying again in" in driver.log.read_text()
    server.start()
    driver.more(2)
    assert str(driver.process.pid) in archsearch("resume", path, code=2).stderr  # a second driver is refused
    driver.wait_for(lambda: server.kill_backends() > 0, "its session is killed")
    driver.more()
    driver.kill()
    driver = Driver(path)
    driver.more()
    driver.kill()
    assert Driver(path).end()["state"] == "done"
    assert results(path) == results(reference)  # as if nothing had been
    assert not (path / "run.db").exists()

    status = json.loads(archsearch("status", path, "--json").stdout)
    assert status["state"] == "done" and status["points"] == 10
    with monkeypatch.context() as stranger:
        stranger.delenv(postgres.VARIABLE)
        stranger.setattr(postgres, "_given", {})
        said = archsearch("status", path, code=2).stderr
    assert "ARCHSEARCH_STORE=postgresql://USER:PASSWORD@127.0.0.1" in said
    assert [row["state"] for row in json.loads(archsearch("runs", "--dir", tmp_path, "--json").stdout)] == ["done"] * 2
    assert json.loads(archsearch("runs", "compare", path, reference, "--json").stdout)["same_data"]
    assert (path / "report.html").exists() and archsearch("report", path).stdout.count(".tsv") == 4
    archsearch("backup", path, tmp_path / "backup")  # into a file
    assert results(tmp_path / "backup") == results(reference) and (tmp_path / "backup" / "run.db").exists()
    archsearch("runs", "export", path, "-o", tmp_path / "run.zip")
    settings = ["--set", "evaluation.seeds=1", "--set", "evaluation.train.epochs=1", "--set", "cluster.executor=inline"]
    evaluated = archsearch("evaluate", path, "--top", 1, "--json", *settings)
    assert json.loads(evaluated.stdout)["state"] == "done" and (path / "evaluations/final/store.json").exists()
    warm = config(search={"max_hull_points": 11})
    source = tmp_path / "warm.yaml"
    source.write_text(json.dumps(warm))
    archsearch("search", source, "--run-dir", tmp_path / "warm", "--warm-from", path)
    assert read_run(tmp_path / "warm").meta["warm_from"]["points"] == 10

    for file in tmp_path.rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), f"{file} holds the password"
    assert PASSWORD not in said
    archsearch("runs", "rm", path, "--yes")
    assert not path.exists() and schemas(server) == 0


def test_the_same_call_starts_a_search_there_and_goes_on_with_it(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``or_resume``, with which a supervisor on a cluster keeps a driver going."""
    monkeypatch.setenv(postgres.VARIABLE, server.url)
    conf = tmp_path / "conf.yaml"
    for points in (2, 3):
        conf.write_text(json.dumps(config(run={"store": "${ARCHSEARCH_STORE}"}, search={"max_hull_points": points})))
        assert len(api.search(conf, run_dir=tmp_path / "run", or_resume=True).points()) >= points
    assert not (tmp_path / "run" / "run.db").exists()


def schemas(server: PostgresServer) -> int:
    import psycopg

    with psycopg.connect(server.url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'archsearch%'").fetchone()
    assert found is not None
    return int(found[0])


def test_no_server_at_the_beginning_is_said_before_anything_starts(tmp_path: Path) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text(json.dumps(config(run={"store": f"postgresql://arch:{PASSWORD}@127.0.0.1:1/postgres"})))
    said = archsearch("search", conf, "--run-dir", tmp_path / "run", code=2).stderr
    assert "127.0.0.1:1" in said and "is not available" in said and PASSWORD not in said
    assert not (tmp_path / "run").exists()
    conf.write_text(json.dumps(config(run={"store": f"mysql://arch:{PASSWORD}@127.0.0.1:1/postgres"})))
    said = archsearch("search", conf, "--run-dir", tmp_path / "run", code=2).stderr
    assert "run.store" in said and PASSWORD not in said
