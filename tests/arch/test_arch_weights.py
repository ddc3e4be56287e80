"""What a child takes from its parent: equal functions, and gradients that can tell copies apart."""

from __future__ import annotations

import pytest
import torch
from arch_strategies import architectures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from archsearch.arch import PRIMITIVES, Architecture, Edge, deepen, grow_node, growth_candidates, seed_architecture, widen
from archsearch.arch.build import (
    Network,
    build,
    candidate_prefix,
    candidate_projection,
    deepened_state,
    grown_weights,
    inherit,
    widened_state,
)
from archsearch.arch.operations import operation
from archsearch.jobs import InputError


def seed(nodes: int = 2, **more: bool) -> Architecture:
    return seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=nodes, channels=4, **more)  # type: ignore[arg-type]


def images(arch: Architecture, count: int = 4) -> Tensor:
    return torch.randn(count, *arch.input, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def trained(arch: Architecture, **options: bool) -> Network:
    """A float64 network whose every parameter and statistic is far from its initial value."""
    network = build(arch, seed=0, **options).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    network.train()
    for _ in range(3):
        network(images(arch))
    return network


def child_of(parent: Network, arch: Architecture, state: dict[str, Tensor]) -> tuple[Network, list[str]]:
    child = build(arch, seed=7, auxiliary=parent.auxiliary is not None).double()
    return child, inherit(child, state)


# ---------------------------------------------------------------------------------------------------------------- inherit
def test_inherit_copies_what_fits_and_names_the_rest() -> None:
    arch = seed()
    parent = trained(arch)
    child = build(grow_node(arch, {"normal": [Edge("s0", "max_pool_3x3")]}), seed=7).double()
    kept = child.state_dict()["cells.0.projections.2.weight"].clone()
    left = inherit(child, {**parent.state_dict(), "classifier.bias": torch.zeros(3), "unknown": torch.zeros(1)})
    new = ["projections.2.weight"] + [f"nodes.2.s0_max_pool_3x3.norm.{part}" for part in ("weight", "bias")]
    new += [f"nodes.2.s0_max_pool_3x3.norm.{part}" for part in ("running_mean", "running_var", "num_batches_tracked")]
    assert set(left) == {f"cells.{k}.{name}" for k in (0, 2) for name in new} | {"classifier.bias"}
    assert left == [name for name in child.state_dict() if name in set(left)]
    assert torch.equal(child.state_dict()["cells.0.projections.2.weight"], kept)
    for name, tensor in parent.state_dict().items():
        if name not in left:
            assert torch.equal(child.state_dict()[name], tensor)


def test_inherit_everything_gives_the_same_network() -> None:
    parent = trained(seed())
    child, left = child_of(parent, parent.arch, parent.state_dict())
    assert left == []
    assert torch.equal(child.eval()(images(parent.arch)), parent.eval()(images(parent.arch)))


# ----------------------------------------------------------------------------------------------------------------- a node
@settings(max_examples=30, deadline=None, derandomize=True)
@given(architectures(post_ops=("proj_channels",)), st.data())
def test_a_silent_new_node_leaves_every_bit(arch: Architecture, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(arch.cells)), min_size=1, unique=True))
    choices = {name: st.sampled_from(growth_candidates(arch, name, PRIMITIVES)) for name in names}
    edges = {name: data.draw(st.lists(choice, min_size=1, max_size=3, unique=True)) for name, choice in choices.items()}
    parent = trained(arch)
    child, _ = child_of(parent, grow_node(arch, edges), parent.state_dict())
    grown_weights(child, names, projection_scale=0.0)
    for mode in (False, True):
        assert torch.equal(child.train(mode)(images(arch)), parent.train(mode)(images(arch)))


def test_a_new_node_takes_the_weak_learners_weights() -> None:
    arch = seed()
    sep, pool = Edge("s0", "sep_conv_3x3"), Edge("s1", "avg_pool_3x3")
    skip = Edge("n0", "skip_connect")
    candidates = {}
    generator = torch.Generator().manual_seed(3)
    for position in (0, 2):
        for edge in (sep, pool, skip, Edge("s1", "dil_conv_5x5")):
            op = operation(edge.op).build(4 * (1 + position // 2), 1, False)
            for name, tensor in op.state_dict().items():
                candidates[candidate_prefix(position, edge) + name] = torch.rand(tensor.shape, generator=generator).to(tensor)
        width = 4 * (1 + position // 2)
        candidates[candidate_projection(position)] = torch.rand(width, width, 1, 1, generator=generator)
    child = build(grow_node(arch, {"normal": [sep, pool, skip]}), seed=7)
    gammas = {"normal": {sep: -0.5, pool: 0.25, skip: 9.0}}  # an identity has no scale to set
    grown_weights(child, ["normal"], candidates=candidates, gammas=gammas, projection_scale=0.1)
    state = child.state_dict()
    for position in (0, 2):
        at = f"cells.{position}.nodes.2."
        assert torch.equal(state[f"cells.{position}.projections.2.weight"], candidates[candidate_projection(position)] * 0.1)
        for edge in (sep, pool):
            for name in operation(edge.op).build(4, 1, False).state_dict():
                assert torch.equal(state[f"{at}{edge.key}.{name}"], candidates[candidate_prefix(position, edge) + name]), name
        assert (state[f"{at}{sep.key}.norm2.weight"] == -0.5).all()
        assert (state[f"{at}{sep.key}.norm1.weight"] == 1.0).all()
        assert (state[f"{at}{pool.key}.norm.weight"] == 0.25).all()


def test_only_the_named_cells_and_the_newest_node_are_touched() -> None:
    arch = grow_node(seed(), {"normal": [Edge("s0", "sep_conv_3x3")], "reduction": [Edge("s0", "sep_conv_3x3")]})
    child, twin = build(arch, seed=7), build(arch, seed=7)
    grown_weights(child, ["reduction"], gammas={"reduction": {Edge("s0", "sep_conv_3x3"): 0.5}}, projection_scale=0.1)
    changed = {n for n, t in child.state_dict().items() if not torch.equal(t, twin.state_dict()[n])}
    assert changed == {"cells.1.projections.2.weight", "cells.1.nodes.2.s0_sep_conv_3x3.norm2.weight"}
    with pytest.raises(InputError, match="no cell is called 'norml'"):
        grown_weights(child, ["norml"])


# ------------------------------------------------------------------------------------------------------------------ width
@settings(max_examples=40, deadline=None, derandomize=True)
@given(architectures(), st.sampled_from([2, 3]), st.sampled_from([0.0, 0.25, 0.9]), st.booleans())
def test_a_widened_network_computes_its_parents_function(
    arch: Architecture, factor: int, spread: float, auxiliary: bool
) -> None:
    parent = trained(arch, auxiliary=auxiliary)
    x = images(arch)
    child, left = child_of(parent, widen(arch, factor), widened_state(arch, parent.state_dict(), factor, spread=spread))
    assert left == []
    assert torch.allclose(child.eval()(x), parent.eval()(x), rtol=1e-7, atol=1e-9)
    before, after = parent.train()(x), child.train()(x)
    for a, b in zip(before if auxiliary else [before], after if auxiliary else [after], strict=True):
        assert torch.allclose(b, a, rtol=1e-4, atol=1e-6)


def test_the_copies_of_a_channel_get_gradients_of_their_own() -> None:
    """With equal shares the copies would stay equal for ever, and the wider network would learn no more than its parent."""
    arch = seed()
    parent = trained(arch)

    def gap(spread: float) -> float:
        child, _ = child_of(parent, widen(arch, 2), widened_state(arch, parent.state_dict(), 2, spread=spread, seed=1))
        child.train()(images(arch)).square().sum().backward()
        gradient = child.stem[0].weight.grad
        assert gradient is not None
        return float((gradient[0::2] - gradient[1::2]).abs().max() / gradient.abs().max())

    assert gap(0.0) < 1e-6
    assert gap(0.25) > 1e-2


def test_widening_is_seeded() -> None:
    arch = seed()
    state = trained(arch).state_dict()
    one, same, other = (widened_state(arch, state, 2, seed=number)["classifier.weight"] for number in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_widening_refuses_weights_of_another_architecture() -> None:
    state = trained(seed()).state_dict()
    with pytest.raises(InputError, match="belong to another architecture"):
        widened_state(seed(nodes=3), state, 2)
    with pytest.raises(InputError, match="cannot be widened"):
        widened_state(widen(seed(), 2), state, 3)
    with pytest.raises(InputError, match="spread"):
        widened_state(seed(), state, 2, spread=1.0)


# ------------------------------------------------------------------------------------------------------------------ depth
@settings(max_examples=40, deadline=None, derandomize=True)
@given(architectures(post_ops=("proj_channels",)), st.data())
def test_a_deepened_network_computes_its_parents_function_bit_for_bit(arch: Architecture, data: st.DataObject) -> None:
    if all(placed.reduction for placed in arch.layout):
        return
    position = data.draw(st.integers(0, len(arch.layout) - 1))
    parent = trained(arch)
    child, left = child_of(parent, deepen(arch, position), deepened_state(arch, parent.state_dict(), position))
    assert all(name.startswith(f"cells.{position + 1}.") for name in left)
    for mode in (False, True):
        assert torch.equal(child.train(mode)(images(arch)), parent.train(mode)(images(arch)))


def test_the_inserted_cell_learns() -> None:
    arch = seed()
    parent = trained(arch)
    child, _ = child_of(parent, deepen(arch, 1), deepened_state(arch, parent.state_dict(), 1))
    child.train()(images(arch)).square().sum().backward()
    norm = child.cells[2].norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.weight.grad is not None and norm.weight.grad.abs().min() > 0


def test_deepening_refuses_weights_of_another_architecture() -> None:
    with pytest.raises(InputError, match="belong to another architecture"):
        deepened_state(deepen(seed(), 1), trained(seed()).state_dict(), 1)
    with pytest.raises(InputError, match=r"cells\.7\.norm\.weight"):
        deepened_state(seed(), trained(seed()).state_dict(), 7)
