"""A search that starts from an earlier run's pool: what is taken, what is refused, and that the old run is not needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch import api
from archsearch.arch import Architecture
from archsearch.jobs import EventKind, InputError, Stage, StoreDamaged
from archsearch.store import open_store

CONFIG: dict[str, Any] = {
    "run": {"name": "first", "seed": 5},
    "data": {"name": "digits", "max_train": 200},
    "search": {"name": "petridish", "init_node_ch": [2, 3], "max_hull_points": 5, "band_standard_errors": 2},
    "seed_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline"},
}


def config(**changes: Any) -> dict[str, Any]:
    return {name: {**section, **changes.get(name, {})} for name, section in {**{k: {} for k in changes}, **CONFIG}.items()}


def events(path: Path) -> list[Any]:
    with open_store(path, write=False) as store:
        return list(store.events())


def asked(path: Path) -> list[dict[str, Any]]:
    return [event.data for event in events(path) if event.kind is EventKind.ASKED]


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> archsearch.Run:
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("old") / "first")


@pytest.fixture(scope="module")
def new(old, tmp_path_factory) -> archsearch.Run:
    """Warm from ``old``, with a seed of width 4 that is not there; then ``old`` (a copy of it) is removed."""
    place = tmp_path_factory.mktemp("new")
    shutil.copytree(old.path, place / "first")
    changed = config(run={"name": "second", "seed": 6}, search={"init_node_ch": [2, 3, 4], "max_hull_points": 8})
    run = archsearch.search(changed, run_dir=place / "second", warm_from=place / "first")
    shutil.rmtree(place / "first")
    return run


def test_the_pool_begins_with_the_points_and_their_weights(old, new):
    taken = new.points()[: len(old.points())]
    assert [event.kind for event in events(new.path)][: len(taken) + 1] == [EventKind.IMPORTED] * len(taken) + [
        EventKind.BUDGET
    ]
    parents = {None: None}
    for point, origin in zip(taken, old.points(), strict=True):
        assert point.arch == origin.arch and point.stage == origin.stage
        assert point.weights.sha256 == origin.weights.sha256 and (new.path / point.weights.key).is_file()
        assert point.origin == {"run": "first", "id": old.meta["id"], "point": origin.id}
        assert new.state.jobs[point.id].metrics == old.state.jobs[origin.id].metrics, (
            "of the training; the test is the new run's"
        )
        assert point.parent == parents[origin.parent], "lineage as it was"
        parents[origin.id] = point.id
    assert new.outcome.state == "done" and any(point.parent is not None for point in taken)
    assert new.summary()["warm_from"]["points"] == len(taken) and new.summary()["warm_from"]["left_out"] == {}


def test_nothing_is_trained_twice_and_children_inherit_from_the_copies(old, new):
    there = {Architecture.from_json(point.arch).hash for point in old.points()}
    trainings = [job for job in asked(new.path) if job["work"] == "train"]
    assert trainings and not {job["spec"]["hash"] for job in trainings} & there
    seeds = [job for job in trainings if job["stage"] == Stage.SEED_TRAINED]
    assert [job["spec"]["arch"]["channels"] for job in seeds] == [4], "the seeds of width 2 and 3 are there"
    origins = {point.weights.key for point in new.points() if point.origin}
    inherited = {job["spec"]["inherit"]["weights"]["key"] for job in trainings if job["spec"]["inherit"]}
    assert inherited & origins, "a child grew from a point of the old run"
    assert min(job["id"] for job in asked(new.path)) == len(origins) + 1


def test_the_old_runs_compute_does_not_count(old, new):
    assert new.state.device_seconds == pytest.approx(
        sum(event.data["seconds"] for event in events(new.path) if event.kind is EventKind.TOLD)
    )
    searcher = api.plan(new.config).searcher
    for event in events(new.path):
        searcher.apply(event)
    searching = {job["id"] for job in asked(new.path) if job["work"] != "test"}
    told = [event.data for event in events(new.path) if event.kind is EventKind.TOLD and event.job in searching]
    assert searcher.compute == sum(data["metrics"]["compute_madds"] for data in told) > 0
    assert searcher.device_seconds == pytest.approx(sum(data["seconds"] for data in told))


def test_budget_jobs_counts_new_jobs_only(old, tmp_path):
    run = archsearch.search(
        config(search={"max_hull_points": None, "test_frontier": False}, budget={"jobs": 2}),
        run_dir=tmp_path / "run",
        warm_from=old,
    )
    assert len(asked(run.path)) == 2 and "budget.jobs = 2" in run.outcome.reason


def test_the_old_run_is_not_needed(new):
    taken = next(point for point in new.points() if point.origin)
    assert taken.parent is None and new.load(taken.id) is not None
    before = len(new.points())
    files = new.report()
    assert len(files) > 5
    more = archsearch.resume(new.path, overrides=[f"search.max_hull_points={before + 1}"])
    assert more.outcome.state == "done" and len(more.points()) == before + 1
    assert [point.id for point in more.points()][:before] == [point.id for point in new.points()]


def test_reports_say_where_points_come_from(new):
    assert "first 1" in str([row for row in _table(new)])
    assert '["taken from","first, point 1"]' in (new.path / "report.html").read_text()
    entry = next(entry for entry in new.summary()["frontier"] if "origin" in entry)
    text = (new.path / "model_desc_gallery" / f"model_desc_{entry['id']}.yaml").read_text()
    assert f"taken from first {entry['origin']['point']}" in text
    own = [entry for entry in new.summary()["band"] if entry["id"] > new.summary()["warm_from"]["points"]]
    assert all("origin" not in entry for entry in own)


def _table(run: archsearch.Run) -> list[str]:
    from archsearch.report import frontier_table

    columns = frontier_table(run.points(), **{**api.frontier_settings(run.config), "cost": "params"}).columns
    return [str(cell) for column in columns for cell in column.cells]


def test_points_that_do_not_fit_are_left_out_and_named(old, tmp_path):
    widths = {point.id: point.arch["channels"] for point in old.points()}
    said: list[str] = []

    class Heard(archsearch.cluster.observer.Observer):
        def on_message(self, text: str) -> None:
            said.append(text)

        def on_events(self, loop: Any, events: Any) -> None: ...

        def on_tick(self, loop: Any) -> None: ...

    narrow = config(search={"init_node_ch": 3, "max_hull_points": 6})
    run = archsearch.search(narrow, run_dir=tmp_path / "run", warm_from=old.path, observer=Heard())
    fits = [id_ for id_, width in widths.items() if width == 3]
    assert [point.origin["point"] for point in run.points() if point.origin] == fits
    left = run.meta["warm_from"]["left_out"]
    assert left == {"2 channels, not 3": [id_ for id_ in widths if id_ not in fits]}
    text = next(text for text in said if text.startswith("starting from"))
    assert text.startswith(f"starting from {len(fits)} of the {len(widths)} points of {old.path}; not taken: ")
    assert "(2 channels, not 3: 1" in text


def test_a_run_that_is_being_driven_can_be_taken_from(old, tmp_path):
    shutil.copytree(old.path, tmp_path / "first")
    with open_store(tmp_path / "first", write=True):
        run = archsearch.search(config(search={"max_hull_points": 6}), run_dir=tmp_path / "run", warm_from=tmp_path / "first")
    assert len(run.points()) == 6


def test_a_warm_run_can_be_taken_from(new, tmp_path):
    changed = config(search={"init_node_ch": [2, 3, 4], "max_hull_points": 12})
    run = archsearch.search(changed, overrides=["budget.jobs=1"], run_dir=tmp_path / "third", warm_from=new.path)
    assert [p.weights.sha256 for p in run.points()][:5] == [p.weights.sha256 for p in new.points()][:5]
    assert run.points()[0].origin["run"] == "second"


# --------------------------------------------------------------------------------------------------------- what is refused
def damaged_weights(path: Path) -> None:
    file = sorted((path / "artifacts").rglob("weights*"))[-1]
    content = file.read_bytes()
    file.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


def missing_weights(path: Path) -> None:
    for file in (path / "artifacts").rglob("weights*"):
        file.unlink()


def damaged_log(path: Path) -> None:
    content = bytearray((path / "run.db").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "run.db").write_bytes(content)


def nothing(path: Path) -> None: ...


BAD: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "damaged weights": (damaged_weights, {}, "weights.* is not what was written"),
    "missing weights": (missing_weights, {}, r"artifact artifacts/\S+ is missing"),
    "damaged log": (damaged_log, {}, "was changed after the run was closed"),
    "no run": (lambda path: shutil.rmtree(path), {}, "there is no run in"),
    "other data": (nothing, {"data": {"max_train": 150}}, "it searched other data .*digits, hash"),
    "none fits": (
        nothing,
        {"search": {"init_node_ch": [8]}},
        "none of its 5 points fits.*2 channels, not 8: 1.*Change the section",
    ),
    "over at once": (nothing, {"search": {"max_hull_points": 4}}, "would be over at once .*max_hull_points = 4 reached.*=10"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_writes_nothing(case, old, tmp_path):
    spoil, changes, message = BAD[case]
    shutil.copytree(old.path, tmp_path / "first")
    spoil(tmp_path / "first")
    before = sorted(os.walk(tmp_path))
    with pytest.raises((InputError, StoreDamaged), match=message) as caught:
        archsearch.search(
            config(search={"max_hull_points": 9} | changes.get("search", {}), data=changes.get("data", {})),
            run_dir=tmp_path / "new",
            warm_from=tmp_path / "first",
        )
    assert caught.value.exit_code == 2 and sorted(os.walk(tmp_path)) == before


def test_a_folder_that_holds_a_run_is_left_as_it_is(old, new):
    before = {file: file.stat().st_mtime_ns for file in new.path.rglob("*")}
    with pytest.raises(InputError, match="holds a run"):
        archsearch.search(config(search={"max_hull_points": 9}), run_dir=new.path, warm_from=old.path)
    with pytest.raises(InputError, match="holds a run"):
        archsearch.search(config(search={"max_hull_points": 9}), run_dir=old.path, warm_from=old.path)
    assert {file: file.stat().st_mtime_ns for file in new.path.rglob("*")} == before


def test_a_run_without_points_and_one_that_was_simulated(old, tmp_path):
    with pytest.raises(InputError):
        archsearch.search(CONFIG, overrides=["seed_train.lr=1e30"], run_dir=tmp_path / "x", warm_from=tmp_path / "nowhere")
    failed = archsearch.search(CONFIG, overrides=["seed_train.lr=1e30"], run_dir=tmp_path / "failed")
    assert failed.outcome.state == "failed" and not failed.points()
    with pytest.raises(InputError, match="it has no trained point yet"):
        archsearch.search(CONFIG, run_dir=tmp_path / "run", warm_from=failed)
    old.meta = {**old.meta, "simulated": True}
    try:
        with pytest.raises(InputError, match="it was simulated"):
            archsearch.search(CONFIG, run_dir=tmp_path / "run", warm_from=old)
    finally:
        old.meta = {**old.meta, "simulated": False}
    assert not (tmp_path / "run").exists()
