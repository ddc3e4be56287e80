"""Means over seeds and how far they may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Level of every interval over seeds.
CONFIDENCE = 0.95


def student(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float | None]:
    """Mean, and half the width of its two-sided confidence interval by Student's t with n - 1 degrees of freedom.

    Source: Student, "The probable error of a mean", Biometrika 6(1), 1908. It holds for values that scatter normally around
    the mean, and says nothing of the finite data set that all of them were measured on. None as half width of one value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 0.5 + confidence / 2))
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
