"""Random search, evolution and local search: what each of them promises besides what all searchers do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import searcher_bench
from hypothesis import given
from hypothesis import strategies as st
from searcher_bench import SETTINGS, Bench, evolution, local, outcome, random

from archsearch.arch import Architecture
from archsearch.jobs import EventKind, Stage
from archsearch.searchers.edits import edits
from archsearch.searchers.evolution import EvolutionConfig, selection_order

TINY = {"init_node_ch": 2, "primitives": ["max_pool_3x3", "skip_connect"], "edges_per_node": 1}


def trained(bench):
    return [job for job in bench.asked if job.work == "train"]


def arch_of(job):
    return Architecture.from_json(job.spec["arch"])


@pytest.mark.parametrize("make", [random, evolution, local])
def test_everything_is_trained_from_scratch_with_the_settings_of_the_seeds(make):
    for job in trained(Bench(make(max_hull_points=20), 2).run()):
        assert job.spec["inherit"] is None and job.spec["train"] == SETTINGS["seed_train"]
        assert job.queue == "train" and (job.parent is None) == (job.stage is Stage.SEED_TRAINED)


@pytest.mark.parametrize("make", [random, evolution, local])
def test_another_seed_is_another_search(make, monkeypatch):
    """Even if the results were the same: the noise of the bench is taken from the job's id here, not from its seed."""
    monkeypatch.setattr(searcher_bench, "outcome", lambda job: outcome(replace(job, seed=job.id)))
    first, later = [], []
    for seed in (1, 1, 2):
        searcher = make(max_hull_points=20)
        searcher = type(searcher)(searcher.config, replace(searcher.around, seed=seed))
        hashes = [job.spec["hash"] for job in trained(Bench(searcher).run())]
        first.append(hashes[: len(searcher.seeds)])
        later.append(hashes[len(searcher.seeds) :])
    assert first[0] == first[1] and later[0] == later[1] != later[2]
    assert (first[0] == first[2]) == (make is local)  # its seeds are not drawn


# ------------------------------------------------------------------------------------------------------------------ random
def test_random_points_have_no_parents_and_vary():
    jobs = trained(Bench(random(max_hull_points=60), 3).run())
    assert {job.stage for job in jobs} == {Stage.SEED_TRAINED}
    archs = [arch_of(job) for job in jobs]
    assert {arch.channels for arch in archs} == {2, 4, 8}
    assert {len(cell.nodes) for arch in archs for cell in arch.cells.values()} == {1, 2, 3, 4, 5}
    assert any(arch.cells["normal"] != arch.cells["reduction"] for arch in archs)


def test_random_search_ends_when_the_space_is_used_up():
    bench = Bench(random(max_nodes=1, **TINY)).run()
    assert len(trained(bench)) == 16  # two cells, each of two inputs and two operations
    assert bench.searcher.done == "nothing is left to try"


# --------------------------------------------------------------------------------------------------------------- evolution
def test_a_child_is_one_edit_from_its_parent_who_is_alive():
    bench = Bench(evolution(max_hull_points=60), 3)
    kinds = Counter()
    watched = 0
    while bench.step():
        new = [job for job in bench.asked[watched:] if job.stage is Stage.SEARCH_TRAINED]
        watched = len(bench.asked)
        for job in new:
            parent = Architecture.from_json(bench.searcher.pool.points[job.parent].arch)
            kind = [
                name
                for name, found in edits(parent, bench.searcher.config).items()
                if job.spec["hash"] in {replace(parent, **edit).hash for edit in found}
            ]
            assert kind
            kinds[kind[0]] += 1
    assert set(kinds) == {"op", "input", "more_edges", "fewer_edges", "more_nodes", "fewer_nodes", "width"}


def test_the_oldest_leaves_and_the_dead_do_not_breed():
    bench = Bench(evolution(max_hull_points=40), 2)
    finished, breeders = [], []
    checked = 0
    while bench.step():
        for event in bench.events[checked:]:
            if event.kind is EventKind.TOLD and event.data["artifacts"]:
                finished.append(event.job)
            elif event.kind is EventKind.ASKED and event.data["stage"] == "SEARCH_TRAINED":
                assert event.data["parent"] in finished[-6:]
                breeders.append(event.data["parent"])
        checked = len(bench.events)
        assert list(bench.searcher.alive) == finished[-6:]
    assert len(finished) >= 40 and len(set(breeders)) > 6


def test_the_first_population_is_random_and_comes_first():
    jobs = trained(Bench(evolution(max_hull_points=20, population=8)).run())
    assert [job.stage for job in jobs[:8]] == [Stage.SEED_TRAINED] * 8
    assert {job.stage for job in jobs[8:]} == {Stage.SEARCH_TRAINED}
    assert len({job.spec["hash"] for job in jobs[:8]}) == 8


def test_a_tournament_of_all_is_won_by_the_first_in_the_order():
    """A sample of many draws from a small population holds each member, so that the winner is the best of them."""
    bench = Bench(evolution(population=4, sample_size=4, max_hull_points=30))
    bench.searcher.config = bench.searcher.config.model_copy(update={"sample_size": 400})
    for _ in range(25):
        alive = list(bench.searcher.alive)
        bench.fill()
        if bench.open[0].stage is Stage.SEARCH_TRAINED:
            members = [bench.searcher.pool.points[id_] for id_ in alive]
            order = selection_order([(point.cost, point.error) for point in members])
            assert bench.open[0].parent == alive[order.index(0)]
        bench.step()
    assert len(bench.searcher.pool) == 25


def test_the_order_is_nsga_2s():
    #          front 0: ends, middle, crowded middle          front 1
    points = [(1.0, 0.9), (9.0, 0.1), (5.0, 0.4), (6.0, 0.35), (6.0, 0.5), (9.0, 0.9)]
    order = selection_order(points)
    ranked = sorted(range(len(points)), key=order.__getitem__)
    assert set(ranked[:2]) == {0, 1} and ranked[4:] == [4, 5]
    assert ranked[2:4] == [2, 3]  # distances (6-1 + .9-.35)/... = 1.31 and (9-5 + .4-.1)/... = 0.875
    assert sorted(order) == list(range(6))


def test_of_equal_points_the_younger_comes_first():
    assert selection_order([(1.0, 1.0)]) == [0]
    ends = selection_order([(1.0, 2.0), (2.0, 1.0)])
    assert ends == [1, 0]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_who_is_dominated_stands_behind(points):
    order = selection_order([(float(c), float(e)) for c, e in points])
    assert sorted(order) == list(range(len(points)))
    for i, (cost, error) in enumerate(points):
        for j, (other_cost, other_error) in enumerate(points):
            if cost <= other_cost and error <= other_error and (cost, error) != (other_cost, other_error):
                assert order[i] < order[j]


def test_a_sample_larger_than_the_population_is_refused():
    with pytest.raises(ValueError, match="sample_size = 9 is above population = 8"):
        EvolutionConfig(population=8, sample_size=9)


# ------------------------------------------------------------------------------------------------------------------- local
def test_local_search_ends_when_every_neighbour_of_the_front_was_tried():
    bench = Bench(local(max_nodes=2, **{**TINY, "init_node_ch": [2, 4]}), 2).run(most=2000)
    searcher = bench.searcher
    assert searcher.done == "nothing is left to try"
    front = searcher.pool.frontier.front()
    assert any(searcher.pool.points[id_].count for id_ in front)
    asked = {job.spec["hash"] for job in trained(bench)}
    for id_ in front:
        arch = Architecture.from_json(searcher.pool.points[id_].arch)
        for found in edits(arch, searcher.config).values():
            assert {replace(arch, **edit).hash for edit in found} <= asked


def test_each_member_has_an_order_of_its_own():
    """The seeds differ in width only, so their neighbours are the same edits: which come first must not be."""
    bench = Bench(local())
    for _ in bench.searcher.seeds:
        bench.step()
    bench.slots = 3
    bench.fill()
    assert len({job.parent for job in bench.open}) == 3
    assert len({replace(arch_of(job), channels=2).hash for job in bench.open}) == 3


def test_every_child_is_a_neighbour_of_a_member_of_the_front_as_it_was():
    bench = Bench(local(max_hull_points=50), 1)
    for _ in range(50):
        front = set(bench.searcher.pool.frontier.front())
        bench.fill()
        job = bench.open[0]
        if job.stage is Stage.SEARCH_TRAINED:
            assert job.parent in front
            parent = Architecture.from_json(bench.searcher.pool.points[job.parent].arch)
            found = edits(parent, bench.searcher.config).values()
            assert job.spec["hash"] in {replace(parent, **edit).hash for kind in found for edit in kind}
        bench.step()


def test_the_members_take_turns():
    """Next is always a member of the front with the fewest children."""
    bench = Bench(local(max_hull_points=50), 1)
    for _ in range(50):
        points = bench.searcher.pool.points
        counts = {id_: points[id_].count for id_ in bench.searcher.pool.frontier.front()}
        bench.fill()
        if bench.open[0].stage is Stage.SEARCH_TRAINED:
            assert counts[bench.open[0].parent] == min(counts.values())
        bench.step()


def test_the_seeds_are_small_and_edits_reach_further():
    bench = Bench(local(max_hull_points=60), 1).run()
    sizes = {
        stage: {len(cell.nodes) for job in trained(bench) if job.stage is stage for cell in arch_of(job).cells.values()}
        for stage in (Stage.SEED_TRAINED, Stage.SEARCH_TRAINED)
    }
    assert sizes[Stage.SEED_TRAINED] == {1} and max(sizes[Stage.SEARCH_TRAINED]) > 1
