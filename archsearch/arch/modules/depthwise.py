"""Depthwise convolution with a faster backward pass on CPUs.

PyTorch's kernels for it (oneDNN) are fast forward, and backward only for kernels at most 3 wide without dilation; the others
take 5 to 30 times as long as forward. Here everything is put down to what is fast:

- the gradient by the input is a forward convolution of the output's gradient with the kernel turned by half a circle;
- with dilation 2, pixels of odd and even rows and columns never meet: four maps of half the size without dilation. With stride
  2 as well, only the even ones are read;
- the gradient by a 5x5 kernel is that by its three left columns and that by its three right ones.

The values are those of the plain form up to the order of additions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LAST = torch.channels_last


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with as many groups as channels, an odd square kernel, no bias, and padding that keeps the size.

    The fast backward pass serves kernels of 3 and 5, dilations of 1 and 2, channels-last maps on a CPU; all else is plain.
    """

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        spread = stride == dilation == 2
        self.fast = kernel in (3, 5) and dilation in (1, 2) and (stride == 1 or spread) and (kernel == 5 or dilation == 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.fast and x.device.type == "cpu" and torch.is_grad_enabled() and x.is_contiguous(memory_format=LAST):
            output: Tensor = _Depthwise.apply(x, self.weight, self.stride[0], self.dilation[0])  # type: ignore[no-untyped-call]
            return output
        return super().forward(x)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.size = x.shape
        ctx.spread = stride == 2
        if ctx.spread:
            x, dilation = x[:, :, ::2, ::2].contiguous(memory_format=LAST), 1
        ctx.dilation = dilation
        ctx.save_for_backward(x, weight)
        return _same(x, weight, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAST)
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x = _same(gradient, weight.flip(2, 3), ctx.dilation)
            if ctx.spread:
                whole = torch.zeros(ctx.size, dtype=x.dtype).to(memory_format=LAST)
                whole[:, :, ::2, ::2] = by_x
                by_x = whole
        if ctx.needs_input_grad[1]:
            if ctx.dilation == 2:
                x, gradient = _phases(x), _phases(gradient)
            by_weight = _by_weight(x, gradient, weight.shape[-1])
        return by_x, by_weight, None, None


def _same(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, 1, dilation * (weight.shape[-1] // 2), dilation, x.shape[1])


def _by_weight(x: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Gradient by the weight of an undilated convolution of stride 1, from its input and its output's gradient."""
    if kernel == 3:
        return _narrow(x, gradient, 3)
    x = F.pad(x, (1, 1))
    left, right = _narrow(x, F.pad(gradient, (0, 2)), 5), _narrow(x, F.pad(gradient, (2, 0)), 5)
    return torch.cat([left, right[..., 1:]], dim=3)  # both have the middle column


def _narrow(x: Tensor, gradient: Tensor, height: int) -> Tensor:
    """As `_by_weight`, for a kernel of that height and 3 wide."""
    channels = x.shape[1]
    weight, ones = x.new_empty((channels, 1, height, 3)), (1, 1)
    padding, mask = (height // 2, 1), (False, True, False)
    found = torch.ops.aten.convolution_backward(gradient, x, weight, None, ones, padding, ones, False, (0, 0), channels, mask)
    by_weight: Tensor = found[1]
    return by_weight


def _phases(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) taken apart by odd and even rows and columns: (4 N, C, ceil(H / 2), ceil(W / 2)), zeros at odd ends."""
    n, channels, height, width = x.shape
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    apart = x.permute(0, 2, 3, 1).reshape(n, rows, 2, columns, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return apart.reshape(4 * n, rows, columns, channels).permute(0, 3, 1, 2)
