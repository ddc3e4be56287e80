"""The modules of the cell space.

Every convolution block starts with a ReLU and ends with a batch norm; with stride 2 every block gives ceil(side / 2), odd
sides included.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.arch.modules.depthwise import DepthwiseConv2d
from archsearch.arch.modules.norm import BatchNorm2d


class Zero(nn.Module):
    """The operation ``none``: zeros of the right shape, whatever comes in (not even a NaN passes)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class GlobalPool(nn.Module):
    """The mean of each channel, as (N, C, 1, 1); unlike ``AdaptiveAvgPool2d(1)`` its gradient keeps the memory format."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[2:])


class FactorizedReduce(nn.Module):
    """Halves the resolution without dropping pixels: ReLU, two 1x1 convolutions of stride 2, one shifted, batch norm."""

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        height, width = x.shape[2:]
        # Shift by one pixel; an odd side has one pixel less to give then, and a zero stands in. A pad rather than a slice: a
        # slice's gradient is always contiguous, and mixed with channels_last it slows the ReLU's gradient down 20 to 40 times.
        shifted = F.pad(x, (-1, width % 2, -1, height % 2))
        output: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return output


def relu_conv_norm(inputs: int, outputs: int) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: brings a cell input to the cell's channels."""
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=nn.Conv2d(inputs, outputs, 1, bias=False), norm=BatchNorm2d(outputs)))


def pool(kind: str, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """A 3x3 pool ("max" or "avg") and a batch norm; the average leaves the padding out."""
    layer = nn.MaxPool2d(3, stride, 1) if kind == "max" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return nn.Sequential(OrderedDict(pool=layer, norm=BatchNorm2d(channels, affine=affine)))


def skip(channels: int, stride: int, affine: bool) -> nn.Module:
    """The identity; a factorised reduce where the resolution halves."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def sep_conv(kernel: int, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """Twice ReLU, depthwise, pointwise, batch norm; the first depthwise has the stride."""
    first = _depthwise(kernel, channels, stride, affine, dilation=1)
    second = _depthwise(kernel, channels, 1, affine, dilation=1)
    return nn.Sequential(
        OrderedDict({f"{name}{i}": layer for i, half in ((1, first), (2, second)) for name, layer in half.items()})
    )


def dil_conv(kernel: int, channels: int, stride: int, affine: bool) -> nn.Sequential:
    """ReLU, depthwise with dilation 2, pointwise, batch norm."""
    return nn.Sequential(OrderedDict(_depthwise(kernel, channels, stride, affine, dilation=2)))


def _depthwise(kernel: int, channels: int, stride: int, affine: bool, dilation: int) -> dict[str, nn.Module]:
    return {
        "relu": nn.ReLU(),
        "depthwise": DepthwiseConv2d(channels, kernel, stride, dilation),
        "pointwise": nn.Conv2d(channels, channels, 1, bias=False),
        "norm": BatchNorm2d(channels, affine=affine),
    }


def stem(inputs: int, widths: list[int], stride: int) -> nn.Sequential:
    """3x3 convolutions with batch norms, a ReLU between two; none after the last, since cells start with their own."""
    layers: dict[str, nn.Module] = {}
    for i, width in enumerate(widths):
        if i:
            layers[f"relu{i}"] = nn.ReLU()
        layers[f"conv{i}"] = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        layers[f"norm{i}"] = BatchNorm2d(width)
        inputs = width
    return nn.Sequential(OrderedDict(layers))


def drop_path(x: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Zeroes whole images of an edge's output with that probability, and scales the others so that the mean stays."""
    keep = 1.0 - probability
    mask = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep, generator=generator)
    return x * mask.div_(keep)
