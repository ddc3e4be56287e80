"""Searchers that begin with imported points, and which architectures belong to a search section's space."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from searcher_bench import ALL, evolution, growth, local, outcome, petridish

from archsearch.arch import Architecture, Edge, cost, deepen, grow_node, seed_architecture, widen
from archsearch.jobs import Event, EventKind, Job, Stage
from archsearch.searchers.base import FrontierSearcher
from archsearch.searchers.warm import objection


def arch(**changes: Any) -> Architecture:
    return seed_architecture((1, 8, 8), 10, **{"cells": 3, "reductions": 1, "nodes": 1, "channels": 4, **changes})


POOLED = grow_node(arch(), {"normal": [Edge("s0", "max_pool_3x3")]})


def imported(number: int, found: Architecture) -> Event:
    job = Job(number, Stage.SEED_TRAINED, "train", {"arch": found.to_json(), "hash": found.hash}, seed=number)
    data = {"job": job.to_json(), "origin": {}, **{key: outcome(job)[key] for key in ("metrics", "artifacts")}}
    return Event(number, 0.0, EventKind.IMPORTED, number, data)


def next_job(searcher: FrontierSearcher) -> Job:
    (job,) = searcher.ask({"train": 1, "search": 1})
    return job


@pytest.mark.parametrize("make", ALL)
def test_every_searcher_takes_them_into_its_pool(make) -> None:
    searcher = make()
    first, second = searcher.seeds[:2]
    searcher.apply(imported(1, first))
    assert len(searcher.pool) == 1 and first.hash not in {seed.hash for seed in searcher.seeds}
    assert searcher.next_id == 2 and searcher.device_seconds == searcher.compute == 0 and not searcher.fits(first)
    job = next_job(searcher)
    assert (job.id, job.stage, job.spec["hash"]) == (2, Stage.SEED_TRAINED, second.hash)
    searcher.apply(Event(2, 0.0, EventKind.ASKED, 2, job.to_json()))
    assert {seed.hash for seed in searcher.seeds[searcher.seeds_asked :]} == {s.hash for s in make().seeds[2:]}


@pytest.mark.parametrize("make", [petridish, growth])
def test_growth_begins_at_once_where_every_seed_is_there(make) -> None:
    searcher = make()
    for number, seed in enumerate(make().seeds, 1):
        searcher.apply(imported(number, seed))
    job = next_job(searcher)
    assert job.parent in searcher.pool.points and job.stage in (Stage.SEARCH, Stage.SEARCH_TRAINED)


def test_the_population_of_evolution_has_them() -> None:
    searcher = evolution()
    for number, seed in enumerate(evolution().seeds, 1):
        searcher.apply(imported(number, seed))
    assert list(searcher.alive) == [1, 2, 3, 4, 5, 6]
    assert next_job(searcher).parent in searcher.alive


def test_a_budget_of_jobs_does_not_count_them() -> None:
    searcher = petridish({"jobs": 1})
    searcher.apply(imported(1, searcher.seeds[0]))
    assert searcher.done is None
    searcher.apply(Event(2, 0.0, EventKind.ASKED, 2, next_job(searcher).to_json()))
    assert searcher.done == "budget.jobs = 1 reached"


@pytest.mark.parametrize(
    "make, found, expected",
    [
        (petridish, arch(), None),
        (lambda: petridish(primitives=["max_pool_3x3"]), POOLED, None),
        (lambda: petridish(primitives=["avg_pool_3x3"]), POOLED, "operation max_pool_3x3 is not among the primitives"),
        (petridish, arch(channels=5), "5 channels, not 2 or 4 or 8"),
        (petridish, arch(cells=5), "5 cells, not 3 to 3"),
        (petridish, arch(reductions=0), "0 reductions, not 1 to 1"),
        (petridish, arch(stem="conv3x3_stride2"), "stem conv3x3_stride2, not conv3x3"),
        (petridish, arch(share_cells=False), "share_cells is not true"),
        (petridish, widen(widen(arch(channels=8), 2), 2), "32 channels"),
        (petridish, deepen(arch(), 0), "4 cells"),
        (local, arch(nodes=6), "6 nodes in a cell, more than 5"),
        (petridish, arch(nodes=6), None),
    ],
)
def test_the_space(make, found: Architecture, expected: str | None) -> None:
    said = objection(make().config, found)
    assert (said is None) == (expected is None) and (expected or "") in (said or "")


def test_limits_and_moves_count() -> None:
    small = arch()
    config = petridish().config
    limited = config.model_copy(update={"max_madd": cost(small).madds - 1})
    assert objection(limited, small) == f"beyond max_madd = {limited.max_madd:g}"
    assert objection(config.model_copy(update={"constraints": ["params < 10"]}), small) == "beyond params < 10"
    moving = petridish(moves=["node", "width", "depth"]).config
    for grown in (widen(widen(arch(channels=8), 2), 2), deepen(arch(), 0)):
        assert objection(moving, grown) is None
    assert "24 channels" in str(objection(moving, arch(channels=24)))
    assert "fewer than 2" in str(objection(petridish(n_nodes=2, max_nodes=2).config, small))
    assert objection(config, dataclasses.replace(small, stem="conv3x3")) is None


def test_every_seed_and_every_child_of_a_searcher_is_in_its_space() -> None:
    """What a searcher proposes by itself, another of the same section may take."""
    for make in ALL:
        searcher, number = make(), 0
        while number < 25 and (jobs := searcher.ask({"train": 1, "search": 1})):
            number = jobs[0].id
            searcher.apply(Event(1, 0.0, EventKind.ASKED, number, jobs[0].to_json()))
            if jobs[0].work == "train":
                assert objection(searcher.config, Architecture.from_json(jobs[0].spec["arch"])) is None, make.__name__
            searcher.apply(
                Event(1, 0.0, EventKind.TOLD, number, {"attempt": 1, "seconds": 1.0, "node": "", **outcome(jobs[0])})
            )
        assert number == 25
