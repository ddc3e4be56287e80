"""Edits and random architectures: inside the space, one step apart, all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from searcher_bench import around

from archsearch.arch import Architecture, Cell, Edge, Node, seed_architecture
from archsearch.jobs import InputError
from archsearch.searchers.edits import edits, readable
from archsearch.searchers.evolution import EvolutionConfig
from archsearch.searchers.random_cells import random_architecture, random_population

SMALL = {"primitives": ["skip_connect", "max_pool_3x3", "sep_conv_3x3"], "init_node_ch": [2, 4, 8]}


def space(**keys):
    return EvolutionConfig(**{**SMALL, "max_nodes": 4, **keys})


def one_cell(*nodes, last=None):
    """A network of one normal cell: nodes as lists of (source, op)."""
    made = tuple(Node(tuple(Edge(*edge) for edge in node)) for node in nodes)
    seed = seed_architecture((1, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
    return replace(seed, cells={"normal": Cell(made, len(made) - 1 if last is None else last)})


def cells(found, kind):
    """The nodes of the edited cell, as sets, for every edit of a kind."""
    return [[{(e.source, e.op) for e in n.edges} for n in edit["cells"]["normal"].nodes] for edit in found.get(kind, [])]


def test_the_neighbours_of_a_small_cell_are_exactly_these():
    arch = one_cell([("s0", "skip_connect")])
    found = edits(arch, space(primitives=["skip_connect", "max_pool_3x3", "none"], edges_per_node=2, max_nodes=2))
    skip0, pool0, skip1, pool1 = [(s, op) for s in ("s0", "s1") for op in ("skip_connect", "max_pool_3x3")]
    assert cells(found, "op") == [[{pool0}]]
    assert cells(found, "input") == [[{skip1}]]
    assert cells(found, "more_edges") == [[{skip0, pool0}], [{skip0, skip1}], [{skip0, pool1}]]
    assert cells(found, "more_nodes") == [[{skip0}, {new}] for new in (skip0, pool0, skip1, pool1)]
    assert all(edit["cells"]["normal"].last == 0 for edit in found["more_nodes"])
    assert found["width"] == [{"channels": 2}, {"channels": 8}]
    assert "fewer_edges" not in found and "fewer_nodes" not in found


def test_a_new_node_may_read_every_node_but_the_last():
    arch = one_cell([("s0", "skip_connect")], [("n0", "skip_connect")])
    found = cells(edits(arch, space(primitives=["skip_connect"])), "more_nodes")
    assert [nodes[2] for nodes in found] == [{(source, "skip_connect")} for source in ("s0", "s1", "n0")]


def test_an_edge_is_never_doubled_and_the_last_one_stays():
    arch = one_cell([("s0", "skip_connect"), ("s1", "skip_connect")])
    found = edits(arch, space(primitives=["skip_connect"], edges_per_node=2, max_nodes=1))
    assert set(found) == {"fewer_edges", "width"}
    assert cells(found, "fewer_edges") == [[{("s1", "skip_connect")}], [{("s0", "skip_connect")}]]


def test_the_readers_of_a_node_that_goes_read_s1():
    arch = one_cell([("s0", "skip_connect")], [("n0", "max_pool_3x3"), ("s1", "max_pool_3x3")], [("n1", "skip_connect")])
    first, second, third = cells(edits(arch, space()), "fewer_nodes")
    assert first == [{("s1", "max_pool_3x3")}, {("n0", "skip_connect")}]
    assert second == [{("s0", "skip_connect")}, {("s1", "skip_connect")}]
    assert third == [{("s0", "skip_connect")}, {("n0", "max_pool_3x3"), ("s1", "max_pool_3x3")}]


def test_a_grown_cell_whose_last_node_is_not_the_last_made_is_understood():
    arch = one_cell([("n1", "skip_connect")], [("s0", "skip_connect")], last=0)
    assert readable(arch.cells["normal"], 0) == ["s0", "s1", "n1"]
    assert readable(arch.cells["normal"], 1) == ["s0", "s1"]
    without_last, without_grown = (edit["cells"]["normal"] for edit in edits(arch, space())["fewer_nodes"])
    assert (without_last.nodes, without_last.last) == ((Node((Edge("s0", "skip_connect"),)),), 0)
    assert (without_grown.nodes, without_grown.last) == ((Node((Edge("s1", "skip_connect"),)),), 0)


@pytest.mark.parametrize("share_cells", [True, False])
def test_random_architectures_and_their_edits_stay_inside_the_space(share_cells):
    config = space(n_nodes=2, edges_per_node=2, max_cells=5, n_reductions=0, max_reductions=2, share_cells=share_cells)
    rng = np.random.default_rng(3)
    seen = {"width": set(), "cells": set(), "reductions": set(), "nodes": set(), "ops": set(), "last": set()}
    for _ in range(60):
        arch = random_architecture(config, around(), rng)
        kinds = edits(arch, config)
        for edit in [None, *(edit for found in kinds.values() for edit in found[:: max(1, len(found) // 4)])]:
            made = arch if edit is None else replace(arch, **edit)
            assert made == Architecture.from_json(made.to_json())
            assert edit is None or made.hash != arch.hash
            assert made.channels in config.widths and 3 <= len(made.layout) <= 5
            for cell in made.cells.values():
                assert 2 <= len(cell.nodes) <= 4
                assert all(1 <= len(node.edges) <= 2 for node in cell.nodes)
                assert {edge.op for node in cell.nodes for edge in node.edges} <= set(config.primitives)
        seen["width"].add(arch.channels)
        seen["cells"].add(len(arch.layout))
        seen["reductions"].add(sum(placed.reduction for placed in arch.layout))
        seen["nodes"] |= {len(cell.nodes) for cell in arch.cells.values()}
        seen["ops"] |= {edge.op for cell in arch.cells.values() for node in cell.nodes for edge in node.edges}
        seen["last"] |= {edge.source for cell in arch.cells.values() for edge in cell.nodes[-1].edges}
    assert seen == {
        "width": {2, 4, 8},
        "cells": {3, 4, 5},
        "reductions": {0, 1, 2},
        "nodes": {2, 3, 4},
        "ops": set(config.primitives),
        "last": {"s0", "s1", "n0", "n1", "n2"},
    }


def test_an_edit_can_be_taken_back():
    """Every edit but a node's removal has its reverse among the edits of what it gave."""
    config = space(edges_per_node=2)
    arch = random_architecture(config, around(), np.random.default_rng(5))
    back = {"op": "op", "input": "input", "more_edges": "fewer_edges", "fewer_edges": "more_edges", "width": "width"}
    for kind, found in edits(arch, config).items():
        for edit in found if kind in back else []:
            other = replace(arch, **edit)
            assert arch.hash in {replace(other, **again).hash for again in edits(other, config)[back[kind]]}


def test_a_population_is_as_large_as_the_space_allows():
    config = space(primitives=["skip_connect"], init_node_ch=2, max_nodes=1, edges_per_node=1)
    found = random_population(config, around(), 10, np.random.default_rng(0))
    assert len({arch.hash for arch in found}) == len(found) == 4  # two cells, two inputs each
    with pytest.raises(InputError, match=r"none of 640 random architectures is within params < 5"):
        random_population(space(constraints=["params < 5"]), around(), 10, np.random.default_rng(0))
