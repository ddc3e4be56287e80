"""The description: identity, formats, immutability, and what is refused and where."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from arch_strategies import architectures
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.arch import Architecture, Cell, Edge, Node, Placed, seed_architecture
from archsearch.jobs import InputError


def seed(**changes: Any) -> Architecture:
    arguments: dict[str, Any] = {"cells": 3, "reductions": 1, "nodes": 2, "channels": 8, **changes}
    return seed_architecture((1, 8, 8), 10, **arguments)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The seed's JSON with one entry replaced; an entry set to ``...`` is removed."""
    data: Any = seed().to_json()
    *parents, key = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = data
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return data  # type: ignore[no-any-return]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(architectures())
def test_formats_round_trip(arch: Architecture) -> None:
    for other in (
        Architecture.from_json(arch.to_json()),
        Architecture.from_json(json.loads(arch.canonical())),
        Architecture.from_yaml(arch.to_yaml()),
        pickle.loads(pickle.dumps(arch)),
        copy.deepcopy(arch),
    ):
        assert other == arch
        assert other.hash == arch.hash
        assert hash(other) == hash(arch)


def test_canonical_text_and_hash_never_change() -> None:
    """Stores hold these hashes: if this test fails, old runs no longer know their architectures."""
    arch = seed_architecture((1, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
    assert arch.canonical() == (
        '{"cells":{"normal":{"last":0,"nodes":[[["s0","skip_connect"],["s1","sep_conv_3x3"]]],"post_op":"proj_channels"}},'
        '"channels":4,"classes":10,"family":"cell","input":[1,8,8],'
        '"layout":[{"cell":"normal","inputs":[-1,-1],"reduction":false,"residual":false}],"stem":"conv3x3"}'
    )
    assert arch.hash == "af1fcd1e45de3e0c924462ee17142119f7b8acf0795f90cc40850874af6f3699"


def test_the_order_in_which_edges_or_cells_are_given_does_not_matter() -> None:
    a, b, c = Edge("n10", "none"), Edge("n2", "none"), Edge("s1", "max_pool_3x3")
    assert Node((a, b, c)) == Node((c, b, a)) == Node((c, b, a))
    assert Node((a, b, c)).edges == (c, b, a)
    data = seed().to_json()
    data["cells"] = dict(reversed(data["cells"].items()))
    assert Architecture.from_json(data).hash == seed().hash


def test_another_architecture_has_another_hash() -> None:
    variants = [seed(), seed(channels=9), seed(cells=4), seed(nodes=3), seed(reductions=0), seed(share_cells=False)]
    variants += [seed(post_op="concat_channels"), seed(stem="conv3x3_stride2")]
    assert len({arch.hash for arch in variants}) == len(variants)


def test_it_is_immutable() -> None:
    arch = seed()
    with pytest.raises(FrozenInstanceError):
        arch.channels = 9  # type: ignore[misc]
    with pytest.raises(TypeError):
        arch.cells["normal"] = arch.cells["reduction"]  # type: ignore[index]
    cells = dict(arch.cells)
    other = Architecture(arch.input, arch.classes, arch.channels, arch.stem, cells, arch.layout)
    cells.clear()
    assert other == arch


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("family", "chain", "family"),
        ("classes", 1, "classes"),
        ("classes", True, "classes"),
        ("channels", 0, "channels"),
        ("channels", "8", "channels"),
        ("channels", 8.0, "channels"),
        ("input", [1, 8], "input"),
        ("input.1", 0, "input[1]"),
        ("stem", "conv7x7", "stem"),
        ("stem", ..., "'stem' is missing"),
        ("colour", "red", "unknown key 'colour'"),
        ("cells.normal.last", 2, "cells.normal: cell: last"),
        ("cells.normal.last", -1, "cells.normal: last"),
        ("cells.normal.post_op", "sum", "cells.normal: cell: post_op"),
        ("cells.normal.nodes", [], "cells.normal: cell: it needs at least one node"),
        ("cells.normal.nodes.1", [], "cells.normal.nodes[1]: node: it needs at least one edge"),
        ("cells.normal.nodes.1.0", ["s2", "none"], "cells.normal.nodes[1][0]: edge"),
        ("cells.normal.nodes.1.0", ["s0"], "cells.normal.nodes[1][0]: edge: expected a list of 2"),
        ("cells.normal.nodes.1.0", ["s0", "sep_conv_3x4"], "Did you mean 'sep_conv_3x3'"),
        ("cells.normal.nodes.0.0", ["n1", "none"], "cells.normal: cell: node 0 reads 'n1'"),
        ("cells.normal.nodes.0.0", ["n0", "none"], "cells.normal: cell: node 0 reads 'n0'"),
        ("cells.normal.nodes.0", [["s0", "none"], ["s0", "none"]], "cells.normal.nodes[0]: node: the same edge twice"),
        ("cells.extra", {"nodes": [[["s0", "none"]]], "last": 0, "post_op": "proj_channels"}, "['extra'] stand nowhere"),
        ("layout", [], "layout: it needs at least one cell"),
        ("layout.0.cell", "norml", "layout[0]: no cell is called 'norml'"),
        ("layout.1.inputs", [-1, 1], "layout[1]: it reads output 1"),
        ("layout.1.inputs.0", -2, "layout[1].inputs[0]"),
        ("layout.1.residual", True, "layout[1]: a residual cell must give the shape of its s1"),
        ("layout.2.inputs", [1, 0], "layout[2]: s0 (4, 4) must have the resolution of s1 (8, 8)"),
        ("layout.2.reduction", "yes", "layout[2].reduction: expected true or false"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(path: str, value: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        Architecture.from_json(changed(path, value))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("size", "reductions", "fits"), [((8, 8), 3, True), ((8, 8), 4, False), ((1, 5), 3, True), ((1, 5), 4, False)]
)
def test_resolution_never_falls_below_one(size: tuple[int, int], reductions: int, fits: bool) -> None:
    arguments: dict[str, int] = {"cells": 9, "reductions": reductions, "nodes": 1, "channels": 2}
    if fits:
        seed_architecture((1, *size), 2, **arguments)
        return
    with pytest.raises(InputError, match="resolution would fall below 1 pixel"):
        seed_architecture((1, *size), 2, **arguments)


def test_the_strided_stem_of_several_convolutions_needs_even_channels() -> None:
    with pytest.raises(InputError, match="must be even"):
        seed(stem="conv3x3_stride4", channels=3)


@pytest.mark.parametrize(
    "text", ["", "[", "a: b: c", "!!python/object/apply:os.system ['true']", "&a [*a]", "- 1", "1e999", "null"]
)
def test_text_that_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Architecture.from_yaml(text)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.sampled_from(["s0", "n0", "normal", "none", "proj_channels"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cell", "nodes", "last", "post_op"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_any_data_gives_an_architecture_or_an_input_error(data: st.DataObject) -> None:
    description = seed().to_json()
    place: Any = description
    while True:  # walk down to a random entry and put something else there
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(values)
            break
        place = place[key]
    try:
        arch = Architecture.from_json(description)
    except InputError:
        return
    assert Architecture.from_json(arch.to_json()) == arch


def test_parts_made_in_python_are_checked_too() -> None:
    cell = Cell((Node((Edge("s0", "none"),)),), last=0)
    with pytest.raises(InputError, match="layout\\[0\\]: it reads output 0"):
        Architecture((1, 8, 8), 2, 4, "conv3x3", {"a": cell}, (Placed("a", False, (0, 0)),))
    with pytest.raises(InputError, match="letters, digits and underscores"):
        Architecture((1, 8, 8), 2, 4, "conv3x3", {"a.b": cell}, (Placed("a.b", False, (-1, -1)),))
    with pytest.raises(InputError, match="post_op"):
        Cell(cell.nodes, last=0, post_op="sum")
