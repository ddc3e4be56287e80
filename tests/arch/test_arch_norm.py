"""The batch norm for few channels against PyTorch's, and when it is used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from archsearch.arch.modules import norm
from archsearch.arch.modules.norm import ENOUGH, BatchNorm2d

LAST = torch.channels_last


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Far from zero, so that a variance in one pass would be wrong."""
    x = 1 + 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=dtype)
    return x.contiguous(memory_format=LAST).requires_grad_()


def pair(channels: int, affine: bool = True, dtype: torch.dtype = torch.float32) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    ours, plain = BatchNorm2d(channels, affine=affine), nn.BatchNorm2d(channels, affine=affine)
    random = torch.Generator().manual_seed(6)
    for tensor in (*ours.parameters(), ours.running_mean, ours.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 1.5, generator=random)
    plain.load_state_dict(ours.state_dict())
    return ours.to(dtype), plain.to(dtype)


def step(layer: nn.BatchNorm2d, x: Tensor) -> list[Tensor]:
    """Output, gradients, then statistics afterwards."""
    y = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=y.dtype)
    found = torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])
    return [y, *found, *layer.buffers()]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each use of the fast form, forward or backward."""
    calls: list[int] = []
    whole = norm._rows
    monkeypatch.setattr(norm, "_rows", lambda x: (calls.append(1), whole(x))[1])
    return calls


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(8, 4, 8, 8), (3, 2, 5, 7), (2, 7, 1, 2), (1, 1, 9, 4)], ids=str)
def test_values_of_the_plain_form(shape: tuple[int, ...], affine: bool, used: list[int]) -> None:
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 5e-4)):
        ours, plain = pair(shape[1], affine, dtype)
        for layer in (ours, plain):
            layer.momentum = 0.3
        x = images(shape, dtype)
        for _ in range(2):  # the running statistics move on
            for one, other in zip(step(ours, x), step(plain, x), strict=True):
                torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert len(used) == 8


@pytest.mark.parametrize("affine", [True, False])
def test_gradient_by_finite_differences(affine: bool, used: list[int]) -> None:
    ours, _ = pair(3, affine, torch.float64)
    x = images((2, 3, 3, 2), torch.float64)
    parameters = dict(ours.named_parameters())

    def normed(x: Tensor, *values: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(ours, dict(zip(parameters, values, strict=True)), (x,))
        return output

    assert torch.autograd.gradcheck(normed, (x, *parameters.values()))
    assert used


def test_same_bits_each_time_and_in_channels_last() -> None:
    x = images((8, 4, 8, 8))
    first, again = step(pair(4)[0], x), step(pair(4)[0], x)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for maps in first[:2]:
        assert maps.is_contiguous(memory_format=LAST) and not maps.is_contiguous()


def test_frozen_scale_gets_no_gradient(used: list[int]) -> None:
    ours, _ = pair(4)
    ours.requires_grad_(False)
    x = images((4, 4, 6, 6))
    ours(x).square().sum().backward()
    assert used and x.grad is not None and ours.weight.grad is None and ours.bias.grad is None


@pytest.mark.parametrize("what", ["many channels", "evaluation", "contiguous", "one pixel wide"])
def test_all_else_is_plain(what: str, used: list[int]) -> None:
    channels = ENOUGH if what == "many channels" else 4
    ours, plain = pair(channels)
    x = images((4, channels, 6, 1 if what == "one pixel wide" else 6))
    if what == "contiguous":
        x = x.detach().contiguous().requires_grad_()
    for layer in (ours, plain):
        layer.train(what != "evaluation")
    for one, other in zip(step(ours, x), step(plain, x), strict=True):
        assert torch.equal(one, other)
    assert not used


def test_one_value_for_a_channel_is_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm2d(4)(images((1, 4, 1, 1)))
