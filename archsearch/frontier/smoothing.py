"""Sums of a product kernel over very many points, by a grid: binned, smoothed axis by axis, and read off between its nodes.

Each point's weight goes to the nodes around it (linear binning, "cloud in cell"), the kernel is applied to the grid as one
matrix product an axis, and the sum at a point is interpolated linearly. All three keep order: where the kernel rises, so do
the sums, from node to node and between them. A higher order would be nearer and would lose that.

The error at a place x with cells of width d is about d^2/8 times the slope of the smoothed density there, for binning and for
reading each. So the nodes are not evenly spaced: they stand in proportion to the square root of the density, which evens the
error out, and a far outlier costs no precision where the points are (M. P. Wand, "Fast computation of multivariate kernel
estimators", 1994, has linear binning on even grids).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.frontier.checks import Floats
from archsearch.frontier.normal import normal_cdf

#: Steps per bandwidth of the lattice on which densities are estimated.
_FINE = 8


def smoothed_at_points(places: Sequence[NDArray[Any]], side: int) -> Floats:
    """For each point i the sum over all points j of the product over axes of Phi(place_i - place_j), itself included.

    Args:
        places: of each axis (n,) places in units of the kernel's bandwidth.
        side: nodes along each axis.

    Returns:
        (n,) sums, which never fall where a place rises, but for rounding.
    """
    axes = [np.asarray(place, dtype=np.float64) for place in places]
    nodes = [_nodes(place, side) for place in axes]
    cells, shares = zip(*(_cells(place, at) for place, at in zip(axes, nodes, strict=True)), strict=True)
    shape = (side,) * len(axes)
    corners = list(product((0, 1), repeat=len(axes)))
    first = np.ravel_multi_index(cells, shape)
    steps = [int(np.ravel_multi_index(corner, shape)) for corner in corners]
    weights = [_weight(shares, corner) for corner in corners]
    grid: Floats = np.zeros(side ** len(axes))
    for step, weight in zip(steps, weights, strict=True):
        grid += np.bincount(first + step, weight, minlength=grid.size)
    grid = grid.reshape(shape)
    for axis, at in enumerate(nodes):
        grid = np.moveaxis(np.tensordot(normal_cdf(at[:, None] - at), grid, axes=(1, axis)), 0, axis)
    for axis in range(len(axes)):
        grid = np.maximum.accumulate(grid, axis=axis)  # what rounding may have turned round
    flat = np.ascontiguousarray(grid).ravel()
    sums: Floats = sum(weight * flat[first + step] for step, weight in zip(steps, weights, strict=True))
    return sums


def _nodes(places: Floats, count: int) -> Floats:
    """Rising nodes from the smallest to beyond the largest place, as many per step as the root of the smoothed density says."""
    low = float(places.min())
    counts = np.bincount(((places - low) * _FINE).astype(np.intp))
    taps = np.exp(-0.5 * (np.arange(-4 * _FINE, 4 * _FINE + 1) / _FINE) ** 2)
    wanted = np.sqrt(np.convolve(counts, taps)[4 * _FINE : -4 * _FINE])
    wanted += 1e-3 * wanted.mean()  # no step without any: nodes rise strictly
    edges = low + np.arange(len(wanted) + 1) / _FINE
    total = np.concatenate(([0.0], np.cumsum(wanted)))
    nodes: Floats = np.interp(np.linspace(0.0, total[-1], count), total, edges)
    return nodes


def _cells(places: Floats, nodes: Floats) -> tuple[NDArray[np.intp], Floats]:
    """The node before each place, and where between it and the next the place lies, from 0 to 1."""
    cell = np.clip(np.searchsorted(nodes, places, side="right") - 1, 0, len(nodes) - 2)
    share = (places - nodes[cell]) / (nodes[cell + 1] - nodes[cell])
    return cell, np.clip(share, 0.0, 1.0)


def _weight(shares: Sequence[Floats], corner: Sequence[int]) -> Floats:
    weight: Floats = np.ones(1)
    for share, upper in zip(shares, corner, strict=True):
        weight = weight * (share if upper else 1.0 - share)
    return weight
