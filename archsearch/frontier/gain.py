"""How much hypervolume a point would add, for many points at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from archsearch.frontier.checks import Floats, matrix, vector
from archsearch.frontier.pareto import front_of_two
from archsearch.jobs import InputError


def hypervolume_gains(points: ArrayLike, new: ArrayLike, reference: ArrayLike) -> Floats:
    """What each new point alone would add to ``hypervolume(points, reference)``; two objectives, both minimised.

    Args:
        points: (n, 2) cost and error of what there is; need not be a front, and may be empty.
        new: (m, 2).
        reference: (2,).

    Returns:
        (m,) at least 0; 0 for a point that is dominated or does not beat the reference.

    Raises:
        InputError: a value that is not finite, or not two objectives.
    """
    have, wanted, bound = matrix(points, "points"), matrix(new, "new"), vector(reference, "reference")
    if len(bound) != 2 or any(len(each) and each.shape[1] != 2 for each in (have, wanted)):
        raise InputError(
            f"points, new and reference have {have.shape}, {wanted.shape} and {bound.shape}; expected two objectives"
        )
    front = have[front_of_two(have[:, 0], have[:, 1])] if len(have) else np.empty((0, 2))
    # The staircase above which everything is dominated: height error[i] from left[i] to left[i + 1].
    left = np.concatenate(([-np.inf], front[:, 0]))
    right = np.minimum(np.concatenate((front[:, 0], [np.inf])), bound[0])
    height = np.minimum(np.concatenate(([np.inf], front[:, 1])), bound[1])
    cost, error = wanted.reshape(-1, 2).T[:, :, None]
    widths = np.maximum(right - np.maximum(left, cost), 0.0)
    gains: Floats = (widths * np.maximum(height - error, 0.0)).sum(axis=1)
    return gains
