"""The job list of a final evaluation: its order, its seeds, its fold."""

from __future__ import annotations

import pytest
from searcher_bench import Bench

from archsearch.arch import seed_architecture
from archsearch.jobs import Resources, Stage
from archsearch.searchers.evaluation import Entrant, FinalEvaluation


def entrant(point, channels):
    return Entrant(point, seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels))


def searcher(*entrants, seeds=2, seed=7):
    return FinalEvaluation(
        entrants,
        seeds=seeds,
        settings={"epochs": 1},
        seed=seed,
        resources={stage: Resources(cpu=2) for stage in (Stage.EVAL, Stage.EVAL_TRAINED)},
    )


def test_every_model_once_before_any_a_second_time_and_the_dearest_first():
    bench = Bench(searcher(entrant(4, 2), entrant(9, 8), entrant(6, 4))).run()
    trainings = [(job.spec["point"], job.spec["repeat"]) for job in bench.asked if job.work == "train"]
    assert trainings == [(9, 0), (6, 0), (4, 0), (9, 1), (6, 1), (4, 1)]
    assert bench.searcher.done == "all 6 trainings have ended"


def test_each_training_is_tested_with_its_own_weights_and_nothing_enters_a_pool():
    bench = Bench(searcher(entrant(1, 2), entrant(2, 4)), slots=3).run()
    trainings = {job.id: job for job in bench.asked if job.work == "train"}
    tests = [job for job in bench.asked if job.work == "test"]
    assert {job.stage for job in trainings.values()} == {Stage.EVAL_TRAINED} and {job.stage for job in tests} == {Stage.EVAL}
    assert sorted(job.parent for job in tests) == sorted(trainings)
    for job in tests:
        assert job.spec["arch"] == trainings[job.parent].spec["arch"]
        assert job.spec["weights"]["key"] == f"artifacts/{job.parent}"
    assert all(job.spec["inherit"] is None and job.resources.cpu == 2 for job in trainings.values())


def test_seeds_differ_between_repeats_models_and_runs_and_do_not_depend_on_the_company():
    def seeds(*entrants, **more):
        asked = Bench(searcher(*entrants, **more)).run().asked
        return {(job.spec["point"], job.spec["repeat"]): job.seed for job in asked if job.work == "train"}

    both, alone = seeds(entrant(1, 2), entrant(2, 4), seeds=3), seeds(entrant(2, 4), seeds=2)
    assert len(set(both.values())) == 6
    assert alone.items() <= both.items()
    assert set(seeds(entrant(2, 4), seed=8).values()).isdisjoint(alone.values())


@pytest.mark.parametrize("stop", range(1, 18, 2))
def test_a_searcher_made_from_the_history_asks_for_the_rest(stop):
    models = entrant(1, 2), entrant(2, 4)
    whole = Bench(searcher(*models), slots=2).run()
    again = searcher(*models)
    bench = Bench(again, slots=2)
    for event in whole.events[:stop]:
        bench.events.append(event)
        again.apply(event)
    ended = {event.job for event in bench.events if event.kind != "asked"}
    bench.open = [job for job in bench.asked if job.id not in ended]
    bench.run()
    assert [(job.id, job.seed, job.work) for job in bench.asked] == [(job.id, job.seed, job.work) for job in whole.asked]
    assert again.done


def test_an_abandoned_training_is_neither_tested_nor_repeated():
    bench = Bench(searcher(entrant(1, 2), entrant(2, 4))).run(fail=lambda job: job.work == "train" and job.spec["point"] == 2)
    assert len([job for job in bench.asked if job.work == "train"]) == 4
    assert len([job for job in bench.asked if job.work == "test"]) == 2
    assert bench.searcher.done
