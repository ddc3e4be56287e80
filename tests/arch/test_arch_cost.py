"""``cost()`` against PyTorch's FLOP counter, the built model's parameters, and the outputs of its layers."""

from __future__ import annotations

import pytest
import torch
from arch_strategies import architectures
from hypothesis import given, settings
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archsearch.arch import PRIMITIVES, Architecture, Cost, cost, grow_node, growth_candidates, seed_architecture
from archsearch.arch.build import build
from archsearch.arch.operations import operation


def measured(model: nn.Module, x: Tensor) -> Cost:
    """The cost of one image as PyTorch and the model itself tell it."""
    outputs = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    for module in model.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(count)
    model.eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(x)
    assert flops.get_total_flops() % 2 == 0
    return Cost(flops.get_total_flops() // 2, sum(p.numel() for p in model.parameters()), 4 * outputs)


def built_cost(arch: Architecture) -> Cost:
    with torch.device("meta"):
        return measured(build(arch), torch.zeros(1, *arch.input))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(architectures())
def test_cost_is_that_of_the_built_model(arch: Architecture) -> None:
    assert cost(arch) == built_cost(arch)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_cost_of_an_operation_is_that_of_its_module(name: str, stride: int, affine: bool) -> None:
    op = operation(name)
    for size in [(8, 8), (7, 7), (1, 5), (1, 1)]:
        assert op.cost(6, stride, size, affine) == measured(op.build(6, stride, affine), torch.zeros(1, 6, *size))


def test_auxiliary_tower_is_not_part_of_the_cost() -> None:
    arch = seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=2, channels=4)
    with torch.device("meta"):
        model = build(arch, auxiliary=True)
    extra = sum(p.numel() for name, p in model.named_parameters() if name.startswith("auxiliary."))
    assert extra > 0
    assert sum(p.numel() for p in model.parameters()) == cost(arch).params + extra


def test_a_known_network() -> None:
    """Worked out by hand: one cell of one node on a 1x4x4 image, 2 channels, 3 classes."""
    arch = seed_architecture((1, 4, 4), 3, cells=1, reductions=0, nodes=1, channels=2)
    stem, preprocess, sep_conv, projection, classifier = 9 * 2, 2 * 4, 2 * (9 * 2 + 4), 4, 2 * 3
    assert cost(arch).madds == 16 * (stem + preprocess + sep_conv + projection) + classifier
    assert cost(arch).params == stem + preprocess + sep_conv + projection + classifier + 3 + 6 * (2 + 2)
    # stem 2, preprocess 2 * 3, sep_conv 2 * 4, projection and norm 2, final ReLU 1 maps of 2 channels; pooled vector; logits
    assert cost(arch).activation_bytes == 4 * (19 * 2 * 16 + 2 + 3)


def test_activation_bytes_bound_what_training_keeps() -> None:
    """Against the tensors that autograd saves for the backward pass, weights and statistics left out."""
    for side, cells, reductions in ((8, 3, 1), (16, 5, 2)):
        arch = seed_architecture((3, side, side), 10, cells=cells, reductions=reductions, nodes=2, channels=8)
        arch = grow_node(arch, {name: growth_candidates(arch, name, ["max_pool_3x3", "dil_conv_3x3"]) for name in arch.cells})
        network = build(arch, seed=0)
        own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
        saved: dict[int, int] = {}

        def keep(tensor: Tensor, own: set[int] = own, saved: dict[int, int] = saved) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = network(torch.zeros(16, *arch.input))
        assert logits.requires_grad
        assert 1.0 < cost(arch).activation_bytes / (sum(saved.values()) / 16) < 1.35
