"""Batch norm that is faster while training with few channels on a CPU.

PyTorch's kernel goes over the channels of each pixel of a channels-last map by itself, which leaves most of a vector register
empty when there are few. Here a map (N, C, H, W) is read as N H rows of W C numbers, and each step is done on whole rows.
The values are those of the plain form up to the order of additions; the variance is found in two passes, as there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LAST = torch.channels_last
#: From so many channels on the plain kernel is as fast (measured on whole training steps).
ENOUGH = 8


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with running statistics; the fast form serves training on channels-last maps on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        fast = self.training and x.shape[1] < ENOUGH and x.device.type == "cpu" and x.shape[3] > 1
        if not (fast and x.is_contiguous(memory_format=LAST) and self.momentum is not None):
            return super().forward(x)
        count = x.numel() // x.shape[1]
        output, mean, variance = _Norm.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        normed: Tensor = output
        return normed


class _Norm(torch.autograd.Function):
    """Gives the normed map, and the mean and the (biased) variance of each channel, which take no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        rows, (channels, width) = _rows(x), (x.shape[1], x.shape[3])
        count = x.numel() // channels
        mean = _by_channel(rows, channels) / count
        centred = rows - mean.repeat(width)
        variance = _by_channel(centred * centred, channels) / count
        inverse = (variance + eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        output = centred * scale.repeat(width)
        if bias is not None:
            output += bias.repeat(width)
        ctx.save_for_backward(centred, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return _maps(output, x), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, inverse, scale = ctx.saved_tensors
        rows, (channels, width) = _rows(gradient), (gradient.shape[1], gradient.shape[3])
        count = gradient.numel() // channels
        total = _by_channel(rows, channels)
        along = _by_channel(rows * centred, channels) * inverse
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = torch.addcmul((-scale * total / count).repeat(width), rows, scale.repeat(width))
            by_x = _maps(by_x.addcmul_(centred, (-scale * inverse * along / count).repeat(width)), gradient)
        by_weight, by_bias = (
            value if wanted else None for value, wanted in zip((along, total), ctx.needs_input_grad[1:3], strict=True)
        )
        return by_x, by_weight, by_bias, None


def _rows(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) as (N H, W C): a view of what is channels-last."""
    n, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(n * height, width * channels)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    n, channels, height, width = like.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _by_channel(rows: Tensor, channels: int) -> Tensor:
    """The sum of each channel."""
    return rows.sum(0).view(-1, channels).sum(0)
