"""Networks of one architecture trained as one batch: their weights are stacked, and each operation runs for all at once.

Under ``torch.func.vmap`` a convolution of K networks becomes one with K times as many groups, and a batch norm one over K times
as many channels. Each network has its own batches, and ends where it would have ended alone, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F


class Packed:
    """K networks that differ in their weights alone, and SGD with Nesterov momentum for all of them.

    Args:
        models: on the device that they are trained on, in training mode.
        grad_clip: largest norm of each network's own gradient; 0: not clipped.
        bf16: bfloat16 autocast on CUDA.
    """

    def __init__(
        self, models: Sequence[nn.Module], *, momentum: float, weight_decay: float, grad_clip: float, bf16: bool = False
    ) -> None:
        self._skeleton = models[0]
        self._clip, self._bf16 = grad_clip, bf16
        self.parameters, self.buffers = stack_module_state(list(models))
        device = next(iter(self.parameters.values())).device
        self.rate = torch.zeros((), device=device)  # a tensor, so that a recorded step reads the new one
        self._optimizer = torch.optim.SGD(
            self.parameters.values(), lr=self.rate, momentum=momentum, weight_decay=weight_decay, nesterov=True, fused=True
        )
        self._losses = vmap(self._loss)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One step on images ``(K, N, C, H, W)`` and labels ``(K, N)``; the K losses, before it."""
        for parameter in self.parameters.values():
            parameter.grad = None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            losses = self._losses(self.parameters, self.buffers, x, y)
        losses.sum().backward()  # no network's loss depends on another's weights
        if self._clip:
            self._clip_each()
        self._optimizer.step()
        return losses.detach()

    def write_back(self, models: Sequence[nn.Module]) -> None:
        """Give each network its weights and statistics."""
        state = {**self.parameters, **self.buffers}
        for index, model in enumerate(models):
            model.load_state_dict({name: tensor[index] for name, tensor in state.items()})

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(self._skeleton, (parameters, buffers), (x,)), y)

    def _clip_each(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients])
        factor = (self._clip / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
