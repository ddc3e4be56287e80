"""Seeds, their combinations, and what growth does to a description."""

from __future__ import annotations

from dataclasses import replace

import pytest
from arch_strategies import architectures
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.arch import (
    PRIMITIVES,
    Architecture,
    Cell,
    Edge,
    Node,
    Placed,
    cost,
    deepen,
    grow_node,
    growth_candidates,
    growth_inputs,
    scale_cells,
    seed_architecture,
    seed_combinations,
    summary,
    widen,
)
from archsearch.jobs import InputError

SEP, SKIP = "sep_conv_3x3", "skip_connect"


def seed(cells: int = 5, reductions: int = 1, nodes: int = 2, channels: int = 4, **more: str | bool) -> Architecture:
    return seed_architecture((3, 16, 16), 10, cells=cells, reductions=reductions, nodes=nodes, channels=channels, **more)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------------ seeds
def test_a_seed() -> None:
    arch = seed(cells=7, reductions=2, nodes=3)
    assert [k for k, placed in enumerate(arch.layout) if placed.reduction] == [2, 4]  # floor(7 * 1 / 3), floor(7 * 2 / 3)
    assert [placed.inputs for placed in arch.layout] == [(-1, -1), (-1, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    nodes = arch.cells["normal"].nodes
    assert nodes == arch.cells["reduction"].nodes
    assert [set(node.edges) for node in nodes] == [
        {Edge("s1", SEP), Edge("s0", SKIP)},
        {Edge("n0", SEP), Edge("s0", SKIP)},
        {Edge("n1", SEP), Edge("s0", SKIP)},
    ]
    assert arch.cells["normal"].last == 2
    assert summary(arch) == "7c 2r 3n 4ch"
    assert summary(grow_node(arch, {"normal": [Edge("s0", SEP)]})) == "7c 2r 3-4n 4ch"


def test_cells_of_their_own() -> None:
    arch = seed(share_cells=False)
    assert [placed.cell for placed in arch.layout] == [f"cell_{k:02d}" for k in range(5)]
    assert cost(arch) == cost(seed())
    grown = grow_node(arch, {"cell_03": [Edge("s0", SEP)]})
    assert [len(grown.cells[placed.cell].nodes) for placed in grown.layout] == [2, 2, 2, 3, 2]


def test_a_seed_without_reductions_has_no_reduction_cell() -> None:
    assert list(seed(reductions=0).cells) == ["normal"]


@pytest.mark.parametrize(("cells", "reductions", "nodes"), [(2, 1, 1), (4, 2, 1), (0, 0, 1), (3, -1, 1), (3, 1, 0)])
def test_seeds_that_do_not_fit_are_refused(cells: int, reductions: int, nodes: int) -> None:
    with pytest.raises(InputError):
        seed(cells=cells, reductions=reductions, nodes=nodes)


def test_combinations_are_all_that_fit_small_ones_first() -> None:
    found = seed_combinations(3, 6, 1, 2, 2, 4, [8, 4, 8])
    expected = {(c, r, n, ch) for c in (3, 4, 5, 6) for r in (1, 2) if c >= 2 * r + 1 for n in (2, 3, 4) for ch in (4, 8)}
    assert len(found) == len(expected)
    assert {(kw["cells"], kw["reductions"], kw["nodes"], kw["channels"]) for kw in found} == expected
    assert found[0] == {"cells": 3, "reductions": 1, "nodes": 2, "channels": 4}
    sizes = [cost(seed(**kw)).madds for kw in found]
    assert sizes[0] == min(sizes)
    assert sizes[-1] > 0.9 * max(sizes)


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ((3, 2, 1, 1, 2, 2, [4]), "n_cells = 3 and max_cells = 2"),
        ((3, 3, -1, 1, 2, 2, [4]), "n_reductions = -1"),
        ((3, 3, 1, 1, 0, 2, [4]), "n_nodes = 0"),
        ((3, 3, 1, 1, 2, 2, []), "init_node_ch"),
        ((3, 4, 2, 3, 2, 2, [4]), "2 reductions need at least 5 cells, and max_cells is 4"),
    ],
)
def test_combinations_that_cannot_be_are_refused(ranges: tuple[int, int, int, int, int, int, list[int]], says: str) -> None:
    with pytest.raises(InputError) as error:
        seed_combinations(*ranges)
    assert says in str(error.value)


# ----------------------------------------------------------------------------------------------------------------- a node
def test_a_node_stands_before_the_last_and_keeps_every_index() -> None:
    arch = seed(nodes=3)
    assert growth_inputs(arch, "normal") == ("s0", "s1", "n0", "n1")
    once = grow_node(arch, {"normal": [Edge("n1", SEP), Edge("s0", "max_pool_3x3")]})
    assert once.cells["normal"].nodes[:3] == arch.cells["normal"].nodes
    assert once.cells["normal"].nodes[3] == Node((Edge("s0", "max_pool_3x3"), Edge("n1", SEP)))
    assert once.cells["normal"].order == (0, 1, 3, 2)
    assert once.cells["reduction"] == arch.cells["reduction"]
    assert growth_inputs(once, "normal") == ("s0", "s1", "n0", "n1", "n3")  # the last one, n2, is never read
    twice = grow_node(once, {"normal": [Edge("n3", SEP)], "reduction": [Edge("s1", SEP)]})
    assert twice.cells["normal"].order == (0, 1, 3, 4, 2)
    assert len(twice.cells["reduction"].nodes) == 4


def test_candidates_come_inputs_first_then_operations_in_order() -> None:
    arch = seed(nodes=2)
    found = growth_candidates(arch, "normal", ["none", SKIP])
    assert [(e.source, e.op) for e in found] == [(s, op) for s in ("s0", "s1", "n0") for op in ("none", SKIP)]
    assert [e.op for e in growth_candidates(arch, "normal")][: len(PRIMITIVES)] == list(PRIMITIVES)


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ({}, "nothing to grow"),
        ({"norml": [Edge("s0", SEP)]}, "no cell is called 'norml'"),
        ({"normal": [Edge("n1", SEP)]}, "cannot read 'n1'; it may read s0, s1, n0"),
        ({"normal": [Edge("n2", SEP)]}, "cannot read 'n2'"),
        ({"normal": []}, "at least one edge"),
    ],
)
def test_nodes_that_cannot_be_are_refused(new: dict[str, list[Edge]], says: str) -> None:
    with pytest.raises(InputError) as error:
        grow_node(seed(nodes=2), new)
    assert says in str(error.value)


def test_concatenating_cells_do_not_grow() -> None:
    arch = seed(post_op="concat_channels")
    for grow in (
        lambda: growth_inputs(arch, "normal"),
        lambda: grow_node(arch, {"normal": [Edge("s0", SEP)]}),
        lambda: deepen(arch, 0),
    ):
        with pytest.raises(InputError, match="post_op is concat_channels"):
            grow()


# --------------------------------------------------------------------------------------------------------- width and depth
def test_widen_multiplies_the_channels() -> None:
    assert widen(seed(channels=4), 3) == seed(channels=12)
    for factor in (1, 0, -2, True, 2.0):
        with pytest.raises(InputError, match="whole factor of at least 2"):
            widen(seed(), factor)  # type: ignore[arg-type]


def test_deepen_inserts_a_residual_cell_and_redirects_its_readers() -> None:
    arch = seed(cells=5)  # the reduction is cell 2
    deeper = deepen(arch, 1)
    assert deeper.layout == (
        Placed("normal", False, (-1, -1)),
        Placed("normal", False, (-1, 0)),
        Placed("normal", False, (0, 1), residual=True),
        Placed("reduction", True, (0, 2)),  # was (0, 1): its s1 is the new cell, its s0 as before
        Placed("normal", False, (1, 3)),  # was (1, 2): who read cell 1 as s0 still does
        Placed("normal", False, (3, 4)),  # was (2, 3): the old cells 2 and 3 have moved by one
    )
    assert deeper.cells == arch.cells
    after_reduction = deepen(arch, 2)
    assert after_reduction.layout[3] == Placed("normal", False, (1, 2), residual=True)
    assert after_reduction.layout[4] == Placed("normal", False, (1, 3))
    assert after_reduction.layout[5] == Placed("normal", False, (2, 4))
    assert deepen(arch, 4).layout[:5] == arch.layout


def test_deepen_gives_a_cell_of_its_own_where_each_place_has_one() -> None:
    arch = grow_node(seed(cells=3, share_cells=False), {"cell_00": [Edge("s0", SEP)]})
    deeper = deepen(arch, 1)  # cell 1 is the reduction: the nearest normal cell before it is cell_00
    assert [placed.cell for placed in deeper.layout] == ["cell_00", "cell_01", "cell_03", "cell_02"]
    assert deeper.cells["cell_03"] == arch.cells["cell_00"]
    assert [placed.cell for placed in deepen(deeper, 3).layout] == ["cell_00", "cell_01", "cell_03", "cell_02", "cell_04"]


def test_deepen_refuses_what_it_cannot_do() -> None:
    for position in (-1, 5):
        with pytest.raises(InputError, match="positions 0 to 4"):
            deepen(seed(cells=5), position)
    cell = Cell((Node((Edge("s0", SKIP),)),), last=0)
    arch = Architecture((1, 8, 8), 2, 4, "conv3x3", {"reduction": cell}, (Placed("reduction", True, (-1, -1)),))
    with pytest.raises(InputError, match="no normal cell"):
        deepen(arch, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(architectures(post_ops=("proj_channels",)), st.data())
def test_growth_costs_something_and_makes_another_architecture(arch: Architecture, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(arch.cells)))
    edge = data.draw(st.sampled_from(growth_candidates(arch, name, PRIMITIVES)))
    children = [grow_node(arch, {name: [edge]}), widen(arch, 2)]
    if not all(placed.reduction for placed in arch.layout):
        children.append(deepen(arch, data.draw(st.integers(0, len(arch.layout) - 1))))
    before = cost(arch)
    for child in children:
        after = cost(child)
        assert after.madds > before.madds
        assert after.params > before.params
        assert after.activation_bytes > before.activation_bytes
        assert child.hash != arch.hash
        assert Architecture.from_json(child.to_json()) == child


# ---------------------------------------------------------------------------------------------------------------- scaling
def test_scaling_keeps_cells_and_reductions() -> None:
    arch = grow_node(seed(cells=5, reductions=1), {"normal": [Edge("s0", SEP)]})
    bigger = scale_cells(arch, 2.0, 20)
    assert bigger == replace(arch, layout=seed(cells=10, reductions=1).layout)
    assert len(scale_cells(arch, 2.0, 8).layout) == 8
    assert scale_cells(arch, 1.0, 20) is arch
    assert len(scale_cells(arch, 0.1, 20).layout) == 3  # normal, reduction, normal
    with pytest.raises(InputError):
        scale_cells(arch, 2.0, 2)
    with pytest.raises(InputError, match="above 0"):
        scale_cells(arch, 0, 20)


def test_scaling_cells_of_their_own_repeats_each_where_it_stood() -> None:
    arch = seed(cells=4, reductions=1, share_cells=False)  # the reduction is cell_02
    names = [placed.cell for placed in scale_cells(arch, 2.0, 20).layout]
    assert names == ["cell_00", "cell_00", "cell_00", "cell_01", "cell_02", "cell_01", "cell_03", "cell_03"]
    assert [placed.cell for placed in scale_cells(seed(cells=6, share_cells=False), 0.5, 20).layout] == [
        "cell_00",
        "cell_03",
        "cell_02",
    ]
