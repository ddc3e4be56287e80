"""Growth by width, depth and more training, and parents chosen by expected gain of hypervolume."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from searcher_bench import Bench, around, growth, petridish

from archsearch import config
from archsearch.arch import Architecture, cost, widen
from archsearch.jobs import InputError, Stage
from archsearch.searchers.experience import Experience, Trial
from archsearch.searchers.grower import Grower
from archsearch.searchers.moves import children
from archsearch.searchers.petridish import Petridish, PetridishConfig
from archsearch.searchers.surroundings import Surroundings

EVERY = ["node", "width", "depth", "train"]


def grown(bench):
    return [job for job in bench.asked if job.stage is Stage.SEARCH_TRAINED]


def arch_of(data):
    return Architecture.from_json(data)


@pytest.mark.parametrize("sampling", ["inverse_cost", "hypervolume"])
@pytest.mark.parametrize("make", [petridish, growth])
def test_each_move_makes_its_child_of_its_parent_and_says_how_to_inherit(make, sampling):
    bench = Bench(make(max_hull_points=60, moves=EVERY, sampling=sampling), 2).run()
    for job in grown(bench):
        inherit, child = job.spec["inherit"], arch_of(job.spec["arch"])
        parent, move = arch_of(inherit["parent"]), job.spec["move"]
        assert inherit["weights"]["key"] == f"artifacts/{job.spec['grown_from']}"
        assert inherit["kind"] == {"node": "node", "width": "widen", "depth": "deepen", "train": "same"}[move]
        if move == "node":
            assert inherit["edges"] and child.layout == parent.layout and child.channels == parent.channels
        else:
            assert child in children(parent, move)
    assert {job.spec["move"] for job in grown(bench)} == set(EVERY)


def test_only_the_moves_that_were_asked_for_are_made():
    bench = Bench(growth(max_hull_points=30, moves=["width", "train"]), 2).run()
    assert {job.spec["move"] for job in grown(bench)} == {"width", "train"}
    assert not [job for job in Bench(petridish(max_hull_points=20, moves=["depth"])).run().asked if job.work == "petridish"]


def test_a_point_is_trained_on_once_and_its_child_again():
    bench = Bench(growth(max_hull_points=40, moves=["train"]), 3).run()
    counts = Counter(job.spec["grown_from"] for job in grown(bench))
    assert set(counts.values()) == {1}
    children_ids = {job.id for job in grown(bench)}
    assert children_ids & set(counts), "a point that came of more training is never trained on again"


def test_without_inherited_weights_there_is_no_training_on():
    settings = {**around().settings, "post_train": {"epochs": 1, "warm_start": "none"}}
    searcher = growth(max_hull_points=40, moves=["width", "train"])
    searcher = type(searcher)(searcher.config, Surroundings(7, (1, 8, 8), 10, settings=settings))
    jobs = grown(Bench(searcher).run())
    assert {(job.spec["move"], job.spec["inherit"] is None) for job in jobs} == {("width", True)}


def test_no_move_goes_beyond_the_limits_and_the_search_ends_for_want_of_moves():
    limit = 2 * min(cost(seed).madds for seed in growth().seeds)
    bench = Bench(growth(max_madd=limit, moves=["width", "depth"], sampling="hypervolume"), 2).run()
    assert max(cost(arch_of(job.spec["arch"])).madds for job in grown(bench)) <= limit
    assert bench.searcher.done == f"nothing is left to try within max_madd = {limit:g}"
    grows = [made for point in bench.searcher.pool.candidates() for made in children(arch_of(point.arch), "width")]
    assert all(cost(made).madds > limit or made.hash in bench.searcher.tried for made in grows)


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("make", [petridish, growth])
def test_a_replay_at_any_event_decides_the_same(make, slots):
    keys = {"max_hull_points": 25, "moves": EVERY, "sampling": "hypervolume"}
    bench = Bench(make(**keys), slots).run()
    replayed = Bench(make(**keys))
    asked = {event.number: event for event in bench.events if event.kind == "asked"}
    for event in bench.events:
        if event.number in asked:
            job = bench_ask(replayed.searcher, slots)
            assert job.to_json() == event.data, event.number
        replayed.searcher.apply(event)


def bench_ask(searcher, slots):
    return searcher.ask({"train": slots, "search": slots})[0]


def test_a_parent_is_not_grown_twice_at_once_while_others_wait():
    bench = Bench(growth(max_hull_points=60, moves=["node", "width"], sampling="hypervolume", convex_hull_eps=9.0), 3)
    while bench.step():
        parents = Counter(job.parent for job in bench.open if job.stage is Stage.SEARCH_TRAINED)
        others = {point.id for point, _, _ in bench.searcher._options()} - set(parents)
        assert not others or max(parents.values(), default=1) == 1


def test_the_room_of_a_queue_is_kept_for_moves_that_need_no_search():
    searcher = petridish(max_hull_points=30, moves=["width"])
    bench = Bench(searcher)
    while searcher.seeds_asked < len(searcher.seeds) or bench.open:
        bench.step()
        if not bench.open and searcher.seeds_asked == len(searcher.seeds):
            break
    assert searcher.ask({"search": 3, "train": 0}) == []
    assert searcher.ask({"search": 3, "train": 1})[0].queue == "train"


@pytest.mark.parametrize("moves", [[], ["node", "node"], ["sideways"]])
def test_bad_moves_are_refused(moves):
    with pytest.raises(InputError, match="moves"):
        config.from_values({"data": {"name": "digits"}, "search": {"name": "petridish", "moves": moves}})


# --------------------------------------------------------------------------------------------------------------- promise
def test_parents_are_chosen_where_a_child_would_gain_most():
    """One parent far from the next on the front, one crowded: nearly all draws take the first, by any move alike."""
    searcher = petridish(sampling="hypervolume", moves=["width"])
    bench = Bench(searcher)
    while len(searcher.pool) < len(searcher.seeds):
        bench.step()
    small, *_, large = sorted(searcher.pool.points.values(), key=lambda point: point.cost)
    small.error, large.error = 0.5, 0.49  # widening the large one brings little more than the small one has
    searcher.pool.frontiers["madds"] = type(searcher.pool.frontier)(eps=10.0)
    for point in (small, large):
        searcher.pool.frontier.add(point.id, point.cost, point.error)
    options = [(point, "width", widen(arch_of(point.arch), 2)) for point in (small, large)]
    assert {option[0].id for option in (searcher._most_promising(fresh(searcher, options)) for _ in range(3))} == {small.id}


def fresh(searcher: Grower, options):
    return [(point, move, searcher._children(point, move)[0][0]) for point, move, _ in options]


def test_experience_learns_which_move_pays():
    rng = np.random.default_rng(0)
    seen = Experience()
    for _ in range(10):
        seen.add("node", Trial(1, 1, 0.5), Trial(1.5, 2, 0.3 + rng.uniform(0, 0.02)))
        seen.add("depth", Trial(1, 1, 0.5), Trial(1.5, 2, 0.49 + rng.uniform(0, 0.02)))
    moves = [("node", 0.5, 1.5, 2.0), ("depth", 0.5, 1.5, 2.0)]
    node, depth = seen.rate(moves, [(1.0, 0.5)], (4.0, 1.0), rng, draws=4000)
    assert node > 3 * depth > 0
    box = (np.log(4.0) - np.log(1.5)) * (0.5 - 0.31) / 2  # what the mean child of a node adds, by its effort
    assert node == pytest.approx(box, rel=0.15)


def test_a_child_that_takes_more_effort_has_to_gain_more():
    rng = np.random.default_rng(0)
    moves = [("node", 0.5, 1.2, 1.0), ("node", 0.5, 1.2, 3.0), ("node", 0.5, 3.6, 1.0)]
    light, heavy, dear = Experience().rate(moves, [(1.0, 0.5)], (8.0, 1.0), rng, draws=4000)
    assert light / heavy == pytest.approx(3, rel=0.1)
    assert light / dear == pytest.approx(np.log(8 / 1.2) / np.log(8 / 3.6), rel=0.1)  # the widths of the two boxes


def test_experience_fades():
    old, new = Experience(), Experience()
    for _ in range(30):
        old.add("node", Trial(1, 1, 0.5), Trial(1.5, 2, 0.25))
    for error, times in ((0.25, 15), (0.5, 30)):
        for _ in range(times):
            new.add("node", Trial(1, 1, 0.5), Trial(3, 1.2, error))
    assert old._kinds["node"].mean == pytest.approx(np.log(0.5), rel=0.05)
    assert new._kinds["node"].mean == pytest.approx(0, abs=0.05)
    assert old.ratios("node") == pytest.approx((1.5, 2), rel=0.03) and new.ratios("node") == pytest.approx((3, 1.2), rel=0.05)


def test_an_error_of_nothing_does_not_break_the_logarithm():
    seen = Experience()
    seen.add("node", Trial(1, 1, 0.0), Trial(1.5, 1, 0.0))
    assert np.isfinite(seen._kinds["node"].mean)


def test_a_budget_of_compute_counts_search_tasks_too():
    searcher = Petridish(PetridishConfig(n_cells=3, max_cells=3, init_node_ch=2), around(compute=100.0))
    bench = Bench(searcher)
    searcher.compute = 99.0
    assert searcher.done is None
    searcher.compute = 100.0
    assert searcher.done == "budget.compute = 100 multiply-adds reached"
    assert bench.searcher is searcher
