"""Constraints: what they may say, how they are refused, and that nothing beyond them is proposed."""

from __future__ import annotations

import pytest
from searcher_bench import ALL, Bench, growth, random

from archsearch.arch import Architecture, cost, seed_architecture
from archsearch.config import load
from archsearch.jobs import InputError
from archsearch.searchers.constraints import Constraint, costs_by_name, parse_constraint
from archsearch.searchers.section import GrowthConfig


@pytest.mark.parametrize(
    ("text", "name", "strict", "limit"),
    [
        ("params < 1e6", "params", True, 1e6),
        ("madds<=5_000_000", "madds", False, 5e6),
        ("  flops  <=  1.5e3 ", "flops", False, 1500),
        ("activation_bytes < 7", "activation_bytes", True, 7),
    ],
)
def test_a_constraint_is_read(text, name, strict, limit):
    assert parse_constraint(text) == Constraint(name, strict, limit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parms < 1e6", r"no cost is called 'parms' \(did you mean params\?\)"),
        ("val_error < 0.1", "no cost is called 'val_error'"),
        ("params > 1e6", "operator '>' is not one of < and <="),
        ("params == 1e6", "operator '==' is not one of"),
        ("params < big", "limit 'big' is not a number"),
        ("params < inf", "not a finite number above 0"),
        ("params < -3", "not a finite number above 0"),
        ("params", "not of the form NAME < NUMBER"),
        ("params < 3 < 4", "not of the form"),
        ("", "not of the form"),
    ],
)
def test_a_bad_constraint_is_refused_with_its_place_and_what_may_stand_there(text, words, tmp_path):
    conf = tmp_path / "conf.yaml"
    conf.write_text(f'search:\n  name: random\n  constraints:\n    - madds < 1e9\n    - "{text}"\n')
    with pytest.raises(InputError, match=words) as caught:
        load(conf)
    assert "conf.yaml:5: search.constraints.1" in str(caught.value)
    assert "Write a limit such as params < 1e6" in str(caught.value)


def test_the_limit_itself_is_within_le_and_beyond_lt():
    arch = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=4)
    figures = costs_by_name(cost(arch))
    assert figures["flops"] == 2 * figures["madds"] == 2 * cost(arch).madds
    for name, value in figures.items():
        assert GrowthConfig(constraints=[f"{name} <= {value}"]).admits(arch)
        assert not GrowthConfig(constraints=[f"{name} < {value}"]).admits(arch)
        assert not GrowthConfig(constraints=["madds < 1e12", f"{name} < {value}"]).admits(arch)
        assert GrowthConfig(constraints=[f"{name} < {value + 1}"]).admits(arch)


@pytest.mark.parametrize("make", ALL)
def test_nothing_beyond_a_constraint_is_trained(make):
    bench = Bench(make(max_hull_points=25, constraints=["params < 2500", "activation_bytes <= 60_000"]), 2).run()
    costs = [cost(Architecture.from_json(job.spec["arch"])) for job in bench.asked if job.work == "train"]
    assert len(costs) >= 25
    assert max(c.params for c in costs) < 2500 and max(c.activation_bytes for c in costs) <= 60_000
    free = Bench(make(max_hull_points=25), 2).run()
    costs = [cost(Architecture.from_json(job.spec["arch"])) for job in free.asked if job.work == "train"]
    assert max(c.params for c in costs) >= 2500 or max(c.activation_bytes for c in costs) > 60_000


@pytest.mark.parametrize("make", ALL)
def test_a_constraint_that_nothing_satisfies_is_said_at_once(make):
    with pytest.raises(InputError, match=r"within params < 9; raise the limit"):
        make(constraints=["params < 9"])


@pytest.mark.parametrize("make", [growth, random])
def test_a_search_that_ends_for_want_of_candidates_names_the_limits(make):
    keys = {"init_node_ch": 2, "primitives": ["skip_connect"], "edges_per_node": 1, "n_nodes": 1, "max_nodes": 1}
    limit = 1 + max(cost(arch).params for arch in make(**keys).seeds)
    bench = Bench(make(constraints=[f"params < {limit}"], **keys)).run()
    assert bench.searcher.done == f"nothing is left to try within params < {limit}"
