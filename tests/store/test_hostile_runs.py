"""Runs from strangers: whatever lies in their folders, opening them runs nothing, reads no environment and stays inside."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from store_runs import called, config

import archsearch as api
from archsearch.jobs import Event, EventKind, InputError, StoreDamaged
from archsearch.store import RunFolder, create_run, open_store, read_run, sqlite
from archsearch.store.head import Head, create_head, read_head

SECRET = "canary-3f9a-in-the-environment"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("honest") / "run"
    api.search(config(search={"max_hull_points": 2, "test_frontier": False}), run_dir=path)
    return path


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's, which must be as it was in the end; and a secret in the environment."""
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("MY_VALUE", SECRET)
    place = tmp_path / "outside"
    (place / "folder").mkdir(parents=True)
    (place / "letter.txt").write_text("private\n" * 100)
    before = contents(place)
    yield place
    assert contents(place) == before, "something outside of the run's folder was changed"


def contents(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(place.rglob("*"))}


def forged(
    honest: Path,
    path: Path,
    events: Callable[[list[Event]], list[Event]] = lambda events: events,
    **meta: Any,
) -> Path:
    """A run with the honest one's files and a history, all of its checksums right, as a stranger likes it."""
    shutil.copytree(honest, path)
    for name in ("run.db", "HEAD"):
        (path / name).unlink()
    stored = read_run(honest)
    text = meta.pop("config", stored.meta["config"])
    create_run(path, config_text=text, meta={**stored.meta, **meta}, events=events(stored.events))
    return path


def open_all(path: Path, tmp_path: Path, honest: Path, *, but: tuple[str, ...] = ()) -> dict[str, int]:
    """Each verb on the run, and how it left: always with a word, never with a traceback. Nothing that it says or writes holds
    the secret. ``but``: verbs left out where they have no part in what is tested, and take long."""
    warm = tmp_path / "warm.yaml"
    warm.write_text(json.dumps(config(search={"max_hull_points": 3})))
    verbs = {
        "status": ["status", path],
        "report": ["report", path],
        "compare": ["runs", "compare", path, honest],
        "export": ["runs", "export", path, "-o", tmp_path / "run.zip"],
        "backup": ["backup", path, tmp_path / "backup"],
        "warm": ["search", warm, "--run-dir", tmp_path / "warm", "--warm-from", path],
        "resume": ["resume", path, "--set", "search.max_hull_points=3"],
    }
    codes = {}
    for name, words in verbs.items():
        if name in but:
            continue
        said = called(*words)
        assert SECRET not in said.stdout + said.stderr, f"{name} tells the secret"
        codes[name] = said.code
    for place in (path, tmp_path / "warm", tmp_path / "backup", tmp_path / "run.zip"):
        for file in [place, *place.rglob("*")]:
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), f"{file} holds the secret"
    return codes


REFUSED = dict.fromkeys(("status", "report", "compare", "export", "backup", "warm", "resume"), 2)


def test_the_forger_can_forge(honest: Path, tmp_path: Path, outside: Path) -> None:
    """A forged run in which nothing is wrong is a run: else the tests below would show nothing."""
    assert open_all(forged(honest, tmp_path / "run"), tmp_path, honest) == dict.fromkeys(REFUSED, 0)


def test_variables_and_includes_in_its_configuration(honest: Path, tmp_path: Path, outside: Path) -> None:
    text = read_run(honest).meta["config"]
    for number, more in enumerate(
        (
            "run: {name: '${MY_VALUE}', artifacts: '${MY_VALUE}'}\n",
            "tracking: {callbacks: ['${MY_TOKEN}']}\n",
            f"include: {outside}/letter.txt\n",
            "include: /proc/self/environ\n",
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        path = forged(honest, place / "run", config=more + _without_section(text, more.split(":")[0]))
        codes = open_all(path, place, honest, but=("report", "compare", "backup", "warm"))
        assert codes["resume"] == 2  # to go on, each value must be known


def _without_section(text: str, name: str) -> str:
    values = yaml.safe_load(text)
    values.pop(name, None)
    return str(yaml.safe_dump(values))


@pytest.mark.parametrize(
    "name", ["lock", "HEAD", "run.db", "report.html", "model_desc_gallery", "evaluations", "evaluations/x"]
)
def test_symbolic_links_out_of_its_folder(honest: Path, tmp_path: Path, outside: Path, name: str) -> None:
    path = forged(honest, tmp_path / "run")
    link = path / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside / ("folder" if "." not in name and name not in ("lock", "HEAD") else "letter.txt"))
    assert open_all(path, tmp_path, honest) == REFUSED
    assert called("runs", "rm", path, "--yes").code == 2  # not without --force, which never follows a link
    assert called("runs", "rm", path, "--yes", "--force").code == (2 if name == "lock" else 0)


@pytest.mark.parametrize("form", ["../../outside/letter.txt", "{outside}/letter.txt", "run.db", "artifacts/000001/../../x"])
def test_artifact_keys_that_lead_elsewhere(honest: Path, tmp_path: Path, outside: Path, form: str) -> None:
    """Their hash and size are right: only the key is not."""
    payload = (outside / "letter.txt").read_bytes()
    key = form.format(outside=outside)
    ref = {"key": key, "sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}

    def changed(events: list[Event]) -> list[Event]:
        return [
            replace(event, data=json.loads(json.dumps({**event.data, "artifacts": {"weights": ref}}, default=dict)))
            if event.kind is EventKind.TOLD and "weights" in event.data["artifacts"]
            else event
            for event in events
        ]

    path = forged(honest, tmp_path / "run", changed)
    codes = open_all(path, tmp_path, honest, but=("report", "compare"))
    assert codes["export"] == codes["backup"] == codes["warm"] == 2 and codes["resume"] != 0
    with pytest.raises(InputError, match="no artifact's key"):
        api.load_run(path).load(api.load_run(path).points()[0].id)
    assert not (tmp_path / "run.zip").exists()
    dropping = called("resume", path, "--set", "run.keep=frontier")  # nor may retention delete there
    assert dropping.code != 0 and (path / "run.db").exists() and open_store(path, write=False).meta


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON lease BEGIN DELETE FROM events; END",
        "CREATE VIEW v AS SELECT * FROM events",
        "CREATE TABLE more (x)",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "CREATE INDEX i ON events (kind); DROP INDEX i; CREATE TABLE events2 AS SELECT * FROM events; DROP TABLE events;"
        " CREATE VIEW events AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM events2, n",
    ],
)
def test_triggers_views_and_other_tables(honest: Path, tmp_path: Path, outside: Path, statement: str) -> None:
    path = forged(honest, tmp_path / "run")
    folder = RunFolder.at(path)
    connection = sqlite3.connect(folder.db)
    connection.executescript(statement)
    connection.commit()
    connection.close()
    head = read_head(folder.head)
    create_head(folder.head, Head(0, head.number, head.crc, sqlite.digest(folder.db)))
    assert open_all(path, tmp_path, honest) == REFUSED
    assert "archsearch did not make" in called("status", path).stderr


def deep(events: list[Event]) -> list[Event]:
    nested: Any = {}
    for _ in range(900):
        nested = {"a": nested}
    return [replace(event, data={**event.data, "x": nested}) if event.number == 2 else event for event in events]


def numbered(job: Any) -> Callable[[list[Event]], list[Event]]:
    """The first job asked for says another number of itself: reports are named by it."""

    def changed(events: list[Event]) -> list[Event]:
        first = next(event for event in events if event.kind is EventKind.ASKED)
        return [replace(event, data={**event.data, "id": job}) if event is first else event for event in events]

    return changed


@pytest.mark.parametrize(
    "events",
    [
        numbered("x/../../../outside/pwn"),
        numbered(True),
        numbered([1]),
        lambda events: [
            replace(event, kind=EventKind.IMPORTED, data={"job": {"id": event.job}}) if event.kind is EventKind.TOLD else event
            for event in events
        ],
        lambda events: [replace(event, data={"spec": 5}) if event.kind is EventKind.ASKED else event for event in events],
    ],
)
def test_events_that_are_none(
    honest: Path, tmp_path: Path, outside: Path, events: Callable[[list[Event]], list[Event]]
) -> None:
    assert open_all(forged(honest, tmp_path / "run", events), tmp_path, honest) == REFUSED


def test_json_that_is_huge_or_deep(honest: Path, tmp_path: Path, outside: Path) -> None:
    path = forged(honest, tmp_path / "run")
    folder, connection = RunFolder.at(path), sqlite3.connect(path / "run.db")
    connection.execute("UPDATE meta SET value = zeroblob(200000000) WHERE key = 'config'")
    connection.commit()
    connection.close()
    head = read_head(folder.head)
    create_head(folder.head, Head(0, head.number, head.crc, sqlite.digest(folder.db)))
    assert open_all(path, tmp_path, honest) == REFUSED
    (path / "HEAD").write_bytes(b"\0" * 50_000_000)
    assert called("status", path).code == 2
    place = tmp_path / "deep"
    place.mkdir()
    open_all(forged(honest, place / "run", deep), place, honest)  # an answer each, whatever it is


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_pickles_that_call_themselves_safetensors(honest: Path, tmp_path: Path, outside: Path) -> None:
    payload = pickle.dumps(Bomb(outside / "exploded"))
    digest = hashlib.sha256(payload).hexdigest()
    path, refs = tmp_path / "run", {}

    def changed(events: list[Event]) -> list[Event]:
        made = []
        for event in events:
            data = json.loads(json.dumps(dict(event.data), default=dict))
            for name, ref in data.get("artifacts", {}).items():
                ref.update(sha256=digest, size=len(payload))
                refs[ref["key"]] = name
            spec = data.get("spec", {})
            for holder in (spec, spec.get("inherit") or {}) if isinstance(spec, dict) else ():
                for name in ("weights", "candidates"):
                    if holder.get(name):
                        holder[name].update(sha256=digest, size=len(payload))
            made.append(replace(event, data=data))
        return made

    forged(honest, path, changed)
    for key in refs:
        (path / key).write_bytes(payload)
    codes = open_all(path, tmp_path, honest, but=("report", "compare"))
    assert codes["resume"] == 3 and codes["warm"] == 3  # the first job that reads them stops the run, and names them
    run = api.load_run(path)
    with pytest.raises(StoreDamaged, match="no safetensors file"):
        run.load(run.points()[0].id)


def test_data_with_objects_in_it(honest: Path, tmp_path: Path, outside: Path) -> None:
    bombs = np.array([Bomb(outside / "exploded")] * 20, dtype=object)
    np.savez(tmp_path / "data.npz", x_train=bombs, y_train=bombs, x_test=bombs, y_test=bombs)
    text = _without_section(read_run(honest).meta["config"], "data")
    path = forged(honest, tmp_path / "run", config=f"data: {{name: npz, path: {tmp_path}/data.npz}}\n{text}")
    assert open_all(path, tmp_path, honest, but=("report", "compare", "warm"))["resume"] == 2


def test_places_that_it_names(honest: Path, tmp_path: Path, outside: Path) -> None:
    """Another run's artifacts, a cluster, a database server: none is touched because a stranger's folder says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        text = _without_section(read_run(honest).meta["config"], "cluster")
        path = forged(honest, tmp_path / "run", config=f"cluster: {{address: '127.0.0.1:{port}'}}\n{text}")
        said = called("resume", path, "--set", "search.max_hull_points=3")
        assert said.code == 2 and f"--address 127.0.0.1:{port}" in said.stderr
        assert called("evaluate", path).code == 2
        (path / "run.db").unlink()
        named = {"host": "127.0.0.1", "port": port, "database": "x", "schema": "archsearch_" + "0" * 32}
        (path / "store.json").write_text(json.dumps(named))
        assert open_all(path, tmp_path, honest) == REFUSED
        with pytest.raises(TimeoutError):
            server.accept()
    text = _without_section(read_run(honest).meta["config"], "run")
    mine = outside.parent / "mine" / "run" / "artifacts" / "000001" / "1" / "weights-0.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    path = forged(honest, tmp_path / "b" / "run", config=f"run: {{artifacts: {outside.parent}/mine}}\n{text}")
    said = called("resume", path, "--set", "search.max_hull_points=3")
    assert said.code == 2 and "not this run's" in said.stderr and mine.read_bytes() == b"mine"


def test_its_words_are_text_in_the_report(honest: Path, tmp_path: Path, outside: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    path = forged(honest, tmp_path / "run", name=evil, versions={evil: evil, **read_run(honest).meta["versions"]})
    assert called("report", path).code == 0
    page = (path / "report.html").read_text()
    assert "<script>alert(1)" not in page and "<img src=x" not in page and "alert(1)" in page
