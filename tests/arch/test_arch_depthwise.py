"""The depthwise convolution's own backward pass against PyTorch's, and when it is used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from archsearch.arch.modules import depthwise
from archsearch.arch.modules.depthwise import DepthwiseConv2d

FAST = [(5, 1, 1), (3, 1, 2), (5, 1, 2), (3, 2, 2), (5, 2, 2)]  # kernel, stride, dilation
PLAIN = [(3, 1, 1), (3, 2, 1), (5, 2, 1), (7, 1, 1), (3, 1, 3)]
LAST = torch.channels_last


def layer(channels: int, kernel: int, stride: int, dilation: int, dtype: torch.dtype = torch.float32) -> DepthwiseConv2d:
    torch.manual_seed(3)
    return DepthwiseConv2d(channels, kernel, stride, dilation).to(dtype)


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=dtype)
    return x.contiguous(memory_format=LAST).requires_grad_()


def gradients(conv: nn.Module, x: Tensor, forward: object = None) -> tuple[Tensor, Tensor, Tensor]:
    y = nn.Conv2d.forward(conv, x) if forward == "plain" else conv(x)  # type: ignore[arg-type]
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=y.dtype)
    return (y, *torch.autograd.grad((y * weights).sum(), [x, conv.weight]))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each use of the fast form."""
    calls: list[int] = []
    whole = depthwise._by_weight
    monkeypatch.setattr(depthwise, "_by_weight", lambda *given: (calls.append(1), whole(*given))[1])
    return calls


@pytest.mark.parametrize(("kernel", "stride", "dilation"), FAST)
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (6, 3), (1, 1), (2, 9), (16, 16)], ids=str)
def test_values_of_the_plain_form(kernel: int, stride: int, dilation: int, size: tuple[int, int], used: list[int]) -> None:
    for channels, dtype, tolerance in ((4, torch.float64, 1e-12), (16, torch.float32, 1e-4), (1, torch.float32, 1e-4)):
        conv, x = layer(channels, kernel, stride, dilation, dtype), images((3, channels, *size), dtype)
        ours, plain = gradients(conv, x), gradients(conv, x, "plain")
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert len(used) == 3


@pytest.mark.parametrize(("kernel", "stride", "dilation"), FAST)
@pytest.mark.parametrize("size", [(4, 5), (6, 6)], ids=str)
def test_gradient_by_finite_differences(
    kernel: int, stride: int, dilation: int, size: tuple[int, int], used: list[int]
) -> None:
    conv, x = layer(2, kernel, stride, dilation, torch.float64), images((2, 2, *size), torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, weight: torch.func.functional_call(conv, {"weight": weight}, (x,)), (x, conv.weight)
    )
    assert used


@pytest.mark.parametrize(("kernel", "stride", "dilation"), FAST)
def test_same_bits_each_time_and_in_channels_last(kernel: int, stride: int, dilation: int) -> None:
    conv, x = layer(8, kernel, stride, dilation), images((16, 8, 12, 12))
    first, again = gradients(conv, x), gradients(conv, x)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert first[0].is_contiguous(memory_format=LAST) and first[1].is_contiguous(memory_format=LAST)
    assert not first[1].is_contiguous()


@pytest.mark.parametrize(("kernel", "stride", "dilation"), FAST)
def test_only_the_gradients_that_are_wanted(kernel: int, stride: int, dilation: int, used: list[int]) -> None:
    conv, x = layer(4, kernel, stride, dilation), images((2, 4, 6, 6))
    _, by_x, by_weight = gradients(conv, x)
    used.clear()
    conv(x.detach()).mul(1.0).sum().backward()
    assert len(used) == 1 and conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    conv(x).sum().backward()
    assert len(used) == 1 and x.grad is not None
    assert by_x.abs().max() > 0 and by_weight.abs().max() > 0


@pytest.mark.parametrize(("kernel", "stride", "dilation"), PLAIN)
def test_other_kernels_are_plain(kernel: int, stride: int, dilation: int, used: list[int]) -> None:
    conv, x = layer(4, kernel, stride, dilation), images((2, 4, 9, 8))
    for one, other in zip(gradients(conv, x), gradients(conv, x, "plain"), strict=True):
        assert torch.equal(one, other)
    assert not used


def test_contiguous_maps_and_evaluation_are_plain(used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = layer(4, 5, 1, 2), images((2, 4, 9, 8))
    contiguous = x.detach().contiguous().requires_grad_()
    for one, other in zip(gradients(conv, contiguous), gradients(conv, contiguous, "plain"), strict=True):
        assert torch.equal(one, other)
    assert not used
    monkeypatch.setattr(depthwise._Depthwise, "apply", None)
    with torch.no_grad():
        conv(x)


def test_same_names_shapes_and_start_as_the_plain_layer() -> None:
    torch.manual_seed(1)
    ours = DepthwiseConv2d(6, 5, 2, 2)
    torch.manual_seed(1)
    plain = nn.Conv2d(6, 6, 5, 2, 4, 2, groups=6, bias=False)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert torch.equal(ours.weight, plain.weight)
