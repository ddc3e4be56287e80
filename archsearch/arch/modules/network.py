"""The module of an architecture.

Parameter names are stable under growth: a cell that gains a node gains names and keeps all others, with their shapes.

    stem.*                                   3x3 convolutions and batch norms
    cells.K.preprocess0.*  .preprocess1.*    brings s0 and s1 to the cell's channels and resolution
    cells.K.nodes.I.SOURCE_OP.*              the operation of an edge of node I
    cells.K.projections.I.weight             node I's 1x1 projection (proj_channels only)
    cells.K.norm.*                           batch norm of the sum of the projections (proj_channels only)
    classifier.*   auxiliary.*
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archsearch.arch.description import STEMS, Architecture, Cell, Placed
from archsearch.arch.modules import layers
from archsearch.arch.modules.norm import BatchNorm2d
from archsearch.arch.operations import operation
from archsearch.arch.shapes import PlacedShape, Shape, trace
from archsearch.jobs import InputError

AUXILIARY_WIDTH = 128


class CellModule(nn.Module):
    """One placed cell. ``channels`` are those of every state and node; ``stride`` is 2 in a reduction."""

    def __init__(self, cell: Cell, placed: Placed, shape: PlacedShape) -> None:
        super().__init__()
        self.cell = cell
        self.name = placed.cell
        self.channels = shape.inner.channels
        self.stride = 2 if placed.reduction else 1
        self.residual = placed.residual
        self.drop_path = 0.0
        self.generator: torch.Generator | None = None
        if shape.s0.level < shape.s1.level:
            self.preprocess0: nn.Module = layers.FactorizedReduce(shape.s0.channels, self.channels)
        else:
            self.preprocess0 = layers.relu_conv_norm(shape.s0.channels, self.channels)
        self.preprocess1 = layers.relu_conv_norm(shape.s1.channels, self.channels)
        self.nodes = nn.ModuleList(
            nn.ModuleDict(
                {edge.key: operation(edge.op).build(self.channels, self.edge_stride(edge.source), True) for edge in node.edges}
            )
            for node in cell.nodes
        )
        self.projections = nn.ModuleList()
        self.norm: nn.Module | None = None
        if cell.post_op == "proj_channels":
            self.projections.extend(nn.Conv2d(self.channels, self.channels, 1, bias=False) for _ in cell.nodes)
            self.norm = BatchNorm2d(self.channels)

    def edge_stride(self, source: str) -> int:
        """The stride of an operation that reads this state: 2 on an input of a reduction cell, else 1."""
        return self.stride if source in ("s0", "s1") else 1

    def states(self, s0: Tensor, s1: Tensor) -> dict[str, Tensor]:
        """Every state by name, in the order of computation: "s0" and "s1" preprocessed, then each node "nI"."""
        states = {"s0": self.preprocess0(s0), "s1": self.preprocess1(s1)}
        for index in self.cell.order:
            modules = self.nodes[index]
            total: Tensor | None = None
            for edge in self.cell.nodes[index].edges:
                op = modules[edge.key]  # type: ignore[index]
                value = op(states[edge.source])
                if self.training and self.drop_path > 0.0 and not isinstance(op, nn.Identity):
                    value = layers.drop_path(value, self.drop_path, self.generator)
                total = value if total is None else total + value
            assert total is not None  # a node has at least one edge
            states[f"n{index}"] = total
        return states

    def join(self, states: dict[str, Tensor], addend: Tensor | None = None) -> Tensor:
        """The cell's output from its nodes. ``addend``, of a node's shape, joins the sum of projections before the batch norm.

        Projections are added in the order of the nodes' creation and the addend last: an addend of zero leaves every bit of the
        output as it is, and a grown node's projection takes the addend's place.

        Raises:
            InputError: an addend with ``concat_channels``, which has no sum to add it to.
        """
        nodes = [states[f"n{index}"] for index in range(len(self.cell.nodes))]
        if self.norm is None:
            if addend is not None:
                raise InputError("a cell with post_op concat_channels has no sum of projections to add to; use proj_channels")
            return torch.cat(nodes, dim=1) if len(nodes) > 1 else nodes[0]
        total = self.projections[0](nodes[0])
        for projection, node in zip(list(self.projections)[1:], nodes[1:], strict=True):
            total = total + projection(node)
        if addend is not None:
            total = total + addend
        output: Tensor = self.norm(total)
        return output

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        output = self.join(self.states(s0, s1))
        return output + s1 if self.residual else output


class Auxiliary(nn.Module):
    """A second classifier on an inner cell: ReLU, pool to at most 2x2, 1x1 convolution, batch norm, ReLU, linear."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        side = (min(2, shape.size[0]), min(2, shape.size[1]))
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(side),
            nn.Conv2d(shape.channels, AUXILIARY_WIDTH, 1, bias=False),
            nn.BatchNorm2d(AUXILIARY_WIDTH),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(AUXILIARY_WIDTH * side[0] * side[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.classifier(self.features(x).flatten(1))
        return output


class Network(nn.Module):
    """The network of ``arch``; made by `build`.

    ``forward`` takes images (N, C, H, W), floating point, and gives logits (N, classes); while training with an auxiliary
    tower it gives (logits, auxiliary logits).
    """

    def __init__(self, arch: Architecture, *, auxiliary: bool = False) -> None:
        super().__init__()
        shapes = trace(arch)
        self.arch = arch
        self.stem = layers.stem(arch.input[0], [shape.channels for shape in shapes.stem], 2 if STEMS[arch.stem] else 1)
        self.cells = nn.ModuleList(
            CellModule(arch.cells[placed.cell], placed, shape) for placed, shape in zip(arch.layout, shapes.cells, strict=True)
        )
        self.pool = nn.Sequential(nn.ReLU(), layers.GlobalPool())
        self.classifier = nn.Linear(shapes.cells[-1].out.channels, arch.classes)
        self.auxiliary_at = 2 * len(self.cells) // 3
        self.auxiliary = Auxiliary(shapes.cells[self.auxiliary_at].out, arch.classes) if auxiliary else None

    @property
    def drop_path(self) -> float:
        """The probability that an edge's output is dropped for an image while training; identities are never dropped."""
        return self._cell(0).drop_path

    @drop_path.setter
    def drop_path(self, probability: float) -> None:
        if not 0.0 <= probability < 1.0:
            raise InputError(f"drop_path must be at least 0 and below 1, not {probability}")
        for index in range(len(self.cells)):
            self._cell(index).drop_path = probability

    def use_generator(self, generator: torch.Generator | None) -> None:
        """Draw drop path's masks from this generator (on the network's device); None means torch's own."""
        for index in range(len(self.cells)):
            self._cell(index).generator = generator

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        outputs = [self.stem(x)]  # outputs[k + 1] is cell k's
        for placed, cell in zip(self.arch.layout, self.cells, strict=True):
            s0, s1 = (outputs[item + 1] for item in placed.inputs)
            outputs.append(cell(s0, s1))
        logits: Tensor = self.classifier(self.pool(outputs[-1]).flatten(1))
        if self.auxiliary is not None and self.training:
            return logits, self.auxiliary(outputs[self.auxiliary_at + 1])
        return logits

    def _cell(self, index: int) -> CellModule:
        cell = self.cells[index]
        assert isinstance(cell, CellModule)
        return cell


def build(arch: Architecture, *, drop_path: float = 0.0, auxiliary: bool = False, seed: int | None = None) -> Network:
    """The network of an architecture, freshly initialised.

    Args:
        drop_path: probability of dropping an edge's output for an image while training.
        auxiliary: add a second classifier at two thirds of the depth, used while training only.
        seed: initialise from this seed, leaving torch's own generator as it is; None draws from torch's own.
    """
    if seed is None:
        network = Network(arch, auxiliary=auxiliary)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = Network(arch, auxiliary=auxiliary)
    network.drop_path = drop_path
    return network
