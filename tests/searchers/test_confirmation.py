"""Band and frontier are trained again with other seeds once the search has ended, before the test split is looked at."""

from __future__ import annotations

from collections import Counter

import pytest
from searcher_bench import ALL, Bench, growth, petridish

from archsearch.jobs import EVALUATION_STAGES, Event, EventKind, Job, Stage


def by_stage(bench, stage):
    return [job for job in bench.asked if job.stage is stage]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("slots", [1, 3])
def test_every_member_of_the_frontier_is_trained_again_so_often(make, slots):
    bench = Bench(make(max_hull_points=12, confirm=2), slots=slots).run()
    pool = bench.searcher.pool
    wanted = {*pool.frontier.band(), *pool.frontier.front()}
    assert len(wanted) >= 3
    confirmations = by_stage(bench, Stage.EVAL_TRAINED)
    assert Counter(job.parent for job in confirmations) == dict.fromkeys(wanted, 2)
    trainings = {job.id: job for job in bench.asked if job.id in pool.points}
    for job in confirmations:
        was = trainings[job.parent]
        assert {key: was.spec[key] for key in job.spec} == job.spec and "inherit" in job.spec, "trained as it was"
        assert job.work == "train" and job.resources == was.resources
    assert len({job.seed for job in [*confirmations, *trainings.values()]}) == len(confirmations) + len(trainings)
    assert not {job.id for job in confirmations} & set(pool.points), "none enters the pool"


def test_first_the_search_then_every_point_once_then_again_then_the_tests():
    bench = Bench(petridish(max_hull_points=12, confirm=2), slots=3)
    while bench.step():
        stages = {job.stage for job in bench.open}
        assert not (stages & EVALUATION_STAGES and stages - EVALUATION_STAGES), "the search has ended before"
        assert len(stages & EVALUATION_STAGES) < 2, "confirmations have ended before the first test"
    order = [job.stage for job in bench.asked if job.stage in EVALUATION_STAGES]
    tests = by_stage(bench, Stage.EVAL)
    assert order == [Stage.EVAL_TRAINED] * (2 * len(tests)) + [Stage.EVAL] * len(tests)
    turns = [job.parent for job in by_stage(bench, Stage.EVAL_TRAINED)]
    assert turns[: len(tests)] == turns[len(tests) :] == sorted(turns[: len(tests)])
    weights = {job.parent: job.spec["weights"]["key"] for job in tests}
    assert weights == {point: f"artifacts/{point}" for point in weights}, "the points' own weights are tested"


def test_none_unless_asked_for():
    assert not by_stage(Bench(petridish(max_hull_points=12)).run(), Stage.EVAL_TRAINED)


@pytest.mark.parametrize("make", [petridish, growth])
def test_a_searcher_made_from_the_history_asks_for_the_rest(make):
    def maker():
        return make(max_hull_points=8, confirm=2)

    whole = Bench(maker(), slots=2).run()
    first = next(i for i, event in enumerate(whole.events) if event.data.get("stage") == "EVAL_TRAINED")
    for stop in range(first, len(whole.events)):
        bench = Bench(maker(), slots=2)
        for event in whole.events[:stop]:
            bench.events.append(event)
            bench.searcher.apply(event)
        ended = {event.job for event in bench.events if event.kind is not EventKind.ASKED}
        bench.open = [job for job in bench.asked if job.id not in ended]
        bench.run()
        assert bench.asked == whole.asked


def test_one_that_fails_is_not_tried_again_and_does_not_stop_the_others():
    bench = Bench(petridish(max_hull_points=8, confirm=2)).run(fail=lambda job: job.stage is Stage.EVAL_TRAINED)
    asked = Counter(job.parent for job in by_stage(bench, Stage.EVAL_TRAINED))
    assert set(asked.values()) == {2} and len(by_stage(bench, Stage.EVAL)) == len(asked)


def test_confirmations_count_against_no_budget_of_the_search():
    short = Bench(petridish({"jobs": 9, "device_hours": 1, "compute": 1e12}, confirm=3)).run()
    spent = short.searcher.device_seconds
    assert len(by_stage(short, Stage.EVAL_TRAINED)) >= 6
    searched = [job for job in short.asked if job.stage not in EVALUATION_STAGES]
    assert len(searched) == 9 and spent == sum(1.0 if job.work == "petridish" else 2.0 for job in searched)
    more = Event(len(short.events) + 1, 0.0, EventKind.BUDGET, None, {"resumed": True, "set": {"budget.jobs": 15}})
    short.events.append(more)
    short.searcher.apply(more)
    short.run()
    assert len([job for job in short.asked if job.stage not in EVALUATION_STAGES]) == 15


def test_after_more_search_only_what_is_new_on_the_frontier_is_confirmed():
    bench = Bench(petridish(max_hull_points=6, confirm=2)).run()
    before = Counter(job.parent for job in by_stage(bench, Stage.EVAL_TRAINED))
    bench.emit(EventKind.BUDGET, None, {"resumed": True, "set": {"search.max_hull_points": 14}})
    bench.run()
    after = Counter(job.parent for job in by_stage(bench, Stage.EVAL_TRAINED))
    frontier = bench.searcher.pool.frontier
    assert after.keys() - before.keys() and set(after.values()) == {2}
    assert {*frontier.band(), *frontier.front()} <= after.keys()


def test_confirmations_may_be_asked_for_when_the_search_is_over():
    bench = Bench(petridish(max_hull_points=6)).run()
    bench.emit(EventKind.BUDGET, None, {"resumed": True, "set": {"search.confirm": 1}})
    bench.run()
    tests, confirmations = by_stage(bench, Stage.EVAL), by_stage(bench, Stage.EVAL_TRAINED)
    assert sorted(job.parent for job in confirmations) == sorted(job.parent for job in tests)


@pytest.mark.parametrize("warm_start", ["parent", "none"])
def test_a_point_of_an_earlier_run_is_trained_on_or_from_scratch(warm_start):
    searcher = petridish(max_hull_points=4, confirm=1)
    searcher.around.settings["post_train"]["warm_start"] = warm_start
    arch = searcher.seeds[0]
    ref = {"key": "artifacts/1", "sha256": "0" * 64, "size": 1}
    job = Job(1, Stage.SEED_TRAINED, "train", {"arch": arch.to_json(), "hash": arch.hash}, 0)
    metrics = {"madds": 1, "params": 1, "val_error": 0.001, "val_standard_error": 0.001}
    bench = Bench(searcher)
    try:
        bench.emit(EventKind.IMPORTED, 1, {"job": job.to_json(), "metrics": metrics, "artifacts": {"weights": ref}})
        bench.events.clear()
        bench.run()
        (again,) = [job for job in by_stage(bench, Stage.EVAL_TRAINED) if job.parent == 1]
    finally:
        searcher.around.settings["post_train"]["warm_start"] = "parent"
    if warm_start == "parent":
        assert again.spec["inherit"] == {"kind": "same", "parent": arch.to_json(), "weights": ref}
        assert again.spec["train"] == searcher.around.settings["post_train"]
    else:
        assert again.spec["inherit"] is None and again.spec["train"] == searcher.around.settings["seed_train"]
