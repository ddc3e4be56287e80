"""A training step recorded once and replayed: one launch for all of its small kernels.

The networks of a search are small: on a GPU a step takes as long as Python takes to start its few hundred kernels. A CUDA graph
starts them all at once. What is recorded works on fixed memory, so batches are copied there, and whatever changes from step to
step must lie in a tensor (the learning rate) or be drawn outside (augmentation). Written without a GPU at hand: its logic is
tested on a CPU with a recorder that replays operations on fixed memory, and nothing here has run on CUDA yet;
experiments/train_throughput measures it where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Steps run as usual before one is recorded: optimizer state is made in the first, and libraries choose their kernels.
EAGER = 3

Body = Callable[[], None]
Step = Callable[[Tensor, Tensor], Tensor]


def record_on_cuda(body: Body) -> Body:
    """Record what ``body`` starts on the current device, without running it; the answer runs it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay


#: How a step is recorded, by type of device; on others it is not.
RECORDERS: dict[str, Callable[[Body], Body]] = {"cuda": record_on_cuda}


class RecordedStep:
    """Runs ``step(x, y) -> loss`` a few times as usual, then records it and replays it. Every batch has the same shape.

    The loss is a tensor that the next call overwrites.
    """

    def __init__(self, step: Step, device: str) -> None:
        self._step = step
        self._record = RECORDERS[torch.device(device).type]
        cuda = torch.device(device).type == "cuda"
        self._side = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._ran = 0
        self._replay: Body | None = None
        self._x = self._y = self._loss = torch.empty(0)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self._ran < EAGER:
            self._ran += 1
            return self._aside(x, y)
        if self._replay is None:
            self._x, self._y = x.clone(), y.clone()
            self._replay = self._record(self._body)
        self._x.copy_(x)
        self._y.copy_(y)
        self._replay()
        return self._loss

    def _body(self) -> None:
        self._loss = self._step(self._x, self._y)

    def _aside(self, x: Tensor, y: Tensor) -> Tensor:
        """One step as usual, on a CUDA device beside the main stream, as what is to be recorded later has to be run first."""
        if self._side is None:
            return self._step(x, y)
        main = torch.cuda.current_stream()
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            loss = self._step(x, y)
        main.wait_stream(self._side)
        return loss
