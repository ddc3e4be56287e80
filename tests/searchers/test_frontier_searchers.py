"""Searchers as folds: order of work, lineage, budgets, purity, equality after a replay."""

from __future__ import annotations

import pytest
from searcher_bench import ALL, SETTINGS, SPACE, Bench, growth, petridish

from archsearch.arch import Architecture, cost
from archsearch.jobs import EventKind, InputError, Stage
from archsearch.searchers.petridish import Petridish, PetridishConfig
from archsearch.searchers.surroundings import Surroundings


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("slots", [1, 3])
def test_ids_are_unique_and_lineage_is_complete(make, slots):
    bench = Bench(make(max_hull_points=12), slots).run()
    jobs = {job.id: job for job in bench.asked}
    assert list(jobs) == list(range(1, len(bench.asked) + 1))
    for job in jobs.values():
        if job.stage is Stage.SEED_TRAINED:
            assert job.parent is None
        elif job.stage is Stage.SEARCH_TRAINED:
            above = jobs[job.parent]
            assert (
                above.stage is Stage.SEARCH if make is petridish else above.stage in (Stage.SEED_TRAINED, Stage.SEARCH_TRAINED)
            )
        elif job.stage is Stage.SEARCH:
            assert jobs[job.parent].stage in (Stage.SEED_TRAINED, Stage.SEARCH_TRAINED)
    assert len({job.seed for job in jobs.values()}) == len(jobs)


@pytest.mark.parametrize("make", ALL)
def test_no_architecture_is_trained_twice(make):
    bench = Bench(make(max_hull_points=25), 3).run()
    hashes = [job.spec["hash"] for job in bench.asked if job.work == "train"]
    assert len(hashes) >= 25 and len(hashes) == len(set(hashes))


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_replay_at_any_event_decides_the_same(make, slots):
    whole = Bench(make(max_hull_points=22), slots).run()
    for cut in range(len(whole.events)):
        again = make(max_hull_points=22)
        for event in whole.events[:cut]:
            again.apply(event)
        if whole.events[cut].kind is EventKind.ASKED:
            free = slots
            assert [job.to_json() for job in again.ask({"train": free, "search": free})] == [whole.events[cut].data]


def tight(**keys):
    """Petridish in a space so small that parents are exhausted, and in the end all of them."""
    keys = {"init_node_ch": 2, "primitives": ["max_pool_3x3", "skip_connect"], "edges_per_node": 1, **keys}
    return petridish(**keys, max_madd=1.2 * max(cost(arch).madds for arch in petridish(**keys).seeds))


@pytest.mark.parametrize("slots", [1, 4])
def test_a_replay_at_any_event_knows_the_same_parents_exhausted(slots):
    bench = Bench(tight(), slots)
    known = []
    while bench.step():
        capacity = {"train": 1, "search": 1}
        asked = [job.to_json() for job in bench.searcher.ask(capacity)]
        exhausted = [point.id for point in bench.searcher.pool.points.values() if point.exhausted]
        known.append((len(bench.events), asked, exhausted, bench.searcher.done))
    assert known[-1][2] and "nothing is left" in known[-1][3]
    for length, asked, exhausted, done in known[:: 1 + len(known) // 100] + known[-1:]:
        again = tight()
        for event in bench.events[:length]:
            again.apply(event)
        assert [job.to_json() for job in again.ask({"train": 1, "search": 1})] == asked
        assert [point.id for point in again.pool.points.values() if point.exhausted] == exhausted
        assert again.done == done


def test_reading_a_history_chooses_no_child_again(monkeypatch):
    bench = Bench(tight(), 3).run(most=2000)
    calls = []
    monkeypatch.setattr("archsearch.searchers.petridish.grow_node", lambda *given: calls.append(given))
    again = tight()
    for event in bench.events:
        again.apply(event)
    assert not calls


@pytest.mark.parametrize("make", ALL)
def test_ask_is_pure(make):
    bench = Bench(make(max_hull_points=60), 2)
    for _ in range(25):
        bench.step()
        capacity = {"train": 1, "search": 1}
        assert bench.searcher.ask(capacity) == bench.searcher.ask(capacity)


def test_children_come_before_seeds_before_new_searches():
    searcher = petridish()
    bench = Bench(searcher, slots=1)
    stages = []
    for _ in range(12):
        bench.step()
    stages = [job.stage for job in bench.asked]
    assert stages[:3] == [Stage.SEED_TRAINED] * 3
    assert stages[3:9] == [Stage.SEARCH, Stage.SEARCH_TRAINED] * 3


def test_no_job_is_asked_of_a_queue_without_room():
    searcher = petridish()
    assert searcher.ask({"train": 0, "search": 1}) == []
    bench = Bench(searcher)
    for _ in range(3):
        bench.step()
    assert searcher.ask({"train": 1, "search": 0}) == []
    assert searcher.ask({"train": 0, "search": 1})[0].stage is Stage.SEARCH


def test_counts_belong_to_the_point_that_was_sampled():
    bench = Bench(petridish(max_hull_points=15)).run()
    counted = {id_: point.count for id_, point in bench.searcher.pool.points.items()}
    for id_, count in counted.items():
        assert count == sum(job.stage is Stage.SEARCH and job.parent == id_ for job in bench.asked)
    assert sum(counted.values()) > 0


@pytest.mark.parametrize("make", [petridish, growth])
def test_max_madd_bounds_what_is_proposed_and_ends_the_search(make):
    keys = {"init_node_ch": 2, "primitives": ["max_pool_3x3", "skip_connect"], "edges_per_node": 1}
    limit = 1.2 * max(cost(arch).madds for arch in make(**keys).seeds)
    bench = Bench(make(max_madd=limit, **keys), 2).run(most=2000)
    costs = [cost(Architecture.from_json(job.spec["arch"])).madds for job in bench.asked if job.work == "train"]
    assert max(costs) <= limit and "max_madd" in bench.searcher.done
    assert len(costs) > 3


@pytest.mark.parametrize(
    ("budget", "keys", "reason"),
    [
        ({}, {"max_hull_points": 6}, "max_hull_points"),
        ({"jobs": 9}, {}, "budget.jobs"),
        ({"device_hours": 0.003}, {}, "device_hours"),
    ],
)
@pytest.mark.parametrize("make", ALL)
def test_each_budget_ends_the_search_and_the_band_is_tested(make, budget, keys, reason):
    bench = Bench(make(budget, **keys)).run()
    assert reason in bench.searcher.done
    pool = bench.searcher.pool
    assert {job.parent for job in bench.asked if job.work == "test"} == {*pool.frontier.band(), *pool.frontier.front()}


@pytest.mark.parametrize("make", ALL)
def test_a_clock_reading_ends_it_and_a_larger_budget_goes_on(make):
    bench = Bench(make(max_hull_points=50))
    for _ in range(6):
        bench.step()
    bench.emit(EventKind.BUDGET, None, {"exhausted": "budget.wall_clock = 5 s used up"})
    bench.run()
    before = len(bench.searcher.pool)
    assert bench.searcher.done.startswith("budget.wall_clock")
    bench.emit(EventKind.BUDGET, None, {"session": {}, "set": {"search.max_hull_points": before + 4}})
    bench.run()
    assert len(bench.searcher.pool) == before + 4


@pytest.mark.parametrize("make", ALL)
def test_failed_jobs_do_not_end_the_search(make):
    bench = Bench(make(max_hull_points=12), 2).run(fail=lambda job: job.id % 3 == 0)
    assert len(bench.searcher.pool) >= 12
    assert not any(job.id % 3 == 0 for job in bench.asked if job.id in bench.searcher.pool.points)


def test_a_child_starts_from_its_parents_weights_and_the_learners():
    bench = Bench(petridish(max_hull_points=6)).run()
    jobs = {job.id: job for job in bench.asked}
    child = next(job for job in jobs.values() if job.stage is Stage.SEARCH_TRAINED)
    search = jobs[child.parent]
    inherit = child.spec["inherit"]
    assert inherit["parent"] == search.spec["arch"] and inherit["weights"]["key"] == f"artifacts/{search.parent}"
    assert inherit["candidates"]["key"] == f"artifacts/{search.id}"
    assert all(len(pairs) == 3 for pairs in inherit["edges"].values())
    assert "none" not in {op for pairs in inherit["edges"].values() for _, op, _ in pairs}


def test_warm_start_none_trains_children_from_scratch():
    searcher = Petridish(
        PetridishConfig(**SPACE, max_hull_points=5),
        Surroundings(7, (1, 8, 8), 10, settings={**SETTINGS, "post_train": {"warm_start": "none"}}),
    )
    bench = Bench(searcher).run()
    assert all(job.spec["inherit"] is None for job in bench.asked if job.work == "train")


def test_no_seed_below_max_madd_is_said():
    with pytest.raises(InputError, match="max_madd"):
        petridish(max_madd=10)
