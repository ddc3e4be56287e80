"""Eleven networks of few kinds of operations, so that every assignment of these to backends can be measured.

Each is a function that returns a module with its inputs, as ``archsearch assign module:function`` takes them:

    cd experiments/assignment && archsearch assign models:mobile --backends onednn,channels_last,native --budget 20
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Made = tuple[nn.Module, Tensor]


def picture(size: int) -> Tensor:
    return torch.randn(1, 3, size, size)


def conv(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, stride, size // 2)


def depthwise(channels: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels)


class Skip(nn.Module):
    """x + inner(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.inner(x)
        return found


class Branches(nn.Module):
    """What its branches make of one input, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def plain() -> Made:
    """Convolutions and pooling, as VGG has them."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        layers += [conv(before, after), nn.ReLU(), conv(after, after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), picture(96)


def wide() -> Made:
    """Few layers, many channels, small maps."""
    layers = [conv(3, 64, 5, 4), nn.ReLU(), conv(64, 192), nn.ReLU(), nn.MaxPool2d(2), conv(192, 192), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), picture(96)


def residual() -> Made:
    """Basic blocks with skips."""
    stem = [conv(3, 24, 3, 2), nn.ReLU()]
    blocks = [Skip(conv(24, 24), nn.ReLU(), conv(24, 24)) for _ in range(3)]
    deeper = [conv(24, 48, 3, 2), *(Skip(conv(48, 48), nn.ReLU(), conv(48, 48)) for _ in range(3))]
    return nn.Sequential(*stem, *blocks, *deeper, nn.AdaptiveAvgPool2d(1)), picture(128)


def bottleneck() -> Made:
    """Skips over a narrow convolution between two of size 1."""
    blocks = [Skip(conv(96, 24, 1), nn.ReLU(), conv(24, 24), nn.ReLU(), conv(24, 96, 1)) for _ in range(5)]
    return nn.Sequential(conv(3, 96, 7, 4), nn.MaxPool2d(2), *blocks, nn.AdaptiveAvgPool2d(1)), picture(160)


def mobile() -> Made:
    """Depthwise and pointwise convolutions in turn."""
    layers: list[nn.Module] = [conv(3, 16, 3, 2), nn.ReLU()]
    for before, after, stride in ((16, 32, 1), (32, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1)):
        layers += [depthwise(before, stride), nn.ReLU(), conv(before, after, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), picture(128)


def inverted() -> Made:
    """Inverted residuals: widened, depthwise, narrowed, added."""
    blocks = [Skip(conv(16, 64, 1), nn.ReLU6(), depthwise(64), nn.ReLU6(), conv(64, 16, 1)) for _ in range(5)]
    return nn.Sequential(conv(3, 16, 3, 2), *blocks), picture(112)


def patches() -> Made:
    """Large depthwise kernels on patches, with smooth activations."""
    blocks = [nn.Sequential(Skip(depthwise(64, size=7), nn.GELU()), conv(64, 64, 1), nn.GELU()) for _ in range(4)]
    return nn.Sequential(nn.Conv2d(3, 64, 8, 8), nn.GELU(), *blocks), picture(192)


def fire() -> Made:
    """Squeeze, then expand on two branches that are joined."""

    def block(before: int, narrow: int, after: int) -> nn.Module:
        both = Branches(nn.Sequential(conv(narrow, after, 1), nn.ReLU()), nn.Sequential(conv(narrow, after), nn.ReLU()))
        return nn.Sequential(conv(before, narrow, 1), nn.ReLU(), both)

    layers = [conv(3, 32, 3, 2), nn.ReLU(), nn.MaxPool2d(2), block(32, 8, 32), block(64, 16, 32), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, block(64, 16, 64), block(128, 16, 64)), picture(160)


def inception() -> Made:
    """Branches of different reach, pooling among them."""

    def block(before: int, each: int) -> nn.Module:
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(before, each, 1))
        return Branches(conv(before, each, 1), nn.Sequential(conv(before, each, 1), conv(each, each)), pooled)

    layers = [conv(3, 32, 3, 2), nn.ReLU(), block(32, 32), nn.ReLU(), block(96, 32), nn.ReLU(), nn.MaxPool2d(2), block(96, 48)]
    return nn.Sequential(*layers), picture(96)


def dense() -> Made:
    """Each block's maps beside those before it, pooled between."""

    class Grow(nn.Module):
        def __init__(self, before: int) -> None:
            super().__init__()
            self.inner = conv(before, 16)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, functional.relu(self.inner(x))], 1)

    first, second = [Grow(16 + 16 * i) for i in range(4)], [Grow(80 + 16 * i) for i in range(4)]
    return nn.Sequential(conv(3, 16, 3, 2), *first, nn.AvgPool2d(2), *second), picture(128)


def normed() -> Made:
    """Normalisation in the graph, as where a network is not folded: five kinds of operations."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [conv(before, after, 3, stride), nn.BatchNorm2d(after), nn.ReLU(), depthwise(after), nn.BatchNorm2d(after)]

    layers = [*block(3, 24, 2), *block(24, 48, 2), *block(48, 64, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), picture(128)


MODELS: dict[str, Callable[[], Made]] = {
    each.__name__: each
    for each in (plain, wide, residual, bottleneck, mobile, inverted, patches, fire, inception, dense, normed)
}
