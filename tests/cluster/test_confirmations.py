"""A real search whose frontier is trained again with other seeds: killed in that part of it, extended, drained or cancelled."""

from __future__ import annotations

import pytest
from small_run import asked, finish, history, killed_at, results, small

from archsearch import api
from archsearch.jobs import EventKind
from archsearch.simulation import simulate

#: The small search, ended after two seeds and two children, and then confirmed.
SMALL = small(search={"max_hull_points": 4, "confirm": 2})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(path, SMALL)
    return path


def stages(path):
    return [data["stage"] for _, kind, _, data in history(path) if kind is EventKind.ASKED]


def test_the_frontier_that_is_reported_is_the_confirmed_one(undisturbed):
    run = api.load_run(undisturbed)
    found = run.summary()
    frontier = run.frontier()
    assert found["confirmed"] and found["state"] == "done" and frontier
    points = {point.id: point for point in run.points()}
    for entry in frontier:
        own = [record for record in run.state.jobs.values() if record.job.stage == "EVAL_TRAINED"]
        errors = [record.metrics["val_error"] for record in own if record.job.parent == entry["id"]]
        assert entry["confirmations"] == errors and len(errors) == 2
        assert entry["error"] == pytest.approx(sum(errors) / 2)
        assert entry["selected_error"] == points[entry["id"]].metrics["val_error"]
    weights = {record.artifacts["weights"].sha256 for record in run.state.jobs.values() if "weights" in record.artifacts}
    trainings = [record for record in run.state.jobs.values() if record.job.work == "train"]
    assert len(weights) == len(trainings), "other seeds give other weights"
    assert "confirmed error" in (undisturbed / "report.html").read_text()


@pytest.mark.parametrize("point", ["commit.before", "artifact.after", "submit.before"])
def test_killed_while_it_confirms_again_and_again(point, undisturbed, tmp_path):
    path = tmp_path / "run"
    search = sum(stage not in ("EVAL", "EVAL_TRAINED") for stage in stages(undisturbed))
    first = {"artifact.after": search + 1}.get(point, 2 * search + 2)  # past the search's own jobs
    assert killed_at(path, SMALL, point, first)
    committed = []
    for occurrence in (1, 3 if point == "commit.before" else 2):
        assert killed_at(path, SMALL, point, occurrence), "the run ended before the kill"
        now = history(path)
        assert now[: len(committed)] == committed and "EVAL_TRAINED" in stages(path)
        committed = now
    finish(path, SMALL)
    assert asked(path) == asked(undisturbed) and results(path) == results(undisturbed)
    assert api.load_run(path).frontier() == api.load_run(undisturbed).frontier()


def test_when_running_jobs_are_cancelled_confirmations_are_not(tmp_path):
    """In virtual time: with one job at a time nothing would run when the driver looks."""
    config = small(search={"max_hull_points": 6, "confirm": 2}, budget={"when_reached": "cancel"})
    run = simulate(config, slots=3, run_dir=tmp_path / "run").run
    ends = {record.job.stage: set() for record in run.state.jobs.values()}
    for record in run.state.jobs.values():
        ends[record.job.stage].add(str(record.state))
    assert ends["EVAL_TRAINED"] == ends["EVAL"] == {"completed"} and run.summary()["confirmed"]


def test_a_finished_search_is_confirmed_later_and_again_after_it_was_extended(tmp_path):
    run = api.search(small(search={"max_hull_points": 2}), run_dir=tmp_path / "run")
    assert not run.summary()["confirmed"] and "EVAL_TRAINED" not in stages(run.path)
    run = api.resume(run.path, overrides=["search.confirm=1"])
    assert run.summary()["confirmed"] and all(len(entry["confirmations"]) == 1 for entry in run.frontier())
    run = api.resume(run.path, overrides=["search.max_hull_points=5"])
    assert run.summary()["confirmed"] and len(run.points()) >= 5
    again = [
        data["parent"] for _, kind, _, data in history(run.path) if kind is EventKind.ASKED and data["stage"] == "EVAL_TRAINED"
    ]
    assert len(set(again)) == len(again), "what was confirmed before is not confirmed again"


def test_points_of_an_earlier_run_are_confirmed_too(undisturbed, tmp_path):
    run = api.search(small(search={"max_hull_points": 6, "confirm": 1}), run_dir=tmp_path / "run", warm_from=undisturbed)
    imported = {point.id for point in run.points() if point.origin is not None}
    confirmed = {record.job.parent: record for record in run.state.jobs.values() if record.job.stage == "EVAL_TRAINED"}
    assert run.outcome.state == "done" and imported & confirmed.keys() and run.summary()["confirmed"]
    assert all(record.metrics for record in confirmed.values())
