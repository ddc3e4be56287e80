"""The same call starts a search and brings it to its end: ``or_resume``."""

from __future__ import annotations

import pytest

import archsearch
from archsearch import config as configuration
from archsearch.jobs import EventKind, InputError
from archsearch.store import open_store

SEARCH = """
data: {name: digits, max_train: 150}
search: {name: random, max_hull_points: 2}
seed_train: {epochs: 1, batch_size: 50, tensorwatch_stats: false}
post_train: {epochs: 1, batch_size: 50, tensorwatch_stats: false}
cluster: {executor: inline}
budget: {wall_clock: 1h}
tracking: {callbacks: [tensorwatch], tensorwatch: {port: "${PORT_TOKEN}"}}
"""


@pytest.fixture
def search(tmp_path, monkeypatch, stream_number):
    """Search with the configuration given again and other overrides, as a supervisor's command does."""
    monkeypatch.setenv("PORT_TOKEN", str(stream_number))
    (tmp_path / "conf.yaml").write_text(SEARCH)

    def again(*overrides: str):
        config = configuration.load(tmp_path / "conf.yaml", overrides=overrides)
        return archsearch.search(config, run_dir=tmp_path / "run", or_resume=True)

    return again


def settings(run) -> list[dict]:
    """What each session changed, as the history keeps it."""
    with open_store(run.path, write=False) as store:
        return [event.data["set"] for event in store.events() if event.kind is EventKind.BUDGET and "set" in event.data]


def test_it_begins_goes_on_and_takes_what_may_change(search):
    assert len(search().points()) == 2
    run = search("search.max_hull_points=3", "cluster.backoff=2s")
    assert len(run.points()) == 3
    # The second session's changes are kept, and the secret that the third needed again is not.
    archsearch.resume(run.path, overrides=["tracking={}", "budget.wall_clock=2h"])
    run = search("search.max_hull_points=4")
    assert len(run.points()) == 4
    assert settings(run) == [
        {},
        {"search.max_hull_points": 3, "cluster.backoff": 2.0},
        {"tracking": {}, "budget.wall_clock": "2h"},
        {"search.max_hull_points": 4},
    ]
    assert run.config["budget"].wall_clock == 7200, "a later session's change is not undone by what the first one said"


def test_what_is_searched_may_not_change(search):
    run = search()
    events = run.state.last_number
    with pytest.raises(InputError, match=r"data\.max_train was 150 when the run began and is 160 now"):
        search("data.max_train=160")
    assert archsearch.load_run(run.path).state.last_number == events


def test_without_it_a_run_is_not_touched(search, tmp_path):
    run = search()
    with pytest.raises(InputError, match="archsearch resume"):
        archsearch.search(tmp_path / "conf.yaml", run_dir=run.path)


def test_a_secret_that_is_written_out_is_not_kept_and_not_missed(search, tmp_path):
    """A store's address with a signature in it, as a careless user would write it."""
    place = f"run.artifacts={tmp_path}/weights?sig=hunter2"
    run = search(place)
    for file in run.path.rglob("*"):
        assert file.is_dir() or b"hunter2" not in file.read_bytes(), file
    with pytest.raises(InputError, match=r"--set run\.artifacts=VALUE"):
        archsearch.resume(run.path)
    assert len(search(place, "search.max_hull_points=3").points()) == 3
    assert len(list((tmp_path / "weights?sig=hunter2" / "run").rglob("*.safetensors"))) >= 3
