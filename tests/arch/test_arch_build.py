"""The built network: shapes, exactness of ``join``, drop path, auxiliary tower, seeds, memory format, users' operations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from arch_strategies import architectures
from hypothesis import given, settings
from torch import Tensor, nn

from archsearch.arch import (
    PRIMITIVES,
    Architecture,
    Cell,
    Cost,
    Edge,
    Node,
    cost,
    grow_node,
    growth_candidates,
    growth_inputs,
    operation_names,
    register_operation,
    seed_architecture,
)
from archsearch.arch.build import CellModule, Network, build
from archsearch.arch.counting import conv_cost
from archsearch.arch.modules.layers import drop_path
from archsearch.arch.operations import operation
from archsearch.jobs import InputError
from archsearch.registry import OPERATIONS


def seed(side: int = 8, cells: int = 3, reductions: int = 1, post_op: str = "proj_channels") -> Architecture:
    return seed_architecture((3, side, side), 10, cells=cells, reductions=reductions, nodes=2, channels=4, post_op=post_op)


def every_operation(arch: Architecture) -> Architecture:
    """The architecture with a node in each cell that has all primitives on all inputs."""
    return grow_node(arch, {name: growth_candidates(arch, name, PRIMITIVES) for name in arch.cells})


def images(arch: Architecture, count: int = 2) -> Tensor:
    return torch.randn(count, *arch.input, generator=torch.Generator().manual_seed(1))


def cell_of(network: Network, index: int) -> CellModule:
    cell = network.cells[index]
    assert isinstance(cell, CellModule)
    return cell


@settings(max_examples=40, deadline=None, derandomize=True)
@given(architectures())
def test_every_architecture_computes_logits_and_gradients(arch: Architecture) -> None:
    network = build(arch, seed=0)
    logits = network(images(arch, 3))
    assert logits.shape == (3, arch.classes)
    logits.square().sum().backward()
    assert torch.isfinite(logits).all()
    assert network.stem[0].weight.grad is not None
    names = [name for name, _ in network.named_parameters()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_operation_agrees_on_the_size(name: str, stride: int, affine: bool) -> None:
    op = operation(name).build(6, stride, affine)
    for size in [(8, 8), (7, 7), (7, 8), (2, 2), (1, 1), (1, 6)]:
        out = op(torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(0)))
        assert out.shape == (2, 6, -(-size[0] // stride), -(-size[1] // stride))
    assert all(module.affine == affine for module in op.modules() if isinstance(module, nn.BatchNorm2d))


def test_factorised_reduce_sees_every_pixel_of_even_maps_and_the_odd_ones_shifted() -> None:
    op = operation("skip_connect").build(2, 2, False).eval()
    with torch.no_grad():
        for conv in (op.even, op.odd):
            conv.weight.fill_(0.5)  # the mean of the two channels
    for side in (4, 5):
        x = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side).expand(1, 2, side, side)
        padded = nn.functional.pad(x, (0, 1, 0, 1))
        expected = torch.stack([x[0, 0, ::2, ::2], padded[0, 0, 1::2, 1::2][: -(-side // 2), : -(-side // 2)]])
        assert torch.allclose(op(x)[0], expected, atol=1e-3)


def test_none_lets_nothing_through() -> None:
    x = torch.full((1, 2, 4, 4), torch.nan, requires_grad=True)
    for stride in (1, 2):
        assert (operation("none").build(2, stride, True)(x) == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_an_addend_of_zero_changes_no_bit_and_passes_the_gradient(training: bool) -> None:
    arch = every_operation(seed())
    network = build(arch, seed=0).train(training)
    for index, channels in enumerate((4, 8, 8)):
        cell = cell_of(network, index)
        s0, s1 = torch.randn(2, 2, 4 if index < 2 else 8, 8 if index < 2 else 4, 8 if index < 2 else 4)
        if index == 2:
            s0 = torch.randn(2, 4, 8, 8)
        states = cell.states(s0, s1)
        zeros = torch.zeros_like(states["n0"], requires_grad=True)
        assert states["n0"].shape[1] == channels
        plain, added = cell.join(states), cell.join(states, zeros)
        assert plain.numpy(force=True).tobytes() == added.numpy(force=True).tobytes()
        added.square().sum().backward(retain_graph=True)
        assert zeros.grad is not None
        assert zeros.grad.abs().sum() > 0


def test_states_are_named_and_computed_in_order() -> None:
    arch = grow_node(seed(), {"normal": [Edge("n0", "sep_conv_3x3")]})
    cell = cell_of(build(arch, seed=0), 0)
    states = cell.states(images(arch)[:, :1].expand(2, 4, 8, 8), images(arch)[:, :1].expand(2, 4, 8, 8))
    assert list(states) == ["s0", "s1", "n0", "n2", "n1"]


def test_concatenating_cells_take_no_addend() -> None:
    cell = cell_of(build(seed(post_op="concat_channels"), seed=0), 0)
    states = cell.states(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8))
    assert cell.join(states).shape == (1, 8, 8, 8)
    with pytest.raises(InputError, match="concat_channels"):
        cell.join(states, torch.zeros(1, 4, 8, 8))


def test_a_grown_cell_keeps_every_name_and_shape() -> None:
    arch = seed()
    before = build(arch, seed=0).state_dict()
    after = build(every_operation(arch), seed=0).state_dict()
    assert all(name in after and after[name].shape == tensor.shape for name, tensor in before.items())
    assert "cells.1.nodes.2.s0_dil_conv_5x5.pointwise.weight" in after.keys() - before.keys()


def test_a_seed_decides_the_weights_and_leaves_torch_alone() -> None:
    arch = seed()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = build(arch, seed=1), build(arch, seed=1), build(arch, seed=2)
    assert torch.rand(1) == expected
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_drop_path_drops_whole_images_of_edges_while_training_only() -> None:
    arch = seed()
    network = build(arch, seed=0, drop_path=0.5)
    assert network.drop_path == 0.5
    x = images(arch, 4)
    network.eval()
    assert torch.equal(network(x), network(x))
    network.train()

    def run(number: int) -> Tensor:
        network.use_generator(torch.Generator().manual_seed(number))
        output: Tensor = network(x)
        return output

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    network.drop_path = 0.0
    assert torch.equal(run(1), run(2))
    with pytest.raises(InputError):
        network.drop_path = 1.0


def test_drop_path_keeps_the_mean() -> None:
    dropped = drop_path(torch.full((4000, 2, 3, 3), 3.0), 0.25, torch.Generator().manual_seed(0))
    per_image = dropped.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert set(per_image[:, 0].tolist()) == {0.0, 4.0}
    assert abs(dropped.mean().item() - 3.0) < 0.05


def test_drop_path_spares_identities() -> None:
    node = Node((Edge("s0", "skip_connect"), Edge("s1", "skip_connect")))
    arch = replace(seed(reductions=0), cells={"normal": Cell((node,), last=0)})
    network = build(arch, seed=0)
    expected = network(images(arch))
    network.drop_path = 0.9
    assert torch.equal(network(images(arch)), expected)


@pytest.mark.parametrize("side", [4, 8])
def test_the_auxiliary_tower_speaks_while_training_only(side: int) -> None:
    arch = seed(side=side, cells=6, reductions=2)
    network = build(arch, auxiliary=True, seed=0)
    assert network.auxiliary_at == 4
    logits, auxiliary = network(images(arch, 3))
    assert logits.shape == auxiliary.shape == (3, 10)
    auxiliary.square().sum().backward()
    assert network.stem[0].weight.grad is not None
    assert cell_of(network, 5).norm.weight.grad is None  # type: ignore[union-attr]
    network.eval()
    assert network(images(arch)).shape == (2, 10)


def test_channels_last_gives_the_same_function_and_stays() -> None:
    """Mixed memory formats are many times slower; gradients must keep the format of their activations."""
    arch = every_operation(seed(side=9))
    network = build(arch, seed=0).double()
    x = images(arch).double()
    expected = network(x)
    network.to(memory_format=torch.channels_last)
    seen = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output.is_contiguous(memory_format=torch.channels_last))
        output.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))

    for module in network.modules():
        if isinstance(module, (nn.ReLU, nn.BatchNorm2d)):
            module.register_forward_hook(look)
    actual = network(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-9)
    actual.square().sum().backward()
    assert len(seen) > 100
    assert all(seen)


# ------------------------------------------------------------------------------------------------------- a user's operation
class Scaled(nn.Module):
    """A 1x1 convolution, subsampled: what a user could write."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv(x)
        return output


@pytest.fixture
def own_operation() -> Iterator[str]:
    def own_cost(channels: int, stride: int, size: tuple[int, int], affine: bool) -> Cost:
        return conv_cost(channels, channels, 1, (-(-size[0] // stride), -(-size[1] // stride)))

    register_operation("my_conv", cost=own_cost, build=lambda channels, stride, affine: Scaled(channels, stride))
    yield "my_conv"
    del OPERATIONS._loaded["my_conv"]


def test_a_users_operation_is_known_everywhere(own_operation: str) -> None:
    arch = seed()
    assert operation_names() == (*PRIMITIVES, own_operation)
    assert [e.source for e in growth_candidates(arch, "normal") if e.op == own_operation] == list(growth_inputs(arch, "normal"))
    child = grow_node(arch, {name: [Edge(s, own_operation) for s in growth_inputs(arch, name)] for name in arch.cells})
    assert Architecture.from_yaml(child.to_yaml()) == child
    network = build(child, seed=0)
    assert sum(p.numel() for p in network.parameters()) == cost(child).params
    assert network(images(child)).shape == (2, 10)
    assert "cells.0.nodes.2.s1_my_conv.conv.weight" in network.state_dict()
    with pytest.raises(ValueError, match="already taken"):
        register_operation(own_operation, cost=operation("none").cost, build=operation("none").build)


def test_an_operation_that_is_not_there_any_more_is_named(own_operation: str) -> None:
    child = grow_node(seed(), {"normal": [Edge("s0", own_operation)]})
    data = child.to_json()
    data["cells"]["normal"]["nodes"][2][0][1] = "my_lost_conv"
    with pytest.raises(InputError, match=r"my_lost_conv.*Did you mean 'my_conv'"):
        Architecture.from_json(data)


@pytest.mark.parametrize("name", ["", "a.b", "3x3", "a-b", "größe"])
def test_names_that_cannot_name_parameters_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        register_operation(name, cost=operation("none").cost, build=operation("none").build)
    with pytest.raises(ValueError, match="already taken"):
        register_operation("none", cost=operation("none").cost, build=operation("none").build)


def test_descriptions_and_costs_need_no_torch() -> None:
    code = (
        "import sys; from archsearch.arch import *; "
        "a = seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=2, channels=4); "
        "cost(widen(deepen(a, 1), 2)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
