"""``search.error`` from the configuration to the frontier: a search after the balanced error, on data with a common class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import SMALL, called

import archsearch as library
from archsearch.data import DataSection, load
from archsearch.jobs import InputError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run on digits of which most are zeros."""
    place = tmp_path_factory.mktemp("skewed")
    digits = load(DataSection())
    keep = np.flatnonzero((digits.y_train == 0) | (np.arange(len(digits.y_train)) % 8 == 0))
    arrays = {
        "x_train": digits.x_train[keep],
        "y_train": digits.y_train[keep],
        "x_test": digits.x_test,
        "y_test": digits.y_test,
    }
    np.savez(place / "skewed.npz", **arrays)
    search = {**SMALL["search"], "error": "val_balanced_error"}
    config = {**SMALL, "run": {"name": "skewed", "seed": 2}, "data": {"name": "npz", "path": "skewed.npz"}, "search": search}
    (place / "skewed.yaml").write_text(yaml.safe_dump(config))
    (place / "log").write_text(called("search", "skewed.yaml", cwd=place).stderr)
    return place


def test_the_frontier_is_of_that_error(place: Path) -> None:
    status = json.loads(called("status", "runs/skewed", "--json", cwd=place).stdout)
    assert status["error"] == "val_balanced_error"
    points = {point.id: point for point in library.load_run(place / "runs" / "skewed").points()}
    for entry in status["frontier"]:
        metrics = points[entry["id"]].metrics
        assert entry["error"] == metrics["val_balanced_error"] != metrics["val_error"]
        assert metrics["val_balanced_standard_error"] > 0
    assert status["best"]["error"] == min(point.metrics["val_balanced_error"] for point in points.values())
    assert "balanced error %" in called("status", "runs/skewed", cwd=place).stdout
    assert ": balanced validation error " in (place / "log").read_text()
    assert "balanced validation error" in (place / "runs" / "skewed" / "report.html").read_text()


def test_the_band_that_parents_come_from_is_of_that_error(place: Path) -> None:
    """The searcher's own pool, folded again from the run's events."""
    from archsearch import api
    from archsearch.store import open_store

    run = library.load_run(place / "runs" / "skewed")
    searcher = api.plan(run.config, directory=str(place)).searcher
    with open_store(run.folder, write=False) as store:
        for event in store.events():
            searcher.apply(event)
    assert sorted(searcher.pool.frontier.hull()) == sorted(entry["id"] for entry in run.summary()["hull"])
    assert sorted(searcher.pool.frontier.band()) == sorted(entry["id"] for entry in run.summary()["band"])
    assert {id_: point.error for id_, point in searcher.pool.points.items()} == {
        point.id: point.metrics["val_balanced_error"] for point in run.points()
    }


def test_dry_run_says_it_and_resume_refuses_it(place: Path) -> None:
    said = json.loads(called("search", "skewed.yaml", "--dry-run", "--json", cwd=place).stdout)
    assert said["frontier"] == {"cost": "madds", "error": "val_balanced_error"}
    assert "balanced validation error against madds" in called("search", "skewed.yaml", "--dry-run", cwd=place).stdout
    before = json.loads(called("status", "runs/skewed", "--json", cwd=place).stdout)
    done = called("resume", "runs/skewed", "--set", "search.error=val_error", cwd=place, code=2)
    assert "search.error" in done.stderr
    assert json.loads(called("status", "runs/skewed", "--json", cwd=place).stdout) == before
    wrong = called("search", "skewed.yaml", "--set", "search.error=balanced", cwd=place, code=2)
    assert "val_balanced_error" in wrong.stderr


def test_runs_are_compared_by_the_error_that_both_were_after(place: Path) -> None:
    called("search", "skewed.yaml", "--run-dir", "runs/plain", "--set", "search.error=val_error", cwd=place)
    called("search", "skewed.yaml", "--run-dir", "runs/again", "--seed", "3", cwd=place)
    both = json.loads(called("runs", "compare", "runs/skewed", "runs/again", "--json", cwd=place).stdout)
    mixed = json.loads(called("runs", "compare", "runs/skewed", "runs/plain", "--json", cwd=place).stdout)
    assert (both["error"], mixed["error"]) == ("val_balanced_error", "val_error")
    assert "balanced validation error" in called("runs", "compare", "runs/skewed", "runs/again", cwd=place).stdout


def test_an_unknown_error_is_refused() -> None:
    with pytest.raises(InputError, match="val_balanced_error"):
        library.search({**SMALL, "search": {**SMALL["search"], "error": "val_loss"}})
