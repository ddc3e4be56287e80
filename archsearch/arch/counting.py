"""What layers cost, from their shapes alone: the arithmetic under ``cost()`` and under a user's own operation.

The three figures are defined in `Cost`. All sizes are (height, width) of one image.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of one activation: float32.
BYTES = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network, or a part of it, costs.

    madds: multiply-accumulates of convolutions and linear layers for one image = half of what PyTorch's FLOP counter counts.
    params: number of trainable parameters (biases and batch norms included).
    activation_bytes: float32 bytes of the outputs of all layers (convolution, norm, ReLU, pool, linear; an identity has none)
        for one image; multiply by the batch size. It is 15 to 25 % above what a training step keeps for its backward pass,
        and about what TensorWatch calls ``inference_memory``.
    """

    madds: int = 0
    params: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.madds + other.madds, self.params + other.params, self.activation_bytes + other.activation_bytes)

    def __mul__(self, number: int) -> Cost:
        """That of so many equal parts."""
        return Cost(self.madds * number, self.params * number, self.activation_bytes * number)


def strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """The size after a layer with that stride: every operation of the cell space agrees on ceil(size / stride)."""
    return -(-size[0] // stride), -(-size[1] // stride)


def plain_cost(channels: int, size: tuple[int, int]) -> Cost:
    """A layer without weights, such as a ReLU or a pool, with that output."""
    return Cost(activation_bytes=BYTES * channels * size[0] * size[1])


def norm_cost(channels: int, size: tuple[int, int], affine: bool = True) -> Cost:
    """A batch norm: a scale and a shift per channel when affine."""
    return Cost(params=2 * channels if affine else 0) + plain_cost(channels, size)


def conv_cost(inputs: int, outputs: int, kernel: int, size: tuple[int, int], groups: int = 1) -> Cost:
    """A square convolution without bias; ``size`` is that of its output."""
    weights = outputs * (inputs // groups) * kernel * kernel
    return Cost(weights * size[0] * size[1], weights) + plain_cost(outputs, size)


def linear_cost(inputs: int, outputs: int) -> Cost:
    """A linear layer with bias on a vector."""
    return Cost(inputs * outputs, inputs * outputs + outputs) + plain_cost(outputs, (1, 1))
