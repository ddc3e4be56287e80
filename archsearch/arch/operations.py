"""The operations on the edges of a cell: the eight primitives, and those that users register.

An operation takes a map of ``channels`` channels and gives one of as many; with stride 2 each side becomes ceil(side / 2). It
is two functions: ``cost`` says what it costs without building it, ``build`` makes the module. Only ``build`` may import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from archsearch.arch.counting import Cost, conv_cost, norm_cost, plain_cost, strided
from archsearch.jobs import InputError
from archsearch.registry import OPERATIONS

if TYPE_CHECKING:
    from torch import nn

#: The primitives of the Petridish cell space, in the order that breaks ties.
PRIMITIVES = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "none",
)

#: ``cost(channels, stride, size, affine) -> Cost``; ``size`` is the (height, width) of the input.
CostOf = Callable[[int, int, tuple[int, int], bool], Cost]
#: ``build(channels, stride, affine) -> nn.Module``; ``affine`` says whether its batch norms scale and shift.
BuildOf = Callable[[int, int, bool], "nn.Module"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. An installed package may name an instance in the entry point group ``archsearch.operation``."""

    name: str
    cost: CostOf
    build: BuildOf


def register_operation(name: str, *, cost: CostOf, build: BuildOf) -> Operation:
    """Make an operation known by name to descriptions, ``cost()``, ``build()`` and the candidates of a growth.

    ``cost(channels, stride, size, affine)`` returns a `Cost` for an input of ``size`` (height, width). ``build(channels,
    stride, affine)`` returns a module from (N, channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride)).

    Raises:
        InputError: the name cannot be used as a part of a parameter's name.
        ValueError: the name is taken.
    """
    if not (name.isidentifier() and name.isascii()):
        raise InputError(f"the operation name {name!r} must be letters, digits and underscores, not starting with a digit")
    operation: Operation = OPERATIONS.register(name)(Operation(name, cost, build))
    return operation


def operation(name: str) -> Operation:
    """The operation of that name.

    Raises:
        InputError: no such operation; the text lists the nearest and the known ones.
    """
    found: Operation = OPERATIONS.get(name)
    return found


def operation_names() -> tuple[str, ...]:
    """Every known operation: the primitives in their order, then the users' own by name."""
    return PRIMITIVES + tuple(name for name in OPERATIONS if name not in PRIMITIVES)


# ------------------------------------------------------------------------------------------------------------ primitives
def _pool_cost(channels: int, stride: int, size: tuple[int, int], affine: bool) -> Cost:
    out = strided(size, stride)
    return plain_cost(channels, out) + norm_cost(channels, out, affine)


def reduce_cost(inputs: int, outputs: int, size: tuple[int, int], affine: bool = True) -> Cost:
    """A factorised reduce: two 1x1 convolutions of stride 2 side by side, the second shifted by one pixel."""
    out, half = strided(size, 2), outputs // 2
    convs = conv_cost(inputs, half, 1, out) + conv_cost(inputs, outputs - half, 1, out)
    return plain_cost(inputs, size) + convs + norm_cost(outputs, out, affine)


def _skip_cost(channels: int, stride: int, size: tuple[int, int], affine: bool) -> Cost:
    return Cost() if stride == 1 else reduce_cost(channels, channels, size, affine)


def _depthwise_cost(kernel: int, repeats: int, channels: int, stride: int, size: tuple[int, int], affine: bool) -> Cost:
    total = Cost()
    for step in (stride, 1)[:repeats]:
        out = strided(size, step)
        total += plain_cost(channels, size) + conv_cost(channels, channels, kernel, out, groups=channels)
        total += conv_cost(channels, channels, 1, out) + norm_cost(channels, out, affine)
        size = out
    return total


def _none_cost(channels: int, stride: int, size: tuple[int, int], affine: bool) -> Cost:
    return plain_cost(channels, strided(size, stride))


def _pool(kind: str, channels: int, stride: int, affine: bool) -> nn.Module:
    from archsearch.arch.modules import layers

    return layers.pool(kind, channels, stride, affine)


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    from archsearch.arch.modules import layers

    return layers.skip(channels, stride, affine)


def _sep_conv(kernel: int, channels: int, stride: int, affine: bool) -> nn.Module:
    from archsearch.arch.modules import layers

    return layers.sep_conv(kernel, channels, stride, affine)


def _dil_conv(kernel: int, channels: int, stride: int, affine: bool) -> nn.Module:
    from archsearch.arch.modules import layers

    return layers.dil_conv(kernel, channels, stride, affine)


def _none(channels: int, stride: int, affine: bool) -> nn.Module:
    from archsearch.arch.modules import layers

    return layers.Zero(stride)


register_operation("max_pool_3x3", cost=_pool_cost, build=partial(_pool, "max"))
register_operation("avg_pool_3x3", cost=_pool_cost, build=partial(_pool, "avg"))
register_operation("skip_connect", cost=_skip_cost, build=_skip)
register_operation("sep_conv_3x3", cost=partial(_depthwise_cost, 3, 2), build=partial(_sep_conv, 3))
register_operation("sep_conv_5x5", cost=partial(_depthwise_cost, 5, 2), build=partial(_sep_conv, 5))
register_operation("dil_conv_3x3", cost=partial(_depthwise_cost, 3, 1), build=partial(_dil_conv, 3))
register_operation("dil_conv_5x5", cost=partial(_depthwise_cost, 5, 1), build=partial(_dil_conv, 5))
register_operation("none", cost=_none_cost, build=_none)
