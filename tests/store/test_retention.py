"""What ``run.keep`` drops and what it never does: read from searches that were run with it, stopped and killed in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from store_helpers import asked
from store_runs import archsearch, config, results

import archsearch as api
from archsearch.jobs import Event, EventKind, InputError, JobState, Stage
from archsearch.store import RunState, read_run
from archsearch.store.retention import unneeded

SEARCH = {"max_hull_points": 8, "convex_hull_eps": 0.0, "band_standard_errors": 0}


def conf(keep: str) -> dict:
    return config(run={"keep": keep}, search=SEARCH)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("keep")
    for keep in ("all", "pool", "frontier"):
        api.search(conf(keep), run_dir=place / keep)
    return {keep: place / keep for keep in ("all", "pool", "frontier")}


def files(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in (path / "artifacts").rglob("*") if file.is_file()}


def test_the_search_is_the_same_and_the_files_are_those_that_are_to_be_kept(runs: dict[str, Path]) -> None:
    found = {keep: api.load_run(path) for keep, path in runs.items()}
    assert results(runs["all"]) == results(runs["pool"]) == results(runs["frontier"])
    for keep, run in found.items():
        assert files(runs[keep]) == run.state.artifact_keys(), keep
        on_disk = sum((runs[keep] / key).stat().st_size for key in files(runs[keep]))
        assert run.disk["artifacts"] == on_disk == run.summary()["disk"]["artifacts"]
    weights = {keep: {key for key in files(path) if "/weights-" in key} for keep, path in runs.items()}
    points = found["all"].points()
    assert weights["all"] == weights["pool"] == {point.weights.key for point in points}
    front = {entry["id"] for entry in found["all"].frontier()}
    of_front = {point.weights.key for point in points if point.id in front}
    assert of_front <= weights["frontier"] < weights["pool"]
    searched = [record for record in found["all"].state.jobs.values() if record.job.stage is Stage.SEARCH]
    assert len(searched) >= 3 and len(files(runs["pool"])) < len(files(runs["all"]))


def test_verbs_on_a_run_that_kept_its_frontier_only(runs: dict[str, Path], tmp_path: Path) -> None:
    path = runs["frontier"]
    run = api.load_run(path)
    lost = [point.id for point in run.points() if point.weights is None]
    for entry in run.frontier():
        run.load(entry["id"])
    with pytest.raises(InputError, match=f"has not kept the weights of point {lost[0]}"):
        run.load(lost[0])
    warm = api.search(config(search={"max_hull_points": 9}), run_dir=tmp_path / "warm", warm_from=path)
    assert warm.meta["warm_from"]["left_out"] == {"no weights": lost}
    archsearch("runs", "export", path, "-o", tmp_path / "run.zip")
    settings = ["evaluation.seeds=1", "evaluation.train.epochs=1"]
    assert api.evaluate(path, points=[lost[0]], overrides=settings).outcome.state == "done"  # from scratch: no weights needed
    # What the frontier was grown from is there: its trainings can be repeated with other seeds.
    confirmed = api.resume(path, overrides=["search.confirm=1"])
    assert confirmed.outcome.state == "done" and confirmed.state.counts[JobState.ABANDONED] == 0
    status = archsearch("status", path).stdout
    assert "disk  weights" in status and "KiB" in status
    assert "KiB" in archsearch("runs", "--dir", path.parent).stdout


def dies(path: Path, point: str, occurrence: int) -> None:
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == point
        if seen == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    if (path / "run.db").exists():
        api.resume(path, reached=reached)
    else:
        api.search(conf("frontier"), run_dir=path, reached=reached)


def test_killed_between_the_word_and_the_deletion_nothing_is_lost(runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    for occurrence in (1, 2):
        child = multiprocessing.get_context("fork").Process(target=dies, args=(path, "collect", occurrence))
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL
        run = api.load_run(path)
        assert run.state.artifact_keys() < files(path)  # said to be dropped, and still there
    run = api.resume(path)
    assert run.outcome.state == "done" and results(path) == results(runs["all"])
    assert files(path) == run.state.artifact_keys()


def test_nothing_goes_that_a_job_or_a_child_to_come_needs(runs: dict[str, Path]) -> None:
    """At each moment of the search: what is dropped then is named by no later job, and is of no later frontier."""
    stored = read_run(runs["frontier"])
    asked_later: dict[int, str] = {
        event.number: json.dumps(dict(event.data), default=dict) for event in stored.events if event.kind is EventKind.ASKED
    }
    drops = [event for event in stored.events if event.kind is EventKind.COLLECTED]
    assert len(drops) >= 2
    for drop in drops:
        for number, text in asked_later.items():
            assert number < drop.number or not any(key in text for key in drop.data["keys"])
    final = api.load_run(runs["frontier"])
    front = {entry["id"] for entry in final.frontier()}
    assert unneeded(final.state, front, front).keys().isdisjoint(final.state.point(id_).weights.key for id_ in front)


def test_what_a_search_found_waits_for_its_child_and_its_parent_with_it() -> None:
    """Where several slots end searches before the children's turn comes. None of these points is on the frontier any more."""

    def ref(key: str) -> dict[str, object]:
        return {"key": key, "sha256": "0", "size": 10}

    def told(number: int, job: int, **artifacts: object) -> Event:
        data = {"attempt": 1, "metrics": {}, "artifacts": artifacts, "seconds": 1.0}
        return Event(number, 1.0, EventKind.TOLD, job, data)

    search = {"stage": Stage.SEARCH, "work": "petridish", "parent": 1, "spec": {"arch": {}, "weights": ref("parent")}}
    inherit = {"weights": ref("parent"), "candidates": ref("found")}
    child = {"stage": Stage.SEARCH_TRAINED, "parent": 2, "spec": {"arch": {}, "inherit": inherit}}
    events = [
        asked(1, 1),
        told(2, 1, weights=ref("parent")),
        asked(3, 2, **search),
        told(4, 2, candidates=ref("found")),
        asked(5, 3, **child),
        told(6, 3, weights=ref("child")),
    ]
    dropped = [set(unneeded(RunState(events[:count]), (), ())) for count in range(1, 7)]
    assert dropped == [set(), {"parent"}, set(), set(), set(), {"parent", "found", "child"}]
    assert set(unneeded(RunState(events), [3], [3])) == set()  # a member of the frontier, and what it was grown from
    assert set(unneeded(RunState(events), [1, 3], [])) == {"found"}  # keep: pool


def test_the_budget_of_disk_ends_the_search_and_more_lets_it_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    changed = {**config(search=SEARCH), "budget": {"disk_gb": 2e-5}}
    run = api.search(changed, run_dir=path)
    assert run.outcome.state == "done" and "budget.disk_gb = 2e-05 used up" in run.outcome.reason
    assert run.disk["artifacts"] >= 2e4 and len(run.points()) < 8
    more = api.resume(path, overrides=["budget.disk_gb=1"])
    assert more.outcome.state == "done" and len(more.points()) == 8
