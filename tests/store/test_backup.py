"""Backups made beside a living driver: whole, checked, and runs of their own that go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from store_runs import archsearch, config, results

import archsearch as api
from archsearch import backup as backups
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.jobs import Event, InputError, StoreDamaged
from archsearch.store import Artifacts, RunState, read_run

SEARCH = {"max_hull_points": 5, "convex_hull_eps": 0.0}


class At(Observer):
    """Does something beside the living driver each time that so many results are in."""

    def __init__(self, told: set[int], step: Callable[[int], None]) -> None:
        self.told, self.step = told, step

    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        if loop.ledger.told in self.told:
            self.told.discard(loop.ledger.told)
            self.step(loop.ledger.told)

    def on_tick(self, loop: RunLoop) -> None:
        pass

    def on_message(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with its artifacts elsewhere, which drops what it does not need; copied while it went on, and at its end."""
    place = tmp_path_factory.mktemp("backup")
    path = place / "run"
    conf = config(run={"artifacts": str(place / "weights"), "keep": "frontier"}, search=SEARCH)
    observer = At({2, 4}, lambda told: archsearch("backup", path, place / f"copy{told}"))
    api.search(conf, run_dir=path, observer=observer)
    api.evaluate(path, top=1, overrides=["evaluation.seeds=1", "evaluation.train.epochs=1"])
    return path


def test_a_copy_made_while_the_driver_ran_goes_on_to_the_same_end_without_the_run(run: Path, tmp_path: Path) -> None:
    for told in (2, 4):
        copy = tmp_path / f"copy{told}"
        shutil.copytree(run.parent / copy.name, copy)
        events = read_run(copy).events
        assert events == read_run(run).events[: len(events)] and len(RunState(events).points()) >= 1
        assert all((copy / key).exists() for key in RunState(events).artifact_keys())
    hidden = run.parent / "hidden"
    (run.parent / "weights").rename(hidden)  # the copies have what they need
    try:
        assert api.resume(tmp_path / "copy4").outcome.state == "done"  # type: ignore[union-attr]
    finally:
        hidden.rename(run.parent / "weights")
    assert results(tmp_path / "copy4") == results(run)
    assert api.load_run(tmp_path / "copy4").load(api.load_run(run).frontier()[0]["id"]) is not None


def test_a_copy_has_the_evaluations_and_the_command_says_what_was_copied(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    said = json.loads(archsearch("backup", run, copy, "--json").stdout)
    assert said["backup"] == str(copy) and said["artifacts"] == sum(1 for _ in copy.rglob("*.safetensors"))
    assert said["events"] == len(read_run(copy).events) + len(read_run(copy / "evaluations/final").events)
    assert read_run(copy / "evaluations/final").events == read_run(run / "evaluations/final").events
    status = json.loads(archsearch("status", copy, "--json").stdout)
    assert {**status, "run": "", "disk": 0} == {**api.load_run(run).summary(), "run": "", "disk": 0}
    assert "checked" in archsearch("backup", copy, tmp_path / "again").stdout  # a backup of a backup
    archsearch("runs", "rm", copy, "--yes")  # it holds nothing that is not a run's own
    for wrong in (run, tmp_path / "again", run / "inside"):
        with pytest.raises(InputError):
            backups.backup(run, wrong)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(InputError, match="not this run's"):
        backups.backup(run, tmp_path / "other")


def test_cut_short_it_goes_on_and_damage_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, written = Artifacts.put, []

    def dying(self: Artifacts, ref, payload: bytes) -> None:  # type: ignore[no-untyped-def]
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(ref.key)
        put(self, ref, payload)

    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "put", dying)
        with pytest.raises(KeyboardInterrupt):
            backups.backup(run, tmp_path / "copy")
    with pytest.raises(InputError):
        read_run(tmp_path / "copy")
    before = {key: os.stat(tmp_path / "copy" / key).st_ino for key in written}
    assert backups.backup(run, tmp_path / "copy").artifacts > 2
    assert {key: os.stat(tmp_path / "copy" / key).st_ino for key in written} == before  # not copied a second time
    weights = next((run.parent / "weights").rglob("*.safetensors"))
    content = weights.read_bytes()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreDamaged, match=weights.name):
            backups.backup(run, tmp_path / "second")
        assert not (tmp_path / "second" / "run.db").exists()
    finally:
        weights.write_bytes(content)
