"""Weights that go with growth: what a child takes from its parent, so that it starts at (node: near) its parent's function."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from archsearch.arch.description import Architecture, Edge
from archsearch.arch.growth import widen
from archsearch.arch.modules.network import CellModule, Network, build
from archsearch.jobs import InputError


def inherit(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy into the model every parameter and buffer of ``state`` with an equal name and shape.

    Returns:
        The names of the model's parameters and buffers that were left as they are, in the model's order.
    """
    left = []
    with torch.no_grad():
        for name, own in model.state_dict().items():
            given = state.get(name)
            if given is None or given.shape != own.shape:
                left.append(name)
            else:
                own.copy_(given)
    return left


def candidate_prefix(position: int, edge: Edge) -> str:
    """How the names of an edge's weights start, among the weak learner's, for the cell at that place."""
    return f"cells.{position}.candidates.{edge.key}."


def candidate_projection(position: int) -> str:
    """The name of the weak learner's projection (channels, channels, 1, 1) for the cell at that place."""
    return f"cells.{position}.candidates.projection.weight"


def grown_weights(
    model: Network,
    cell_names: list[str],
    *,
    candidates: Mapping[str, Tensor] | None = None,
    gammas: Mapping[str, Mapping[Edge, float]] | None = None,
    projection_scale: float = 1.0,
) -> None:
    """Set the weights of the newest node in every place of the named cells; call it after `inherit`.

    Args:
        candidates: the weak learner's tensors, named by `candidate_prefix` followed by the name in the operation's state (its
            batch norms have no scale and shift), and by `candidate_projection`. Those whose name and shape fit are copied.
        gammas: cell name -> edge -> the scale given to the operation's final batch norm, such as the weak learner's alpha; an
            operation without a batch norm (the identity) has no scale to set.
        projection_scale: the node's projection is multiplied by it; 0 leaves the parent's outputs as they are bit for bit.

    Raises:
        InputError: a cell is not part of the network or has no projections.
    """
    if unknown := set(cell_names) - set(model.arch.cells):
        raise InputError(f"no cell is called {sorted(unknown)[0]!r}; known: {', '.join(sorted(model.arch.cells))}")
    given = candidates or {}
    for position, cell in enumerate(model.cells):
        assert isinstance(cell, CellModule)
        if cell.name not in cell_names:
            continue
        if cell.norm is None:
            raise InputError(f"cell {cell.name!r} has no projections, so that it has not grown")
        newest = len(cell.cell.nodes) - 1
        for edge in cell.cell.nodes[newest].edges:
            op = cell.nodes[newest][edge.key]  # type: ignore[index]
            prefix = candidate_prefix(position, edge)
            inherit(op, {name.removeprefix(prefix): tensor for name, tensor in given.items() if name.startswith(prefix)})
            _set_gamma(op, (gammas or {}).get(cell.name, {}).get(edge))
        projection = cell.projections[newest]
        if (learned := given.get(candidate_projection(position))) is not None:
            inherit(projection, {"weight": learned})
        with torch.no_grad():
            for weight in projection.parameters():
                weight.mul_(projection_scale)


def widened_state(
    parent: Architecture, state: Mapping[str, Tensor], factor: int, *, spread: float = 0.25, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of ``widen(parent, factor)`` that compute the parent's function (Net2WiderNet, Chen et al. 2016).

    Channel j of the child is a copy of channel j // factor; who reads a channel splits its weight among the copies. With
    equal shares the copies would receive equal gradients for ever, so the shares differ by up to ``spread`` (0 to below 1),
    drawn from ``seed``; they add up to one, so that the function stays.

    Raises:
        InputError: the weights are not those of the parent, or an operation's own weights do not grow with its channels.
    """
    if not 0 <= spread < 1:
        raise InputError(f"spread must be at least 0 and below 1, not {spread}")
    with torch.device("meta"):
        child = build(widen(parent, factor), auxiliary=any(name.startswith("auxiliary.") for name in state))
    generator = torch.Generator().manual_seed(seed)
    widened = {}
    for name, wanted in child.state_dict().items():
        if name not in state:
            raise InputError(f"the parent's weights lack {name!r}: they belong to another architecture")
        value = _widened(state[name], wanted.shape, factor, spread, generator)
        if value.shape != wanted.shape:
            raise InputError(
                f"{name}: a weight of shape {tuple(state[name].shape)} cannot be widened by {factor} to {tuple(wanted.shape)}: "
                "the weights belong to another architecture, or the operation's do not grow with its channels"
            )
        widened[name] = value
    return widened


def deepened_state(parent: Architecture, state: Mapping[str, Tensor], position: int) -> dict[str, Tensor]:
    """Weights of ``deepen(parent, position)`` that compute the parent's function bit for bit, once inherited.

    The cells after the place move up by one; the new cell's final batch norm has a scale and a shift of zero, so that it adds
    nothing yet; its other weights are not there and stay as initialised.

    Raises:
        InputError: the weights are not those of the parent.
    """
    norm = f"cells.{position}.norm.weight"
    if not any(name.startswith(f"cells.{len(parent.layout) - 1}.") for name in state) or norm not in state:
        raise InputError(f"the parent's weights lack {norm!r}: they belong to another architecture")
    moved = {}
    for name, tensor in state.items():
        head, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        later = head == "cells" and int(number) > position
        moved[f"cells.{int(number) + 1}.{tail}" if later else name] = tensor
    for part in ("weight", "bias"):
        moved[f"cells.{position + 1}.norm.{part}"] = torch.zeros_like(state[norm])
    return moved


def _widened(value: Tensor, wanted: torch.Size, factor: int, spread: float, generator: torch.Generator) -> Tensor:
    """The tensor with each axis that must grow repeated; along axis 1, the inputs of a weight, in shares that sum to one."""
    if value.dim() > 0 and value.dim() == len(wanted) and wanted[0] != value.shape[0]:
        value = value.repeat_interleave(factor, dim=0)
    if value.dim() > 1 and value.dim() == len(wanted) and wanted[1] != value.shape[1]:
        shares = 1 + spread * (2 * torch.rand((*value.shape[:2], factor), generator=generator, dtype=torch.float64) - 1)
        shares = (shares / shares.sum(dim=2, keepdim=True)).flatten(1)
        shares = shares.reshape(*shares.shape, *(1 for _ in value.shape[2:]))
        value = value.repeat_interleave(factor, dim=1) * shares.to(value)
    return value


def _set_gamma(op: nn.Module, gamma: float | None) -> None:
    norms = [module for module in op.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    if gamma is not None and norms:
        nn.init.constant_(norms[-1].weight, gamma)
