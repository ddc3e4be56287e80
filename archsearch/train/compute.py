"""What a job computes: multiply-adds of its convolutions and linear layers, forward and backward, the same on every machine.

A layer of m multiply-adds takes m forward, m more for the gradient by its weights and m for that by its input, as far as they
are wanted: a frozen weight has none, nor has what comes from the images or through a stop-gradient. Everything else in a step
(norms, pools, activations, the optimizer) is left out, as it is in the multiply-adds of an architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Counted:
    """Multiply-adds of the whole batch that went through while it was counted."""

    madds: int = 0


@contextmanager
def counting(*modules: nn.Module) -> Iterator[Counted]:
    """Count the multiply-adds of the training step whose forward pass runs inside, its backward pass included.

    Only calls of ``nn.Conv2d`` and ``nn.Linear`` (and what is derived from them) inside ``modules`` are seen; the output of
    each is taken to reach the loss. The backward pass need not run, or may run later.
    """
    counted = Counted()

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Any = module.weight
        wanted = torch.is_grad_enabled() * (weight.requires_grad + args[0].requires_grad)
        per_output = weight.numel() // weight.shape[0]
        counted.madds += output.numel() * per_output * (1 + wanted)

    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()
