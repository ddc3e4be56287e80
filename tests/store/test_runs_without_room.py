"""Searches whose disk is full, or whose database another process holds: they say so, wait, lose nothing and go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_runs import config, results
from test_store_log import fill, small_disk  # noqa: F401 - a fixture

import archsearch
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.jobs import Event, EventKind
from archsearch.store import read_run, sqlite

POINTS = {"max_hull_points": 4}


class Trouble(Observer):
    """Makes trouble once two jobs are done, and ends it when the run has said so a few times."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self.begin, self.end = begin, end
        self.told = 0
        self.said: list[str] = []

    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        before = self.told
        self.told += sum(event.kind is EventKind.TOLD for event in events)
        if before < 2 <= self.told:
            self.begin()

    def on_tick(self, loop: RunLoop) -> None:
        pass

    def on_message(self, text: str) -> None:
        if "paused" in text:
            self.said.append(text)
            if len(self.said) == 3:
                self.end()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    archsearch.search(config(search=POINTS), run_dir=path)
    return path


def disturbed(path: Path, trouble: Trouble, undisturbed: Path, **run: str) -> list[str]:
    """Search, and compare with what comes without trouble; what was said of it."""
    found = archsearch.search(config(run=run, search=POINTS), run_dir=path, observer=trouble)
    assert found.outcome is not None and found.outcome.state == "done" and len(trouble.said) >= 3
    assert results(path) == results(undisturbed)
    assert all(event.kind is not EventKind.FAILED for event in read_run(path).events)  # no attempt was spent on it
    return trouble.said


def test_no_room_for_weights(small_disk: Path, undisturbed: Path) -> None:  # noqa: F811
    ballast = small_disk / "ballast"
    trouble = Trouble(lambda: fill(ballast), ballast.unlink)
    said = disturbed(small_disk / "run", trouble, undisturbed)
    assert all("No space left" in text and "trying again in" in text for text in said), said
    assert not list(small_disk.rglob(".writing-*"))


def test_no_room_for_the_log(small_disk: Path, undisturbed: Path, tmp_path: Path) -> None:  # noqa: F811
    ballast = small_disk / "ballast"
    trouble = Trouble(lambda: fill(ballast), ballast.unlink)
    said = disturbed(small_disk / "run", trouble, undisturbed, artifacts=str(tmp_path / "weights"))
    assert all("run.db is not available" in text and "nothing is lost" in text for text in said), said


def test_the_database_is_locked_by_another_process(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.5)  # until it is said; then it is tried again as ever
    path, others = tmp_path / "run", []
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('BEGIN IMMEDIATE'); print('held', flush=True); input()"

    def lock() -> None:
        command = [sys.executable, "-c", script, str(path / "run.db")]
        others.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert others[0].stdout.readline() == "held\n"

    def release() -> None:
        others[0].kill()
        others[0].communicate()

    said = disturbed(path, Trouble(lock, release), undisturbed)
    assert all("locked by another process" in text and "trying again in" in text for text in said), said
