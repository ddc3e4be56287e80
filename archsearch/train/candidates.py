"""Every candidate shortcut of a parent at once, attached so that the parent does not notice.

In each cell one new node is formed from every allowed input by every primitive. An input is read through a stop-gradient
(identity forward, no gradient back into the parent's features). The sum of the candidates, weighted by the alphas, goes
through a stop-forward (zero forward, the gradient passes) and then through the new node's own 1x1 projection, which is added
to those of the other nodes. So the grown network computes the parent's function and gives the parent's parameters the
gradients that they would get anyhow, while alphas and candidates get the gradient of the loss by the new node's output.

Source: Hu et al., "Efficient Forward Architecture Search" (arXiv 1905.13360), section 4.1 and figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archsearch.arch import Edge, growth_inputs
from archsearch.arch.build import CellModule, Network
from archsearch.arch.operations import operation
from archsearch.jobs import derive_seed


class StopForward(torch.autograd.Function):
    """``stop_forward(sum_i alphas[i] * values[i])`` in one step: zeros forward, whatever comes in (x - x would let inf and NaN
    through), and backward the gradients of the sum, those of each value and alpha by themselves.

    Takes ``alphas`` of shape ``(P,)`` and P values of one shape. The sum itself is never formed, since nobody needs it.
    """

    @staticmethod
    def forward(ctx: Any, alphas: Tensor, *values: Tensor) -> Tensor:
        ctx.save_for_backward(alphas, *values)
        return torch.zeros_like(values[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        alphas, *values = ctx.saved_tensors
        flat = _flat(gradient)
        by_alpha = torch.stack([torch.dot(flat, _flat(value)) for value in values]) if ctx.needs_input_grad[0] else None
        wanted = zip(alphas.unbind(), ctx.needs_input_grad[1:], strict=True)
        return by_alpha, *(alpha * gradient if needed else None for alpha, needed in wanted)


def _flat(x: Tensor) -> Tensor:
    """A vector of the elements in channels-last order: a view where that is how they lie."""
    return x.permute(0, 2, 3, 1).reshape(-1)


class CandidateCell(nn.Module):
    """The candidates in one placed cell. ``projection`` is the new node's; it stays as it was initialised, since trained it
    would evade the penalty on the alphas."""

    def __init__(self, cell: CellModule, edges: Sequence[Edge], seed: int, position: int) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.ops = nn.ModuleDict()
        for edge in edges:
            torch.default_generator.manual_seed(derive_seed(seed, "candidate", position, edge.key))
            self.ops[edge.key] = operation(edge.op).build(cell.channels, cell.edge_stride(edge.source), False)
        torch.default_generator.manual_seed(derive_seed(seed, "projection", position))
        self.projection = nn.Conv2d(cell.channels, cell.channels, 1, bias=False).requires_grad_(False)

    def forward(self, states: dict[str, Tensor], alphas: Tensor) -> Tensor:
        """The addend of ``CellModule.join``: zeros, of a node's shape."""
        sources = {source: states[source].detach() for source in dict.fromkeys(edge.source for edge in self.edges)}
        values = [self.ops[edge.key](sources[edge.source]) for edge in self.edges]
        node = StopForward.apply(alphas, *values)  # type: ignore[no-untyped-call]
        addend: Tensor = self.projection(node)
        return addend


class Candidates(nn.Module):
    """The candidates of a network. Cells of one name share their alphas: ``alphas[name][i]`` weighs ``edges[name][i]``."""

    def __init__(self, parent: Network, primitives: Sequence[str], seed: int) -> None:
        super().__init__()
        arch = parent.arch
        self.edges = {
            name: [Edge(source, op) for source in growth_inputs(arch, name) for op in primitives if op != "none"]
            for name in dict.fromkeys(placed.cell for placed in arch.layout)
        }
        self.alphas = nn.ParameterDict()
        with torch.random.fork_rng(devices=[]):
            for name, edges in self.edges.items():
                keys = [derive_seed(seed, "alpha", name, edge.key) for edge in edges]
                starts = [torch.empty(1).uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(key)) for key in keys]
                self.alphas[name] = nn.Parameter(torch.cat(starts))
            self.places = [
                (placed.cell, CandidateCell(cell, self.edges[placed.cell], seed, position))
                for position, (placed, cell) in enumerate(zip(arch.layout, cells_of(parent), strict=True))
            ]
        self.cells = nn.ModuleList(cell for _, cell in self.places)
        self.norms = [module for module in self.cells.modules() if isinstance(module, nn.BatchNorm2d)]

    def forward(self, parent: Network, x: Tensor) -> Tensor:
        """Logits of the parent with its candidates attached: bit for bit those of the parent alone."""
        outputs = [parent.stem(x)]
        for placed, cell, (name, extra) in zip(parent.arch.layout, cells_of(parent), self.places, strict=True):
            s0, s1 = (outputs[item + 1] for item in placed.inputs)
            states = cell.states(s0, s1)
            output = cell.join(states, extra(states, self.alphas[name]))
            outputs.append(output + s1 if cell.residual else output)
        logits: Tensor = parent.classifier(parent.pool(outputs[-1]).flatten(1))
        return logits

    def follow(self, step: int) -> None:
        """Let the running statistics follow the candidates: a plain mean over the first steps, then a moving average.

        A moving average from the start would still lean on its arbitrary first value when a short task ends.
        """
        for norm in self.norms:
            norm.momentum = max(0.2, 1 / (step + 1))

    def weights(self) -> list[list[nn.Parameter]]:
        """The weights of each candidate in all the cells of its name, in the order of ``pairs()``; none for a pool."""
        return [
            [weight for placed_name, cell in self.places if placed_name == name for weight in cell.ops[edge.key].parameters()]
            for name, edge in self.pairs()
        ]

    def pairs(self) -> list[tuple[str, Edge]]:
        """Every candidate as (cell name, edge): cells in the order of the layout, edges in that of inputs, then primitives."""
        return [(name, edge) for name, edges in self.edges.items() for edge in edges]


def cells_of(network: Network) -> list[CellModule]:
    """The cells of a network, in the order of the layout."""
    return [cell for cell in network.cells if isinstance(cell, CellModule)]
